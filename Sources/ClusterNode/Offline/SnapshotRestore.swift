import Engine
import Keyspace
import StateMachine
import Storage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Makes a new member's data directory out of a snapshot file: a new cluster with the old one's keys and leases. Done on
/// each of its first members with the same file, token and list of members, it makes the same state everywhere, from which
/// they begin together.
///
/// All is written to `<data-dir>.restoring` beside the place where it belongs, synced, and renamed. A crash at any point
/// before the rename leaves that folder and no data directory, so no member can start from half a state; one after it
/// leaves the finished directory.
package struct SnapshotRestore {
  /// Above what a cluster writes between a snapshot and its loss.
  package static let defaultRevisionBump: Int64 = 1_000_000_000
  private static let commitAfterBytes = 64 << 20
  /// Nobody else waits for the state here.
  private static let compactedKeysPerStep = 100_000

  package struct Outcome: Hashable, Sendable {
    package var identity: MemberIdentity
    package var revision: Int64
    package var keyCount: Int
    package var leaseCount: Int
  }

  private let file: SnapshotFile
  private let configuration: NodeConfiguration
  private let revisionBump: Int64

  /// - Parameters:
  ///   - configuration: the new member's: its name, data directory and initial cluster, which it is among.
  ///   - revisionBump: by how much the revision moves on, so that clients which have seen revisions beyond the
  ///     snapshot's never see one of them twice with another content; all history before it counts as compacted. 0: not
  ///     at all.
  package init(_ file: SnapshotFile, configuration: NodeConfiguration, revisionBump: Int64 = defaultRevisionBump) {
    self.file = file
    self.configuration = configuration
    self.revisionBump = revisionBump
  }

  package func run() throws(OfflineFailure) -> Outcome {
    let target = Paths.withoutTrailingSlashes(configuration.dataDirectory)
    let place = target + ".restoring"
    try Self.checkIsFree(target)
    guard !Paths.exists(place) else {
      throw OfflineFailure("\(place) exists: left by a restore that did not come to its end; remove it and try again")
    }
    do throws(OfflineFailure) {
      let outcome = try fill(place)
      try Self.move(place, to: target)
      return outcome
    } catch {
      throw Self.clear(place, after: error)
    }
  }

  private func fill(_ place: String) throws(OfflineFailure) -> Outcome {
    try OfflineFailure.wrap { () throws(DiskFailure) in try POSIXDisk().createDirectory(place) }
    let directory = try OfflineFailure.wrap { () throws(StorageError) in try DataDirectory.open(path: place) }
    defer { directory.close() }
    let identity = configuration.newIdentity
    try OfflineFailure.wrap { () throws(StorageError) in try directory.establish(identity) }
    // Nothing needs to be durable before the end, where the environment is synced as a whole.
    let (engine, _) = try OfflineFailure.wrap { () throws(StorageError) in
      try StateEngine.open(directory: directory.statePath, options: EngineOptions(unsafeNoSync: true))
    }
    defer { engine.close() }
    var machine = try file.read(recordingChanges: true) { (machine) throws(OfflineFailure) in
      if machine.uncommittedBytes >= Self.commitAfterBytes { try commit(&machine, to: engine) }
    }
    if revisionBump > 0, !machine.bumpRevision(by: revisionBump) {
      throw OfflineFailure("--bump-revision \(revisionBump) leads beyond the largest revision there is")
    }
    machine.beginCluster(configuration.initialCluster.clusterState)
    while machine.advanceCompaction(maxKeys: Self.compactedKeysPerStep) {
      if machine.uncommittedBytes >= Self.commitAfterBytes { try commit(&machine, to: engine) }
    }
    try commit(&machine, to: engine)
    try OfflineFailure.wrap { () throws(StorageError) in try engine.sync() }
    return Outcome(
      identity: identity, revision: machine.keyspace.revision, keyCount: machine.keyspace.keyCount,
      leaseCount: machine.leases.count)
  }

  private func commit(_ machine: inout StateMachine, to engine: StateEngine) throws(OfflineFailure) {
    let changes = machine.cut()
    let commit = try OfflineFailure.wrap { () throws(StorageError) in try engine.commit(changes) }
    _ = machine.rebase(onto: commit.archive, below: commit.belowOrdinal, archivedBytes: commit.archivedBytes)
  }

  // MARK: The directory

  /// As etcdutl: the data directory must not exist, or be empty.
  private static func checkIsFree(_ path: String) throws(OfflineFailure) {
    guard Paths.exists(path) else { return }
    let names = try OfflineFailure.wrap { () throws(DiskFailure) in try POSIXDisk().list(path) }
    guard names.isEmpty else { throw OfflineFailure("data directory \(path) is not empty: a restore makes a new one") }
  }

  private static func move(_ place: String, to target: String) throws(OfflineFailure) {
    try OfflineFailure.wrap { () throws(DiskFailure) in
      let disk = POSIXDisk()
      for folder in ["\(place)/member/state", "\(place)/member", place] { try disk.syncDirectory(folder) }
      // Takes the place of an empty directory, too.
      try disk.rename(place, to: target)
      try disk.syncDirectory(Paths.parent(of: target))
    }
  }

  /// Removes what was made, and says so where that fails as well.
  private static func clear(_ place: String, after failure: OfflineFailure) -> OfflineFailure {
    do throws(DiskFailure) {
      try removeTree(place)
      return failure
    } catch {
      return OfflineFailure("\(failure); and \(place) is left behind: \(error)")
    }
  }

  private static func removeTree(_ path: String) throws(DiskFailure) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    if status.st_mode & S_IFMT == S_IFDIR {
      for name in try POSIXDisk().list(path) { try removeTree("\(path)/\(name)") }
      if rmdir(path) != 0 { throw DiskFailure(operation: "remove", path: path, code: errno) }
    } else {
      try POSIXDisk().remove(path)
    }
  }
}
