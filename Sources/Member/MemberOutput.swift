import PeerProtocol
import Primitives
import Raft
import StateMachine

/// What happens to a member. The shell hands events over one at a time, each with the time.
package enum MemberEvent: Sendable {
  /// A caller's commands, which weigh about `bytes` in the log.
  case proposal([Command], bytes: Int, ticket: Ticket)
  /// A caller wants to read what is no older than this moment.
  case read(ReadTicket)
  /// The log's completion: see Raft's event of that name.
  case persisted(index: LogIndex, term: Term)
  case received(PeerMessage, from: NodeID)
  /// No connection to that member any more: what was sent last may be lost.
  case disconnected(NodeID)
  /// The engine has stored the state up to this entry; `logBytes` is the length of the log so far.
  case stored(index: LogIndex, logBytes: Int64)
  /// Somebody was refused for want of space: an alarm is due.
  case quotaExceeded
  /// A state that another member has sent lies ready: the message that came with it.
  case snapshotReady(Message)
  case snapshotSent(to: NodeID, index: LogIndex)
  case snapshotFailed(to: NodeID)
  case transferLeadership(to: NodeID, ticket: Ticket)
  /// The member is about to end: somebody else had better lead.
  case handOver(ticket: Ticket)
}

/// How full the store behind the member is.
package struct StoreLoad: Sendable {
  /// Nothing more may be applied before the engine's next commit.
  package var isFull: Bool
  /// The disk has no room for that commit.
  package var isBlocked: Bool
  /// The space in use has fallen far enough below the quota for the alarm to end.
  package var isRelaxed: Bool
  /// Without this the member's own quota alarm stays until an operator ends it.
  package var takesAlarmBack: Bool

  package init(isFull: Bool, isBlocked: Bool, isRelaxed: Bool, takesAlarmBack: Bool) {
    self.isFull = isFull
    self.isBlocked = isBlocked
    self.isRelaxed = isRelaxed
    self.takesAlarmBack = takesAlarmBack
  }
}

/// A message and the member that it is for.
package typealias Envelope = (to: NodeID, message: PeerMessage)

/// What goes to the disk and to other members: `messages` may leave at once, `held` when every write handed out so far,
/// this one included, is durable.
package struct Parcel: Sendable {
  package var persist: Output.Persist
  package var messages: [Envelope]
  package var held: [Envelope]
}

/// What a turn asks the shell for. `raft.restore` comes before everything else; what is to be written and sent is taken
/// with `MemberCore.takeParcel`.
package struct MemberOutput: Sendable {
  package var raft = Output()
  var messages: [Envelope] = []
  package var answers: [(ticket: Ticket, result: ProposalResult)] = []
  package var reads: [(ticket: ReadTicket, failure: ProposalError?)] = []
  package var notices: [Notice] = []
  /// The members, or their addresses, have changed with what was applied.
  package var membersChanged = false
  /// An alarm that was asked for stands, has ended, or could not be raised: who wants one asks again.
  package var alarmIsSettled = false
  /// Compaction has given something back.
  package var hasCompacted = false

  package init() {}

  /// Empties the output and keeps its memory for the next turn.
  mutating func reset() {
    raft.reset()
    messages.removeAll(keepingCapacity: true)
    answers.removeAll(keepingCapacity: true)
    reads.removeAll(keepingCapacity: true)
    notices.removeAll(keepingCapacity: true)
    membersChanged = false
    alarmIsSettled = false
    hasCompacted = false
  }
}

/// What is worth a line in the log, or a count.
package enum Notice: Sendable {
  /// This member leads, and its lease clock goes on from here.
  case leads(term: Term, clock: LeaseClock)
  case noLongerLeads
  case expiring(leases: Int, lagMilliseconds: Int64)
  case quotaAlarm(AlarmAction)
  /// This leader's log has not become durable for long; it hands over.
  case diskIsStuck(heir: NodeID)
  /// This member's state is not the one that most members agree on.
  case corrupt(index: LogIndex, own: UInt64, agreed: UInt64)
  /// This member has been removed from the cluster.
  case removed
}
