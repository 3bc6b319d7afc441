import CLMDB
import Primitives
import StateMachine
import Storage
import Synchronization

// A state that a leader has sent takes the place of ours: it is read from a file into an environment of its own beside
// the living one, which goes on meanwhile, and then gets its name.
//
// What a crash leaves behind:
//
//     while `received-N.mdb` is being written       the old state; the next start removes `received-N.mdb`
//     after it was synced, before the rename        the same
//     after the rename, before the directory was    the old state under the name or the new one, both complete
//     synced
//     after that                                    the new state
//
// The log ends behind the old state or, once it was begun anew, behind the new one. It may be begun anew only after
// `install` has returned: then either state finds the log that it needs, the new one also an old log, of which it needs
// nothing.

/// A complete state that waits for its place. It is given away with `StateEngine.install` or `StateEngine.discard`.
package struct PreparedState: Sendable {
  let living: StateEngine.Living
  let name: String

  /// Its last entry, term, members and so on.
  package let head: StateHead
}

extension StateEngine {
  private static let pieceBytes = 1 << 20

  /// Reads the state in a file that `StateSnapshotWriter` has written. May take seconds and runs on any thread, beside
  /// commits: in memory are the keys and leases, and of the values no more than `Limits.commitAfterBytes`.
  ///
  /// Throws `.corruptSnapshot` for a file that is damaged, `.io` with `isOutOfSpace` when there is no space for both states;
  /// nothing is left behind then.
  /// - Returns: what `install` takes, and the state itself, which notes its changes and reads its values from there.
  package func prepareReplacement(
    fromSnapshotAt path: String
  ) throws(StorageError) -> (PreparedState, StateMachine) {
    let number = receivedCount.wrappingAdd(1, ordering: .relaxed).newValue
    let name = "\(StateFormat.receivedFilePrefix)\(number).mdb"
    do throws(StorageError) {
      var living = Living(
        environment: try Environment.create(
          path: files.path(of: name), shownPath: files.path, mapBytes: options.mapBytes))
      var machine = try Self.read(path, into: &living)
      try Self.store(&machine, in: &living)
      if !options.unsafeNoSync { try Self.sync(living.environment) }
      guard let head = living.record?.head else { preconditionFailure("a commit without a head") }
      return (PreparedState(living: living, name: name, head: head), machine)
    } catch {
      try files.remove(name)
      throw error
    }
  }

  /// Puts a prepared state in the place of all that is stored, for good once this returns. Quick. On the thread that
  /// commits; cuts of the former state are of no use from here on and must not be committed.
  package func install(_ prepared: PreparedState) throws(StorageError) -> EngineCommit {
    try living.withLock { (living) throws(StorageError) in
      precondition(living != nil, "install after close")
      try files.install(prepared.living.environment, from: prepared.name)
      living = prepared.living
      return publish(prepared.living)
    }
  }

  /// Removes a prepared state that is not wanted any more.
  package func discard(_ prepared: PreparedState) throws(StorageError) { try files.remove(prepared.name) }

  private static func read(_ path: String, into living: inout Living) throws(StorageError) -> StateMachine {
    var reader = StateSnapshotReader(recordingChanges: true)
    let file = try onDisk { () throws(DiskFailure) in try FileReader(path) }
    while true {
      let piece = try onDisk { () throws(DiskFailure) in try file.read(pieceBytes) }
      if piece.isEmpty { break }
      try sound(path) { () throws(DecodingFailure) in try reader.feed(piece[...]) }
      if reader.machine.uncommittedBytes >= Limits.commitAfterBytes { try store(&reader.machine, in: &living) }
    }
    let complete = reader
    return try sound(path) { () throws(DecodingFailure) in try complete.finish() }
  }

  private static func store(_ machine: inout StateMachine, in living: inout Living) throws(StorageError) {
    try write(machine.cut(), to: &living)
    let (commit, _) = outcome(of: living)
    _ = machine.rebase(onto: commit.archive, below: commit.belowOrdinal, archivedBytes: commit.archivedBytes)
  }

  private static func sync(_ environment: Environment) throws(StorageError) {
    do throws(LMDBFailure) { try environment.beginSyncing() } catch { throw environment.storageError(error) }
  }

  private static func sound<R>(
    _ path: String, _ body: () throws(DecodingFailure) -> R
  ) throws(StorageError) -> R {
    do { return try body() } catch { throw .corruptSnapshot(file: path, reason: "\(error)") }
  }

  private static func onDisk<R>(_ body: () throws(DiskFailure) -> R) throws(StorageError) -> R {
    do { return try body() } catch { throw .io(error) }
  }
}
