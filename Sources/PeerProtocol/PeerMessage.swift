import Primitives
import Raft
import StateMachine

/// What one member says to another once their connection stands.
package enum PeerMessage: Hashable, Sendable {
  case raft(Message)
  /// Rides with a leader's heartbeats and their answers.
  case beat(PeerBeat)
  /// From a follower to its leader.
  case forward(ForwardedProposal)
  /// From the leader: the forwarded proposal with this sequence number was not appended and will not be.
  case forwardRefused(sequence: UInt64, reason: ForwardRefusal)
}

/// Rides with a leader's heartbeats and their answers. From a leader it brings the lease clock, which an idle cluster
/// would otherwise not see, and the newest state hash that a majority agrees on; from a follower its own newest one.
package struct PeerBeat: Hashable, Sendable {
  /// The leader's; nil in answers, and from a leader that has not yet committed in its term.
  package var clock: LeaseClock?
  /// Where `stateHash` was taken; 0: nowhere.
  package var appliedIndex: LogIndex
  /// The rolling hash of everything that was applied up to `appliedIndex`: equal on all members, or one of them is
  /// damaged.
  package var stateHash: UInt64
  package var term: Term

  package init(clock: LeaseClock?, appliedIndex: LogIndex, stateHash: UInt64, term: Term) {
    self.clock = clock
    self.appliedIndex = appliedIndex
    self.stateHash = stateHash
    self.term = term
  }
}

/// Commands that a follower's caller wants in the log: all in one entry, in this order.
package struct ForwardedProposal: Hashable, Sendable {
  package var origin: ProposalOrigin
  /// The leader's, as the sender knows it: a leader of another term does not take the proposal.
  package var term: Term
  package var commands: [Command]

  package init(origin: ProposalOrigin, term: Term, commands: [Command]) {
    self.origin = origin
    self.term = term
    self.commands = commands
  }
}

/// Why a leader did not take a forwarded proposal. It never will: the caller may be told, or the proposal be sent again.
package enum ForwardRefusal: UInt8, Hashable, Sendable, CaseIterable {
  case notLeader = 1
  case tooManyRequests = 2
  case requestTooLarge = 3
  case noSpace = 4
  case notEnoughStartedMembers = 5
  case unhealthy = 6
  case learnerNotReady = 7
  case timedOut = 8
  case corrupt = 9
}

/// Which of a peer's two connections a message takes.
package enum PeerLane: UInt8, Hashable, Sendable, CaseIterable {
  /// Small, and worthless when late: heartbeats, votes, reads. Behind a large append they would elect leaders.
  case urgent
  /// Appends, their answers and forwarded proposals.
  case bulk
}

extension PeerMessage {
  package var lane: PeerLane {
    switch self {
    case .beat: .urgent
    case .forward, .forwardRefused: .bulk
    case .raft(let message):
      switch message.body {
      case .appendRequest, .appendResponse, .snapshot: .bulk
      default: .urgent
      }
    }
  }

  /// For logs and error texts.
  package var name: String {
    switch self {
    case .raft: "raft message"
    case .beat: "beat"
    case .forward: "forwarded proposal"
    case .forwardRefused: "refusal of a forwarded proposal"
    }
  }
}
