import CLMDB
import Storage

/// The files of `<member>/state`, and how a new environment takes the place of the old one.
struct StateFiles {
  let directory: String
  let unsafeNoSync: Bool
  private let disk = POSIXDisk()

  init(directory: String, unsafeNoSync: Bool) {
    self.directory = directory
    self.unsafeNoSync = unsafeNoSync
  }

  var path: String { "\(directory)/\(StateFormat.fileName)" }
  var nextPath: String { "\(directory)/\(StateFormat.nextFileName)" }

  func prepare() throws(StorageError) {
    try attempt { () throws(DiskFailure) in
      try disk.createDirectory(directory)
      if !unsafeNoSync { try disk.syncDirectory(Paths.parent(of: directory)) }
    }
  }

  func hasState() throws(StorageError) -> Bool {
    try attempt { () throws(DiskFailure) in try disk.list(directory).contains(StateFormat.fileName) }
  }

  /// Removes what an unfinished environment has left.
  func removeNext() throws(StorageError) {
    try attempt { () throws(DiskFailure) in
      let names = [StateFormat.nextFileName, StateFormat.nextFileName + StateFormat.lockSuffix]
      for name in try disk.list(directory) where names.contains(name) { try disk.remove("\(directory)/\(name)") }
    }
  }

  /// Syncs the complete environment at `nextPath` and gives it its name. A file that it replaces lives on without a name
  /// for as long as archives read it.
  ///
  /// The lock files hold nothing across a start (LMDB makes them anew when nobody has them open), so it does not matter
  /// that a crash between the two renames leaves the wrong one.
  func install(_ next: Environment) throws(StorageError) {
    if !unsafeNoSync {
      do { try next.beginSyncing() } catch { throw next.storageError(error) }
    }
    try attempt { () throws(DiskFailure) in
      try disk.rename(nextPath + StateFormat.lockSuffix, to: path + StateFormat.lockSuffix)
      try disk.rename(nextPath, to: path)
      if !unsafeNoSync { try disk.syncDirectory(directory) }
    }
  }

  private func attempt<R>(_ body: () throws(DiskFailure) -> R) throws(StorageError) -> R {
    do { return try body() } catch { throw .io(error) }
  }
}
