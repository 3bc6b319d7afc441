import Engine
import Logging
import Member
import Primitives
import StateMachine
import Storage
import Synchronization

/// The engine's thread: makes the applied state durable behind the log's back (write-behind), and
/// tells the raft thread from where on the log is still needed.
///
/// A disk without room costs nothing but memory and log: the same changes are offered again every second, and the log
/// covers them. Whatever else goes wrong stops the process.
final class EngineWriter: Sendable {
  private enum Order: Sendable {
    case look
    case defragment(@Sendable (StorageError?) -> Void)
    case install(ReceivedState, installed: @Sendable () -> Void)
    case stop(@Sendable () -> Void)
  }

  /// A cut on its way to the disk.
  private struct Cut {
    var changes: StateChanges
    var appendedLogBytes: Int64
  }

  /// What only the thread touches.
  private struct Progress {
    var schedule: CommitSchedule
    /// The cut that the disk had no room for, and how it said so.
    var unfinished: (cut: Cut, failure: StorageError)?
    var committed: LogBase
    var stopped: (@Sendable () -> Void)?
  }

  let load: EngineLoad
  /// Seconds of a commit, on `MetricHistogram`'s disk bounds.
  let durations = MetricHistogram(upperBounds: MetricHistogram.diskBounds)
  let engine: any StateStore
  private let applied: AppliedState
  private let log: WriteAheadLog
  private let quota: SpaceQuota
  private let logLimitBytes: Int64
  private let inbox: Mailbox<NodeEvent>
  private let logger: Logger
  private let orders = Mailbox<Order>()
  private let thread = Mutex<DedicatedThread?>(nil)

  init(
    engine: any StateStore, applied: AppliedState, log: WriteAheadLog, quota: SpaceQuota, logLimitBytes: Int64,
    inbox: Mailbox<NodeEvent>, logger: Logger
  ) {
    self.engine = engine
    self.applied = applied
    self.log = log
    self.quota = quota
    self.logLimitBytes = logLimitBytes
    self.inbox = inbox
    self.logger = logger
    load = EngineLoad(sizes: engine.sizes)
  }

  /// Without an order there is nothing to do; any span will do.
  private static let idleMilliseconds: Int64 = 3_600_000
  /// What the thread does has time: answers do not wait for it.
  private static let niceness: Int32 = 5

  func start() {
    thread.withLock { $0 = DedicatedThread(name: "engine", niceness: Self.niceness) { [self] in run() } }
  }

  /// Raft thread, after it has applied something: `recentBytes` is `StateMachine.uncommittedBytes` now.
  func note(_ pending: CommitSchedule.Pending, recentBytes: Int) {
    let isNews = load.note(
      pending, recentBytes: recentBytes, appendedLogBytes: log.appendedBytes, logLimitBytes: logLimitBytes)
    if isNews { orders.post(.look) }
  }

  /// Any thread. `completion` runs on the engine's thread.
  func defragment(_ completion: @escaping @Sendable (StorageError?) -> Void) { orders.post(.defragment(completion)) }

  /// Raft thread: puts a state that another member has sent in the place of this one's, in memory and on the disk, and
  /// waits for it. What was applied and not stored is in the other state too.
  func install(_ state: ReceivedState) {
    let done = Occasion()
    orders.post(.install(state, installed: { done.come() }))
    done.wait()
  }

  /// Commits what is left and ends the thread. Nothing is applied any more.
  func stop() async {
    await withCheckedContinuation { done in orders.post(.stop { done.resume() }) }
    thread.withLock { $0.take() }?.join()
  }

  // MARK: The thread

  private func run() {
    let base = applied.withLock { LogBase(index: $0.machine.appliedIndex, term: $0.machine.appliedTerm) }
    var progress = Progress(schedule: CommitSchedule(openedAt: .now), committed: base)
    var taken: [Order] = []
    while progress.stopped == nil {
      let wake =
        progress.schedule.nextStart(load.pending) ?? MonotonicTime.now.advanced(byMilliseconds: Self.idleMilliseconds)
      taken.removeAll(keepingCapacity: true)
      taken = orders.takeAll(until: wake, spare: taken)
      for order in taken { carryOut(order, &progress) }
      if let due = progress.schedule.nextStart(load.pending), due <= .now { commit(&progress) }
    }
    finish(progress)
  }

  private func carryOut(_ order: Order, _ progress: inout Progress) {
    switch order {
    case .look: break
    case .defragment(let completion): completion(defragment(&progress))
    case .install(let state, let installed):
      install(state, &progress)
      installed()
    case .stop(let done): progress.stopped = done
    }
  }

