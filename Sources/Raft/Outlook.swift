// What the shell may ask a member.

extension RaftCore {
  package var role: Role {
    switch state {
    case .follower(let following): .follower(leader: following.leader)
    case .preCandidate: .preCandidate
    case .candidate: .candidate
    case .leader: .leader
    }
  }

  /// The leader of this term, if known.
  package var leader: NodeID? {
    switch state {
    case .follower(let following): following.leader
    case .preCandidate, .candidate: nil
    case .leader: configuration.id
    }
  }

  package var commitIndex: LogIndex { log.commitIndex }
  package var lastIndex: LogIndex { log.lastIndex }
  /// The first entry still held in memory, or the one to come when none is.
  package var firstIndex: LogIndex { log.base.index + 1 }
  /// Everything up to here is durable on this member.
  package var durableIndex: LogIndex { log.durableIndex }
  package var appliedIndex: LogIndex { log.appliedIndex }
  /// Weight of the entries accepted and not yet handed out as committed.
  package var backlogBytes: Int { log.backlogBytes }
  /// The term of an entry, nil when it is not held.
  package func term(at index: LogIndex) -> Term? { log.term(at: index) }

  /// In force here: the last one in the log, committed or not (thesis §4.1).
  package var membership: Membership { memberships.latest }
  /// The last one known to be committed.
  package var committedMembership: Membership { memberships.membership(asOf: log.commitIndex) }
  /// What was in force after entry `index`, which must be the one before `firstIndex` or behind it.
  package func membership(asOf index: LogIndex) -> Membership {
    precondition(index >= log.base.index, "the memberships before entry \(firstIndex) are forgotten")
    return memberships.membership(asOf: index)
  }
  /// No other member is known of.
  package var isAlone: Bool { standing.isAlone }

  /// The leader has committed an entry of its own term: reads need not wait for it.
  package var hasCommittedInTerm: Bool {
    guard case .leader(let leadership) = state else { return false }
    return log.commitIndex >= leadership.firstIndex
  }

  /// The member that this leader wants to be succeeded by.
  package var transferTarget: NodeID? {
    guard case .leader(let leadership) = state else { return nil }
    return leadership.transfer?.target
  }

  /// What a leader knows of the others, ascending by id; empty for everybody else.
  package var progress: [PeerProgress] {
    guard case .leader(let leadership) = state else { return [] }
    let membership = memberships.latest
    return leadership.peers.map { peer in
      PeerProgress(
        id: peer.id, match: peer.match, isActive: peer.isActive || peer.wasActive,
        isLearner: membership.isLearner(peer.id), isSendingSnapshot: peer.flow == .snapshot)
    }
  }

  /// When a `.tick` is due; `Instant.never` when nothing is.
  package var nextDeadline: Instant {
    guard case .leader(let leadership) = state else { return electionDeadline }
    if leadership.peers.isEmpty { return .never }
    var deadline = leadership.heartbeatDeadline
    if configuration.checkQuorum { deadline = min(deadline, leadership.quorumDeadline) }
    if let transfer = leadership.transfer { deadline = min(deadline, transfer.deadline) }
    return deadline
  }
}

/// One peer as its leader sees it.
package struct PeerProgress: Hashable, Sendable {
  package var id: NodeID
  /// Its log equals the leader's up to here, durably.
  package var match: LogIndex
  /// Heard from within the last one to two election time-outs, or not yet counted.
  package var isActive: Bool
  package var isLearner: Bool
  /// It lacks entries that the leader has forgotten, and waits for the shell to bring it a state.
  package var isSendingSnapshot: Bool
}
