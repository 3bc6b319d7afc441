import Engine
import Primitives
import Synchronization

/// What the raft thread, the engine's thread and the metrics know of write-behind: how much is held in memory only, and
/// whether a commit is wanted.
final class EngineLoad: Sendable {
  private let wanted = Atomic<Int>(CommitSchedule.Pending.nothing.rawValue)
  /// Not cut yet.
  private let recentBytes = Atomic<Int>(0)
  /// Cut, and not committed yet.
  private let cutBytes = Atomic<Int>(0)
  private let coveredLogBytes = Atomic<Int64>(0)
  private let blocked = Atomic<Bool>(false)
  private let lastSizes: Mutex<EngineSizes>

  init(sizes: EngineSizes) { lastSizes = Mutex(sizes) }

  // MARK: Read anywhere

  var uncommittedBytes: Int { recentBytes.load(ordering: .relaxed) + cutBytes.load(ordering: .relaxed) }
  /// So much is held in memory that nothing more may come before the next commit.
  var isFull: Bool { uncommittedBytes >= Limits.maxUncommittedBytes }
  /// The disk has no room for the engine.
  var isBlocked: Bool { blocked.load(ordering: .relaxed) }
  var sizes: EngineSizes { lastSizes.withLock { $0 } }
  var pending: CommitSchedule.Pending { .init(rawValue: wanted.load(ordering: .acquiring))! }

  // MARK: Raft thread

  /// True when the engine's thread should hear of it.
  func note(
    _ pending: CommitSchedule.Pending, recentBytes bytes: Int, appendedLogBytes: Int64, logLimitBytes: Int64
  ) -> Bool {
    recentBytes.store(bytes, ordering: .relaxed)
    let isUrgent =
      uncommittedBytes >= Limits.commitAfterBytes
      || appendedLogBytes - coveredLogBytes.load(ordering: .relaxed) >= logLimitBytes
    let level = isUrgent && pending != .nothing ? CommitSchedule.Pending.urgent : pending
    guard level > self.pending else { return false }
    return wanted.exchange(level.rawValue, ordering: .acquiringAndReleasing) < level.rawValue
  }

  // MARK: Engine's thread

  /// Right before a cut: what is applied behind it is wanted anew.
  func beginCut() { wanted.store(CommitSchedule.Pending.nothing.rawValue, ordering: .releasing) }

  func noteCut(bytes: Int) {
    cutBytes.store(bytes, ordering: .relaxed)
    recentBytes.store(0, ordering: .relaxed)
  }

  func noteCommit(recentBytes bytes: Int, coveredLogBytes covered: Int64?, sizes: EngineSizes) {
    cutBytes.store(0, ordering: .relaxed)
    recentBytes.store(bytes, ordering: .relaxed)
    if let covered { coveredLogBytes.store(covered, ordering: .relaxed) }
    lastSizes.withLock { $0 = sizes }
  }

  func setBlocked(_ isBlocked: Bool) { blocked.store(isBlocked, ordering: .relaxed) }
}
