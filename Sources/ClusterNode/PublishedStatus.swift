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
  }

  private let current = Mutex(Snapshot())

  package init() {}

  func update(raft: borrowing RaftCore, clock: LeaderClock) {
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
    }
  }

  func observe(applied entries: Int) { current.withLock { $0.appliedEntries += entries } }
  func observe(expiryBatch leases: Int) { current.withLock { $0.expiredLeases += leases } }

  var snapshot: Snapshot { current.withLock { $0 } }

  package var counters: (isLeader: Bool, leaderChanges: Int, committed: UInt64, appliedEntries: Int, expiredLeases: Int)
  {
    let now = snapshot
    return (now.isLeader, now.leaderChanges, now.commitIndex, now.appliedEntries, now.expiredLeases)
  }

  var term: Term { current.withLock { $0.term } }
  var readsNeedNoRound: Bool { current.withLock { $0.readsNeedNoRound } }
}
