import Primitives

package struct Configuration: Sendable {
  /// This member; not 0.
  package var id: NodeID
  /// The members that vote and whose durable logs decide what is committed.
  package var voters: Set<NodeID>
  /// Milliseconds, at least 1. A follower that hears nothing campaigns after this time to twice this time (thesis §3.4).
  package var electionTimeout: Int64
  /// Milliseconds, at least 1 and below `electionTimeout`.
  package var heartbeatInterval: Int64
  /// Ask before campaigning, so that a member that was cut off does not disturb (thesis §9.6).
  package var preVote: Bool
  /// A leader that hears from no quorum for an election time-out steps down (thesis §6.2), and members that hear from
  /// a leader do not vote it away (§4.2.3).
  package var checkQuorum: Bool
  /// Seed of the randomised time-outs; mixed with `id`.
  package var seed: UInt64
  /// Appends under way to one peer before the leader waits for an answer.
  package var maxInflightMessages: Int
  /// Weight of entries under way to one peer before the leader waits for an answer.
  package var maxInflightBytes: Int
  /// Weight of entries in one append; a single entry may exceed it.
  package var maxMessageBytes: Int
  /// Weight of entries accepted and not yet handed out as committed, beyond which proposals are refused. A proposal
  /// that finds no backlog is never refused for its size.
  package var maxBacklogBytes: Int

  package init(
    id: NodeID, voters: Set<NodeID>, electionTimeout: Int64 = 1_000, heartbeatInterval: Int64 = 100,
    preVote: Bool = true, checkQuorum: Bool = true, seed: UInt64 = 0, maxInflightMessages: Int = 256,
    maxInflightBytes: Int = 64 * 1024 * 1024, maxMessageBytes: Int = 1024 * 1024,
    maxBacklogBytes: Int = Limits.maxProposalBacklogBytes
  ) {
    self.id = id
    self.voters = voters
    self.electionTimeout = electionTimeout
    self.heartbeatInterval = heartbeatInterval
    self.preVote = preVote
    self.checkQuorum = checkQuorum
    self.seed = seed
    self.maxInflightMessages = maxInflightMessages
    self.maxInflightBytes = maxInflightBytes
    self.maxMessageBytes = maxMessageBytes
    self.maxBacklogBytes = maxBacklogBytes
  }

  /// How many voters make a majority.
  var quorum: Int { voters.count / 2 + 1 }

  var isVoter: Bool { voters.contains(id) }

  /// The only voter needs nobody's consent.
  var isSoleVoter: Bool { voters.count == 1 && isVoter }

  func checkedBounds() -> Configuration {
    precondition(id != 0, "a raft member's id must not be 0")
    precondition(!voters.isEmpty && !voters.contains(0), "raft needs at least one voter, and no voter may have id 0")
    precondition(
      heartbeatInterval > 0 && electionTimeout > heartbeatInterval,
      "the heartbeat interval must be positive and below the election time-out")
    precondition(
      maxInflightMessages > 0 && maxInflightBytes > 0 && maxMessageBytes > 0 && maxBacklogBytes > 0,
      "raft's limits must be positive")
    return self
  }
}
