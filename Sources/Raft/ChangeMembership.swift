// The leader's side of membership changes (thesis §4): one at a time, each in force once appended.

extension RaftCore {
  /// The order of the refusals is that in which an operator can do something about them.
  mutating func propose(
    _ target: Membership, _ command: [UInt8], at now: Instant, into output: inout Output
  ) {
    output.accepted = nil
    output.refusedMembership = refusal(of: target)
    guard output.refusedMembership == nil else { return }
    output.accepted = (log.lastIndex + 1, term)
    appendMembership(memberships.latest.step(to: target), command, at: now, into: &output)
  }

  private func refusal(of target: Membership) -> MembershipRefusal? {
    guard case .leader(let leadership) = state else { return .notLeader }
    guard target.isTarget else { return .impossibleTarget }
    guard leadership.transfer == nil else { return .transferUnderWay }
    guard hasCommittedInTerm else { return .notReady }
    let isSettled = memberships.latestIndex <= log.commitIndex && !memberships.latest.isJoint
    return isSettled ? nil : .changeUnderWay
  }

  private mutating func appendMembership(
    _ membership: Membership, _ command: [UInt8], at now: Instant, into output: inout Output
  ) {
    appendOwn(.membership(membership, command: command), into: &output)
    replicateToAll(.entries, into: &output)
    // With fewer voices to wait for, what was asked may be answered already.
    settleReads(at: now, into: &output)
  }

  /// The commit index of a leader has moved: a joint membership that is committed is left (§4.3), peers that were removed
  /// have been told and are forgotten, and a leader that was removed steps down (§4.2.2).
  mutating func followCommittedMembership(at now: Instant, into output: inout Output) {
    guard memberships.latestIndex <= log.commitIndex else { return }
    let membership = memberships.latest
    if membership.isJoint {
      appendMembership(membership.leftJoint, [], at: now, into: &output)
      return
    }
    if membership.isVoter(configuration.id) {
      reconcilePeers(next: log.lastIndex + 1)
      return
    }
    inviteSuccessor(into: &output)
    becomeFollower(term: term, leader: nil, at: now, into: &output)
  }

  /// Keeps one peer for each other member of the membership in force and of the one committed last. New ones start
  /// with the entry at `next`.
  mutating func reconcilePeers(next: LogIndex) {
    let settled = memberships.membership(asOf: log.commitIndex)
    let others = Set(memberships.latest.members).union(settled.members).subtracting([configuration.id])
    let old = state.leadership
    state.leadership.peers = others.sorted().map { old.peer($0) ?? Peer(id: $0, next: next) }
    if let transfer = old.transfer, !memberships.latest.isVoter(transfer.target) { state.leadership.transfer = nil }
  }
}
