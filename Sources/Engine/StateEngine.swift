import CLMDB
import Keyspace
import Primitives
import StateMachine
import Storage
import Synchronization

/// The state on disk: one LMDB environment (`<member>/state`). Opened once; `commit` and `defragment` are called by one
/// thread, one at a time; archives are read by any. What is in the files, and what a crash leaves, is in `StateFormat`.
package final class StateEngine: Sendable {
  private struct Living {
    var environment: Environment
    /// As of the last commit; nil before the first one.
    var record: MetaRecord?
    var blocks = BlockMap()
  }

  private let directory: String
  private let options: EngineOptions
  /// Held for as long as a commit or a defragmentation takes. nil once closed.
  private let living: Mutex<Living?>
  private let lastSizes: Mutex<EngineSizes>

  /// Opens or creates the environment and loads the state: an empty `StateMachine`, which notes its changes, when it is
  /// fresh. Throws what the operator must mend (damage, foreign format).
  package static func open(
    directory: String, options: EngineOptions
  ) throws(StorageError) -> (StateEngine, StateMachine) {
    FaultGuard.install()
    let files = StateFiles(directory: directory, unsafeNoSync: options.unsafeNoSync)
    try files.prepare()
    try files.removeNext()
    if try !files.hasState() {
      let fresh = try Environment.create(
        path: files.nextPath, shownPath: files.path, mapBytes: options.mapBytes)
      try files.install(fresh)
    }
    let environment = try Environment.open(
      path: files.path, mapBytes: options.mapBytes, unsafeNoSync: options.unsafeNoSync)
    let loaded = try StateReading.load(environment)
    let engine = StateEngine(directory: directory, options: options, environment: environment, loaded: loaded)
    return (engine, loaded.machine)
  }

  private init(directory: String, options: EngineOptions, environment: Environment, loaded: LoadedState) {
    self.directory = directory
    self.options = options
    living = Mutex(Living(environment: environment, record: loaded.record, blocks: loaded.blocks))
    lastSizes = Mutex(loaded.sizes)
  }

  /// Makes the changes durable as a whole. A disk without space leaves everything as it was: throws `StorageError.io` with
  /// `isOutOfSpace`, and the same changes may be offered again. Any other failure stops the process.
  package func commit(_ changes: StateChanges) throws(StorageError) -> EngineCommit {
    try living.withLock { (living) throws(StorageError) in
      guard var now = living else { preconditionFailure("commit after close") }
      try Self.write(changes, to: &now)
      living = now
      return publish(now)
    }
  }

  private static func write(_ changes: StateChanges, to living: inout Living) throws(StorageError) {
    let environment = living.environment
    let totals = living.record?.totals ?? StoredTotals()
    do throws(LMDBFailure) {
      try FaultGuard.inside(environment.faultMessage) { () throws(LMDBFailure) in
        let transaction = try environment.begin(writing: true)
        var writer = ChangeWriter(transaction: transaction, totals: totals, blocks: living.blocks)
        let record: MetaRecord
        do throws(LMDBFailure) { record = try writer.write(changes) } catch {
          transaction.abort()
          throw error
        }
        try transaction.commit()
        living.record = record
        living.blocks = writer.blocks
      }
    } catch {
      // A failed sync is never tried again: what a second one would report is not what is on the disk. (Where a disk
      // notices only then that it is full, the next commit writes all of its pages anew, so nothing rests on this one's.)
      guard environment.isOutOfSpace(error), !environment.hasFailed else {
        stopProcess(environment.storageError(error))
      }
      throw environment.outOfSpace(error)
    }
  }

  /// Re-inserts everything into a fresh environment beside the living one and takes its place: LMDB never gives
  /// space of its file back, and its own compacting copy keeps half-empty pages.
  /// Reads go on. Returns the archive to rebase onto (the same content). A disk without space for the copy, and damage that
  /// the copy has come upon, leave everything as it was.
  package func defragment() throws(StorageError) -> EngineCommit {
    try living.withLock { (living) throws(StorageError) in
      guard var now = living else { preconditionFailure("defragment after close") }
      let files = StateFiles(directory: directory, unsafeNoSync: options.unsafeNoSync)
      let copy = try Defragmentation.run(from: now.environment, now.record, files: files, mapBytes: options.mapBytes)
      now = Living(environment: copy.environment, record: copy.record, blocks: now.blocks)
      living = now
      return publish(now)
    }
  }

  /// Puts another state in the place of all that is stored (one that a leader has sent): `changes` is its first cut. As
  /// `commit`: done as a whole or not at all, also across a crash, and throws when there is no space for both.
  package func replace(with changes: StateChanges) throws(StorageError) -> EngineCommit {
    try living.withLock { (living) throws(StorageError) in
      precondition(living != nil, "replace after close")
      let files = StateFiles(directory: directory, unsafeNoSync: options.unsafeNoSync)
      try files.removeNext()
      var now = Living(
        environment: try Environment.create(path: files.nextPath, shownPath: files.path, mapBytes: options.mapBytes))
      do throws(StorageError) {
        try Self.write(changes, to: &now)
        try files.install(now.environment)
        living = now
        return publish(now)
      } catch {
        try files.removeNext()
        throw error
      }
    }
  }

  /// Makes durable what has been committed with `unsafeNoSync`.
  package func sync() throws(StorageError) {
    try living.withLock { (living) throws(StorageError) in
      guard let living else { preconditionFailure("sync after close") }
      do throws(LMDBFailure) { try living.environment.sync() } catch { throw living.environment.storageError(error) }
    }
  }

  /// An archive of what has just been committed; the sizes along with it.
  private func publish(_ living: Living) -> EngineCommit {
    let archive: Archive
    let sizes: EngineSizes
    do throws(LMDBFailure) {
      archive = try Archive(of: living.environment, living.blocks)
      sizes = try FaultGuard.inside(living.environment.faultMessage) { () throws(LMDBFailure) in
        try archive.sizes()
      }
    } catch {
      stopProcess(living.environment.storageError(error))
    }
    lastSizes.withLock { $0 = sizes }
    // Without a record nothing has been committed yet.
    let head = living.record?.head
    return EngineCommit(
      appliedIndex: head?.appliedIndex ?? 0, appliedTerm: head?.appliedTerm ?? 0, archive: archive,
      belowOrdinal: head?.nextOrdinal ?? 0, archivedBytes: living.record?.totals.archivedBytes ?? 0)
  }

  /// As of the last commit.
  package var sizes: EngineSizes { lastSizes.withLock { $0 } }

  /// Ends writing. The file is let go when the last archive is.
  package func close() { living.withLock { $0 = nil } }
}
