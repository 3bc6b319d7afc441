// When the entries that a peer lacks are forgotten, it needs a state (thesis §5.3). The shell moves states; here is
// when one is wanted, and what it does to the log.

extension RaftCore {
  /// A follower has a state at hand that ends at `mark`. It is not wanted when the log already reaches there: then the
  /// mark only tells that everything up to it is committed.
  mutating func handle(_ mark: SnapshotMark, from leader: NodeID, at now: Instant, into output: inout Output) {
    guard !state.isLeader, mark.last.term <= term, mark.membership.fault == nil else { return }
    becomeFollower(term: term, leader: leader, at: now, into: &output)
    if mark.last.index <= log.commitIndex || log.contains(mark.last) {
      _ = commit(through: mark.last.index)
      acknowledge(log.commitIndex, to: leader, into: &output)
      return
    }
    log.restart(behind: mark.last)
    memberships = MembershipHistory(base: mark.membership)
    refreshStanding()
    resetElectionDeadline(now)
    // What earlier steps of the same output asked for concerns a log that is gone.
    output.persist.entries.removeAll(keepingCapacity: true)
    output.commit.removeAll(keepingCapacity: true)
    output.sendAfterPersist.removeAll { $0.waitsFor.entry != nil }
    output.restore = mark
    acknowledge(mark.last.index, to: leader, into: &output)
  }

  /// The shell has moved a state to `peer`, or (`index` is nil) could not.
  mutating func finishSnapshot(to peer: NodeID, index: LogIndex?) {
    guard state.isLeader, let slot = state.leadership.slot(of: peer) else { return }
    let reached = index.flatMap { $0 <= log.lastIndex ? $0 : nil }
    state.leadership.peers[slot].finishSnapshot(index: reached)
  }

  mutating func noteUnreachable(_ peer: NodeID) {
    guard state.isLeader, let slot = state.leadership.slot(of: peer) else { return }
    state.leadership.peers[slot].loseContact()
  }
}