  private func commit(_ progress: inout Progress) {
    let start = MonotonicTime.now
    let cut = progress.unfinished?.cut ?? takeCut()
    do throws(StorageError) {
      let commit = try engine.commit(cut.changes)
      rebase(onto: commit, coveredLogBytes: cut.appendedLogBytes)
      progress.unfinished = nil
      progress.committed = LogBase(index: commit.appliedIndex, term: commit.appliedTerm)
      let end = MonotonicTime.now
      progress.schedule.noteCommit(from: start, to: end)
      durations.observe(nanoseconds: end.nanoseconds - start.nanoseconds)
      if load.isBlocked { logger.warning("the state is stored again: the disk has room") }
      load.setBlocked(false)
      inbox.post(.engineCommitted(progress.committed, logBytes: cut.appendedLogBytes))
    } catch {
      guard error.isOutOfSpace else { stopProcess(error) }
      progress.unfinished = (cut, error)
      progress.schedule.noteFailure(at: .now)
      if !load.isBlocked {
        logger.warning("the state cannot be stored: \(error); the log keeps what is written, tried again every second")
      }
      load.setBlocked(true)
      // Whoever waits for room hears that there will be none soon.
      inbox.post(.engineBlocked)
    }
  }

  private func takeCut() -> Cut {
    let appendedLogBytes = log.appendedBytes
    load.beginCut()
    let (changes, bytes) = applied.withLock { contents in
      let bytes = contents.machine.uncommittedBytes
      return (contents.machine.cut(), bytes)
    }
    load.noteCut(bytes: bytes)
    return Cut(changes: changes, appendedLogBytes: appendedLogBytes)
  }

  /// What memory no longer needs goes out of the lock with the result, and is freed here, where nobody waits.
  private func rebase(onto commit: EngineCommit, coveredLogBytes: Int64?) {
    let (discarded, recentBytes) = applied.withLock { contents in
      let discarded = contents.machine.rebase(
        onto: commit.archive, below: commit.belowOrdinal, archivedBytes: commit.archivedBytes)
      // What was removed has counted until now, when the engine has forgotten it.
      quota.note(usedBytes: contents.machine.quotaBytes)
      return (discarded, contents.machine.uncommittedBytes)
    }
    load.noteCommit(recentBytes: recentBytes, coveredLogBytes: coveredLogBytes, sizes: engine.sizes)
    withExtendedLifetime(discarded) {}
  }

  private func install(_ state: ReceivedState, _ progress: inout Progress) {
    let commit: EngineCommit
    do throws(StorageError) { commit = try engine.install(state.prepared) } catch { stopProcess(error) }
    load.beginCut()
    let replaced = applied.withLock { contents in
      let revision = contents.machine.keyspace.revision
      let replaced = contents.machine
      contents.machine = state.machine
      contents.watches.skipped(after: revision)
      quota.note(usedBytes: contents.machine.quotaBytes)
      return replaced
    }
    load.noteCommit(recentBytes: 0, coveredLogBytes: log.appendedBytes, sizes: engine.sizes)
    progress.unfinished = nil
    progress.committed = LogBase(index: commit.appliedIndex, term: commit.appliedTerm)
    // The state that goes is freed here, where nobody waits.
    withExtendedLifetime(replaced) {}
  }

  private func defragment(_ progress: inout Progress) -> StorageError? {
    // The engine rebuilds what it has committed: what compaction has yet to give back, and what has not been committed, or
    // could not be, goes first.
    while applied.withLock({ $0.machine.advanceCompaction(maxKeys: Chores.compactedKeysPerStep) }) {}
    let hasUncut = applied.withLock { $0.machine.uncommittedBytes > 0 }
    if progress.unfinished != nil || hasUncut { commit(&progress) }
    if let failure = progress.unfinished?.failure { return failure }
    let start = MonotonicTime.now
    do throws(StorageError) {
      rebase(onto: try engine.defragment(), coveredLogBytes: nil)
    } catch {
      // Everything is as it was, whatever stood in the way.
      logger.warning("defragmentation failed: \(error)")
      return error
    }
    let sizes = load.sizes
    logger.info(
      "defragmented",
      metadata: [
        "milliseconds": "\((MonotonicTime.now.nanoseconds - start.nanoseconds) / 1_000_000)",
        "bytes": "\(sizes.fileBytes)",
      ])
    return nil
  }

  /// A last commit spares the next start the log.
  private func finish(_ progress: Progress) {
    var progress = progress
    let appliedIndex = applied.withLock { $0.machine.appliedIndex }
    if progress.unfinished != nil { commit(&progress) }
    if progress.unfinished == nil, appliedIndex > progress.committed.index || load.pending > .nothing {
      commit(&progress)
    }
    engine.close()
    progress.stopped?()
  }
}

extension MetricHistogram {
  /// etcd's for disks, in seconds: 0.001 · 2^n.
  static let diskBounds = exponentialBounds(from: 0.001, factor: 2, count: 14)
}
