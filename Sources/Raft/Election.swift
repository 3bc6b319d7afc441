// Campaigns (thesis §3.4) with pre-vote (§9.6).

extension RaftCore {
  /// Patience is lost.
  mutating func startElection(at now: Instant, into output: inout Output) {
    if configuration.preVote, !standing.isSoleQuorum {
      preCampaign(at: now, into: &output)
    } else {
      campaign(at: now, into: &output)
    }
  }

  /// Asks whether a campaign would succeed, in a term that is not entered yet. Promises nothing, so it may leave now.
  private mutating func preCampaign(at now: Instant, into output: inout Output) {
    refuseReads(into: &output)
    state = .preCandidate(Ballot(candidate: configuration.id))
    resetElectionDeadline(now)
    let request = VoteRequest(isPreVote: true, last: log.last)
    for voter in otherVoters {
      output.sendNow.append(
        Message(from: configuration.id, to: voter, term: term + 1, body: .voteRequest(request)))
    }
  }

  /// Enters a new term and asks for votes; `isTransfer` when the leader has asked for it (thesis §3.10).
  ///
  /// The requests wait for term, own vote and the whole log to be durable. Thereby no answer arrives before the own
  /// vote counts, and a member that forgot its tail in a crash cannot collect votes that were given for that tail.
  /// A member whose own voice is a quorum leads before the term is durable, but unheard.
  mutating func campaign(isTransfer: Bool = false, at now: Instant, into output: inout Output) {
    refuseReads(into: &output)
    term += 1
    vote = configuration.id
    state = .candidate(Ballot(candidate: configuration.id))
    resetElectionDeadline(now)
    if standing.isSoleQuorum {
      becomeLeader(isUnheard: true, at: now, into: &output)
      return
    }
    let request = VoteRequest(isPreVote: false, last: log.last, isTransfer: isTransfer)
    for voter in otherVoters { hold(message(to: voter, .voteRequest(request)), entry: log.last, into: &output) }
  }

  /// Ascending, so that equal members produce equal outputs.
  private var otherVoters: [NodeID] {
    let membership = memberships.latest
    return membership.members.filter { $0 != configuration.id && membership.isVoter($0) }
  }
}
