import Primitives

package struct Configuration: Sendable {
  /// This member; not 0.
  package var id: NodeID
  /// Milliseconds, at least 1. A follower that hears nothing campaigns after this time to twice this time (thesis §3.4).
  package var electionTimeout: Int64
  /// Milliseconds, at least 1 and below `electionTimeout`.
  package var heartbeatInterval: Int64
  /// Ask before campaigning, so that a member that was cut off does not disturb (thesis §9.6).
  package var preVote: Bool
  /// A leader that hears from no quorum for an election time-out steps down (thesis §6.2), and members that hear from
  /// a leader do not vote it away (§4.2.3).
  package var checkQuorum: Bool
  /// A leader that a quorum has heard within 9/10 of the election time-out answers reads without asking again
  /// (thesis §6.4.1). Sound only while no member's clock runs faster than another's by a ninth; needs `checkQuorum`.
  package var leaseReads: Bool
  /// Seed of the randomised time-outs and of the names of forwarded reads; mixed with `id`. To differ from one start of
  /// a member to the next: a late answer to a former life's read must not be taken for that to a new one.
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
    id: NodeID, electionTimeout: Int64 = 1_000, heartbeatInterval: Int64 = 100,
    preVote: Bool = true, checkQuorum: Bool = true, leaseReads: Bool = false, seed: UInt64 = 0,
    maxInflightMessages: Int = 256, maxInflightBytes: Int = 64 * 1024 * 1024, maxMessageBytes: Int = 1024 * 1024,
    maxBacklogBytes: Int = Limits.maxProposalBacklogBytes
  ) {
    self.id = id
    self.electionTimeout = electionTimeout
    self.heartbeatInterval = heartbeatInterval
    self.preVote = preVote
    self.checkQuorum = checkQuorum
    self.leaseReads = leaseReads
    self.seed = seed
    self.maxInflightMessages = maxInflightMessages
    self.maxInflightBytes = maxInflightBytes
    self.maxMessageBytes = maxMessageBytes
    self.maxBacklogBytes = maxBacklogBytes
  }

  /// Milliseconds for which a quorum's answer keeps other leaders away, counted from when the question was sent.
  var lease: Int64 { electionTimeout - electionTimeout / 10 }

  func checkedBounds() -> Configuration {
    precondition(id != 0, "a raft member's id must not be 0")
    precondition(checkQuorum || !leaseReads, "leases need members that do not vote a living leader away")
    precondition(
      heartbeatInterval > 0 && electionTimeout > heartbeatInterval,
      "the heartbeat interval must be positive and below the election time-out")
    precondition(
      maxInflightMessages > 0 && maxInflightBytes > 0 && maxMessageBytes > 0 && maxBacklogBytes > 0,
      "raft's limits must be positive")
    return self
  }
}
