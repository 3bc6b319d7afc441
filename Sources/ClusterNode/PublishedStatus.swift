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
    var busyRatio = 0.0
  }

  private static let slowApplyNanoseconds: Int64 = 100_000_000

  private let current = Mutex(Snapshot())
  /// Seconds by which the latest lease of each expiry was late when that was proposed.
  let expiryLag = MetricHistogram(upperBounds: MetricHistogram.lagBounds)

  package init() {}

  func update(raft: borrowing RaftCore, clock: LeaderClock, pending: Int) {
    let leader = raft.leader ?? 0
    let isLeader = raft.isLeader
    let alone = isLeader && clock.isRunning && raft.configuration.voters.count == 1
    current.withLock { status in
      if leader != status.leader, leader != 0 { status.leaderChanges += 1 }
      status.term = raft.term
      status.leader = leader
      status.isLeader = isLeader
      status.lastIndex = raft.lastIndex
      status.commitIndex = raft.commitIndex
      status.clock = clock
      status.readsNeedNoRound = alone
      status.pendingProposals = pending
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
