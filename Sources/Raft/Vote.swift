// RequestVote and its answer (thesis §3.4, §3.6.1), and the same for pre-votes (§9.6).
//
// Whoever is asked answers, whatever its own log says about who votes (§4.1): the candidate asks those that vote by its
// newer log, and a learner may not have received the entry that makes it a voter.

extension RaftCore {
  mutating func handle(_ request: VoteRequest, _ asked: Message, at now: Instant, into output: inout Output) {
    if request.isPreVote {
      answerPreVote(request, asked, at: now, into: &output)
    } else {
      answerVote(request, asked, at: now, into: &output)
    }
  }

  /// Changes nothing. A grant repeats the asked term; a refusal tells ours.
  private func answerPreVote(_ request: VoteRequest, _ asked: Message, at now: Instant, into output: inout Output) {
    let isGranted = asked.term > term && !hearsLeader(at: now) && log.isNoNewer(than: request.last)
    output.sendNow.append(
      Message(
        from: configuration.id, to: asked.from, term: isGranted ? asked.term : term,
        body: .voteResponse(VoteResponse(isPreVote: true, isGranted: isGranted))))
  }

  /// One vote a term, for a log at least as new as ours. The grant leaves when the vote is durable.
  private mutating func answerVote(
    _ request: VoteRequest, _ asked: Message, at now: Instant, into output: inout Output
  ) {
    let mayVote = vote == asked.from || (vote == 0 && leader == nil)
    let isGranted = mayVote && log.isNoNewer(than: request.last)
    let answer = message(to: asked.from, .voteResponse(VoteResponse(isPreVote: false, isGranted: isGranted)))
    guard isGranted else {
      output.sendNow.append(answer)
      return
    }
    vote = asked.from
    resetElectionDeadline(now)
    hold(answer, entry: nil, into: &output)
  }

  mutating func handle(_ response: VoteResponse, _ answered: Message, at now: Instant, into output: inout Output) {
    let membership = memberships.latest
    switch state {
    case .preCandidate(var ballot) where response.isPreVote:
      if response.isGranted, answered.term != term + 1 { return }
      ballot.record(answered.from, isGranted: response.isGranted)
      state = .preCandidate(ballot)
      switch ballot.outcome(in: membership) {
      case .won: campaign(at: now, into: &output)
      case .lost: becomeFollower(term: term, leader: nil, at: now, into: &output)
      case .open: break
      }
    case .candidate(var ballot) where !response.isPreVote:
      ballot.record(answered.from, isGranted: response.isGranted)
      state = .candidate(ballot)
      switch ballot.outcome(in: membership) {
      case .won: becomeLeader(isUnheard: false, at: now, into: &output)
      case .lost: becomeFollower(term: term, leader: nil, at: now, into: &output)
      case .open: break
      }
    case .follower, .preCandidate, .candidate, .leader:
      break
    }
  }

  /// A leader of this term was heard within the shortest election time-out: it must not be voted away (thesis §4.2.3).
  /// A leader that checks its quorum is such a leader itself. With leases it does not matter whether that leader's term
  /// is still the last one heard of.
  func hearsLeader(at now: Instant) -> Bool {
    switch state {
    case .follower(let following):
      guard following.leader != nil || configuration.leaseReads, let contact = following.contact else { return false }
      return now < contact.advanced(byMilliseconds: configuration.electionTimeout)
    case .preCandidate, .candidate:
      return false
    case .leader:
      return configuration.checkQuorum
    }
  }
}
