import Member
import Primitives
import Raft
import Synchronization

/// What the raft thread lets others see without asking it: written once a turn, read anywhere.
package final class PublishedStatus: Sendable {
  struct Snapshot: Sendable {
    var term: Term = 0
    var leader: NodeID = 0
    var isLeader = false
    var lastIndex: LogIndex = 0
    var commitIndex: LogIndex = 0
    var clock = LeaderClock()
    /// A sole voter that leads and is ready: what is applied is linearizable as it stands.
    var readsNeedNoRound = false
    var leaderChanges = 0
    var appliedEntries = 0
    var expiredLeases = 0
    /// Proposals that are not answered yet.
    var pendingProposals = 0
    /// Batches that took longer to apply than etcd calls slow.
    var slowApplies = 0
    /// Questions to the leader about a read index that had no answer in time.
    var slowReadIndexes = 0
    var busyRatio = 0.0
  }

  private static let slowApplyNanoseconds: Int64 = 100_000_000

  private let current = Mutex(Snapshot())
  private let corrupt = Atomic<Bool>(false)
  private let learner = Atomic<Bool>(false)
  /// Seconds by which the latest lease of each expiry was late when that was proposed.
  let expiryLag = MetricHistogram(upperBounds: MetricHistogram.lagBounds)

  package init() {}

  func update(_ core: borrowing MemberCore, pending: Int) {
    let leader = core.raft.leader ?? 0
    let isLeader = core.isLeader
    let alone = core.isReady && core.raft.isAlone
    let (term, lastIndex, commitIndex, clock) = (core.raft.term, core.raft.lastIndex, core.raft.commitIndex, core.clock)
    current.withLock { status in
      if leader != status.leader, leader != 0 { status.leaderChanges += 1 }
      status.term = term
      status.leader = leader
      status.isLeader = isLeader
      status.lastIndex = lastIndex
      status.commitIndex = commitIndex
      status.clock = clock
      status.readsNeedNoRound = alone
      status.pendingProposals = pending
      status.slowReadIndexes = core.repeatedReadQuestions
    }
  }

  func observe(applied entries: Int, from start: MonotonicTime, to end: MonotonicTime) {
    let isSlow = end.nanoseconds - start.nanoseconds > Self.slowApplyNanoseconds
    current.withLock { status in
      status.appliedEntries += entries
      if isSlow { status.slowApplies += 1 }
    }
  }

  func observe(expiryBatch leases: Int, lagMilliseconds: Int64) {
    current.withLock { $0.expiredLeases += leases }
    expiryLag.observe(Double(lagMilliseconds) / 1_000)
  }

  func note(isLearner: Bool) { learner.store(isLearner, ordering: .releasing) }

  var isLearner: Bool { learner.load(ordering: .acquiring) }

  /// This member's state is not the cluster's.
  func noteCorruption() { corrupt.store(true, ordering: .releasing) }

  var isCorrupt: Bool { corrupt.load(ordering: .acquiring) }

  func observe(busyRatio: Double) {
    current.withLock { $0.busyRatio = busyRatio }
  }

  var snapshot: Snapshot { current.withLock { $0 } }

  package var counters: (isLeader: Bool, leaderChanges: Int, committed: UInt64, appliedEntries: Int, expiredLeases: Int)
  {
    let now = snapshot
    return (now.isLeader, now.leaderChanges, now.commitIndex, now.appliedEntries, now.expiredLeases)
  }

  var term: Term { current.withLock { $0.term } }
  var readsNeedNoRound: Bool { current.withLock { $0.readsNeedNoRound } }
}

extension MetricHistogram {
  /// Seconds from a tick of the lease timer to a long outage.
  static let lagBounds = exponentialBounds(from: 0.1, factor: 2, count: 12)
}
