import CLMDB
import Keyspace
import Primitives
import StateMachine
import Storage
import Synchronization

/// The state on disk: one LMDB environment (`<member>/state`). Opened once; `commit` and `defragment` are called by one
/// thread, one at a time; archives are read by any. What is in the files, and what a crash leaves, is in `StateFormat`.
package final class StateEngine: Sendable {
  /// Files of this prefix in the state's directory do not outlive the process.
  package static let incomingFilePrefix = StateFormat.receivedFilePrefix

  struct Living: Sendable {
    var environment: Environment
    /// As of the last commit; nil before the first one.
    var record: MetaRecord?
    var blocks = BlockMap()
  }

  let options: EngineOptions
  let files: StateFiles
  /// Held for as long as a commit or a defragmentation takes. nil once closed.
  let living: Mutex<Living?>
  private let lastSizes: Mutex<EngineSizes>
  /// States that leaders have sent, to tell their files apart.
  let receivedCount = Atomic<Int>(0)

  /// Opens the environment and loads the state. Throws what the operator must mend (damage, foreign format).
  /// - Parameter genesis: what a directory without a state is made with, durable as a whole before this returns. nil makes
  ///   an empty state at index 0, of a member that will be sent one. Of no account where a state is.
  /// - Returns: the state as it is stored, which notes its changes.
  package static func open(
    directory: String, options: EngineOptions, genesis: StateMachine? = nil
  ) throws(StorageError) -> (StateEngine, StateMachine) {
    FaultGuard.install()
    let files = StateFiles(directory: directory, unsafeNoSync: options.unsafeNoSync)
    try files.prepare()
    try files.removeLeftovers()
    if try !files.hasState() { try create(files, options, genesis) }
    let environment = try Environment.open(
      path: files.path, mapBytes: options.mapBytes, unsafeNoSync: options.unsafeNoSync)
    let loaded = try StateReading.load(environment)
    return (StateEngine(files: files, options: options, environment: environment, loaded: loaded), loaded.machine)
  }

  /// In scope no longer than it takes: the environment is opened anew as any other, which LMDB wants closed before.
  private static func create(
    _ files: StateFiles, _ options: EngineOptions, _ genesis: StateMachine?
  ) throws(StorageError) {
    var fresh = Living(
      environment: try Environment.create(path: files.nextPath, shownPath: files.path, mapBytes: options.mapBytes))
    if var genesis {
      genesis.recordChanges()
      try write(genesis.cut(), to: &fresh)
    }
    try files.install(fresh.environment, from: StateFormat.nextFileName)
  }

  private init(files: StateFiles, options: EngineOptions, environment: Environment, loaded: LoadedState) {
    self.files = files
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

  static func write(_ changes: StateChanges, to living: inout Living) throws(StorageError) {
    let environment = living.environment
    do throws(LMDBFailure) {
      try FaultGuard.inside(environment.faultMessage) { () throws(LMDBFailure) in
        let transaction = try environment.begin(writing: true)
        var writer = ChangeWriter(transaction: transaction, former: living.record, blocks: living.blocks)
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
      let copy = try Defragmentation.run(from: now.environment, now.record, files: files, mapBytes: options.mapBytes)
      now = Living(environment: copy.environment, record: copy.record, blocks: now.blocks)
      living = now
      return publish(now)
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
  func publish(_ living: Living) -> EngineCommit {
    let (commit, sizes) = Self.outcome(of: living)
    lastSizes.withLock { $0 = sizes }
    return commit
  }

  static func outcome(of living: Living) -> (EngineCommit, EngineSizes) {
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
    // Without a record nothing has been committed yet.
    let head = living.record?.head
    let commit = EngineCommit(
      appliedIndex: head?.appliedIndex ?? 0, appliedTerm: head?.appliedTerm ?? 0, archive: archive,
      belowOrdinal: head?.nextOrdinal ?? 0, archivedBytes: living.record?.totals.archivedBytes ?? 0)
    return (commit, sizes)
  }

  /// As of the last commit.
  package var sizes: EngineSizes { lastSizes.withLock { $0 } }

  /// Ends writing. The file is let go when the last archive is.
  package func close() { living.withLock { $0 = nil } }
}
