// Transfer of leadership (thesis §3.10): the leader takes no proposals, brings its successor up to date and asks it to
// campaign at once. The successor needs no pre-vote, and the others do not hold the old leader's living against it.

struct Transfer: Hashable, Sendable {
  var target: NodeID
  /// When the leader gives it up and serves again.
  var deadline: Instant
}

extension RaftCore {
  mutating func transfer(to target: NodeID, at now: Instant, into output: inout Output) {
    guard case .leader(let leadership) = state, let slot = leadership.slot(of: target),
      memberships.latest.voters.contains(target), leadership.transfer?.target != target
    else { return }
    state.leadership.transfer = Transfer(
      target: target, deadline: now.advanced(byMilliseconds: configuration.electionTimeout))
    inviteIfCaughtUp(slot, into: &output)
  }

  /// Called whenever the peer has answered: an invitation that was lost is repeated.
  mutating func inviteIfCaughtUp(_ slot: Int, into output: inout Output) {
    let leadership = state.leadership
    let peer = leadership.peers[slot]
    guard leadership.transfer?.target == peer.id, peer.match == log.lastIndex else { return }
    invite(peer.id, into: &output)
  }

  /// A leader that leaves names the voter that is furthest, so that the others need not wait for a time-out.
  mutating func inviteSuccessor(into output: inout Output) {
    let leadership = state.leadership
    let voters = memberships.latest.voters.compactMap(leadership.peer)
    guard let successor = voters.max(by: { $0.match < $1.match }) else { return }
    invite(successor.id, into: &output)
  }

  private mutating func invite(_ peer: NodeID, into output: inout Output) {
    state.leadership.hasInvitedSuccessor = true
    output.sendNow.append(message(to: peer, .timeoutNow))
  }

  /// The leader wants this member in its place.
  mutating func succeed(_ leader: NodeID, at now: Instant, into output: inout Output) {
    guard !state.isLeader, mayCampaign else { return }
    campaign(isTransfer: true, at: now, into: &output)
  }
}
