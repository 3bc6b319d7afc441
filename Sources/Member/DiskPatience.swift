import Primitives
import Raft

/// Whether a leader's own disk is stuck. Its followers' disks let writes commit, but what waits at the leader (its
/// clients' answers, expiries, its stamps of the clock) waits for its own: another one should lead.
package struct DiskPatience: Sendable {
  private var durable: LogIndex = 0
  /// Since when the log has been longer than what is durable, without progress.
  private var waitsSince: MonotonicTime?

  package init() {}

  /// True when nothing has become durable for `patienceMilliseconds`; the patience begins anew then.
  package mutating func isExhausted(
    durable index: LogIndex, last: LogIndex, at now: MonotonicTime, patienceMilliseconds: Int64
  ) -> Bool {
    defer { durable = index }
    guard index < last else {
      waitsSince = nil
      return false
    }
    guard let start = waitsSince, index == durable else {
      waitsSince = now
      return false
    }
    guard now >= start.advanced(byMilliseconds: patienceMilliseconds) else { return false }
    waitsSince = now
    return true
  }
}

extension MemberCore {
  /// Two election time-outs: about what the death of this leader would have cost.
  mutating func watchDisk(at now: MonotonicTime) {
    let isStuck = disk.isExhausted(
      durable: raft.durableIndex, last: raft.lastIndex, at: now,
      patienceMilliseconds: 2 * settings.electionTimeoutMilliseconds)
    guard isStuck, isLeader, raft.transferTarget == nil, let heir = mostAdvancedVoter, heir.match > raft.durableIndex
    else { return }
    output.notices.append(.diskIsStuck(heir: heir.id))
    step(.transferLeadership(to: heir.id), at: now)
  }

  /// Among the others that have been heard lately.
  var mostAdvancedVoter: PeerProgress? {
    raft.progress.filter { $0.isActive && raft.membership.voters.contains($0.id) }.max { $0.match < $1.match }
  }
}
