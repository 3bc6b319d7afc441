import CLMDB
import Storage

/// The files of `<member>/state`, and how a new environment takes the place of the old one.
struct StateFiles: Sendable {
  let directory: String
  let unsafeNoSync: Bool
  private let disk = POSIXDisk()

  init(directory: String, unsafeNoSync: Bool) {
    self.directory = directory
    self.unsafeNoSync = unsafeNoSync
  }

  var path: String { path(of: StateFormat.fileName) }
  var nextPath: String { path(of: StateFormat.nextFileName) }

  func path(of name: String) -> String { "\(directory)/\(name)" }

  func prepare() throws(StorageError) {
    try attempt { () throws(DiskFailure) in
      try disk.createDirectory(directory)
      if !unsafeNoSync { try disk.syncDirectory(Paths.parent(of: directory)) }
    }
  }

  func hasState() throws(StorageError) -> Bool {
    try attempt { () throws(DiskFailure) in try disk.list(directory).contains(StateFormat.fileName) }
  }

  /// Removes what unfinished environments have left.
  func removeLeftovers() throws(StorageError) {
    try remove { $0.hasPrefix(StateFormat.nextFileName) || $0.hasPrefix(StateFormat.receivedFilePrefix) }
  }

  /// Removes an environment that has not become the state, as far as it is there.
  func remove(_ name: String) throws(StorageError) {
    try remove { $0 == name || $0 == name + StateFormat.lockSuffix }
  }

  private func remove(_ isMeant: (String) -> Bool) throws(StorageError) {
    try attempt { () throws(DiskFailure) in
      for name in try disk.list(directory) where isMeant(name) { try disk.remove(path(of: name)) }
    }
  }

  /// Syncs the complete environment under `name` and makes it the state. A file that it replaces lives on without a name
  /// for as long as archives read it.
  ///
  /// The lock files hold nothing across a start (LMDB makes them anew when nobody has them open), so it does not matter
  /// that a crash between the two renames leaves the wrong one.
  func install(_ next: Environment, from name: String) throws(StorageError) {
    if !unsafeNoSync {
      do { try next.beginSyncing() } catch { throw next.storageError(error) }
    }
    try attempt { () throws(DiskFailure) in
      try disk.rename(path(of: name) + StateFormat.lockSuffix, to: path + StateFormat.lockSuffix)
      try disk.rename(path(of: name), to: path)
      if !unsafeNoSync { try disk.syncDirectory(directory) }
    }
  }

  private func attempt<R>(_ body: () throws(DiskFailure) -> R) throws(StorageError) -> R {
    do { return try body() } catch { throw .io(error) }
  }
}
