import Primitives
import StateMachine

/// Who waits for a proposal: a number that the shell has given out.
package typealias Ticket = UInt64
/// Who waits for a linearizable read.
package typealias ReadTicket = UInt64

package typealias ProposalResult = Result<[CommandResult], ProposalError>

package enum ProposalError: Error, Hashable, Sendable {
  case noLeader
  case notLeader
  /// The named member cannot take over the leadership.
  case badLeaderTransferee
  case tooManyRequests
  case requestTooLarge
  /// The quota is used up; an alarm says so from now on.
  case noSpace
  case stopped
  /// Nobody has answered in time: it may have happened, or happen yet.
  case timedOut
  /// As `timedOut`: its leader was lost, and what became of it cannot be found out any more.
  case timedOutByLeaderFailure
  /// A change of members was asked for while another one is under way, or would leave too few of them.
  case membership(ReconfigurationRefusal)
  /// This member's state is not the cluster's.
  case corrupt
}

/// Commands that are appended together, next to each other in one entry.
package struct Proposal: Sendable {
  package enum Source: Sendable {
    /// A caller at this member.
    case local(Ticket)
    /// A caller at another member, which handed it on while this one led `term`.
    case forwarded(ProposalOrigin, term: UInt64)
    /// This member itself; nobody waits.
    case upkeep(Upkeep)
  }

  /// What a member does of its own accord, one of a kind at a time.
  package enum Upkeep: Hashable, Sendable {
    case expiry, clockStamp, alarm, attributes, promotion, compaction
  }

  package var commands: [Command]
  /// About what they weigh in the log.
  package var bytes: Int
  package var source: Source
  /// When the caller is told that it takes too long.
  package var deadline: MonotonicTime

  package init(commands: [Command], bytes: Int, source: Source, deadline: MonotonicTime) {
    self.commands = commands
    self.bytes = bytes
    self.source = source
    self.deadline = deadline
  }

  /// Changes of members go into entries of their own, one at a time.
  var changesMembers: Bool {
    guard commands.count == 1, case .member(let change) = commands[0] else { return false }
    if case .publish = change { return false }
    return true
  }
}
