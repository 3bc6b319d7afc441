// The leader's side of AppendEntries (thesis §3.5), pipelined within a window (§10.2.1).

extension RaftCore {
  mutating func replicateToAll(_ urgency: Peer.Urgency, into output: inout Output) {
    if standing.isAlone || state.leadership.isUnheard { return }
    for slot in state.leadership.peers.indices { replicate(to: slot, urgency, into: &output) }
  }

  /// Sends as much as the peer's window takes.
  private mutating func replicate(to slot: Int, _ urgency: Peer.Urgency, into output: inout Output) {
    var urgency = urgency
    let peer = state.leadership.peers[slot].id
    while let append = state.leadership.peers[slot].nextAppend(from: log, limits: configuration, urgency) {
      output.sendNow.append(message(to: peer, .appendRequest(append)))
      urgency = .entries
    }
  }

  mutating func handle(
    _ response: AppendResponse, from peer: NodeID, at now: Instant, into output: inout Output
  ) {
    guard state.isLeader, let slot = state.leadership.slot(of: peer) else { return }
    state.leadership.peers[slot].isActive = true
    switch response {
    case .matched(let index):
      // No honest peer holds durably what was never sent.
      guard index <= log.lastIndex else { return }
      state.leadership.peers[slot].matched(index, base: log.base.index)
      advanceCommit(at: now, into: &output)
      // Committing may have ended the leadership, or the peer's part in it.
      guard state.isLeader, let slot = state.leadership.slot(of: peer) else { return }
      replicate(to: slot, .commit, into: &output)
      inviteIfCaughtUp(slot, into: &output)
    case .mismatch(let rejected, let hint):
      switch state.leadership.peers[slot].mismatched(rejected: rejected, hint: hint, log: log) {
      case .outdated: break
      case .probe: replicate(to: slot, .probe, into: &output)
      case .snapshot: output.sendSnapshot.append(peer)
      }
    }
  }

  mutating func handle(
    _ response: HeartbeatResponse, from peer: NodeID, at now: Instant, into output: inout Output
  ) {
    guard state.isLeader, let slot = state.leadership.slot(of: peer) else { return }
    state.leadership.peers[slot].isActive = true
    state.leadership.peers[slot].resumeProbe()
    // The peer lives and lags: the last append, or its answer, may be lost. Asking again finds out.
    if state.leadership.peers[slot].match < log.lastIndex { replicate(to: slot, .probe, into: &output) }
    inviteIfCaughtUp(slot, into: &output)
    confirmReads(by: slot, round: response.readRound, at: now, into: &output)
  }

  /// The commit index is told only as far as the peer's log is known to equal ours.
  mutating func broadcastHeartbeat(at now: Instant, into output: inout Output) {
    if state.leadership.isUnheard { return }
    if configuration.leaseReads { state.leadership.reads.noteStart(at: now, lease: configuration.lease) }
    let leadership = state.leadership
    for peer in leadership.peers {
      let heartbeat = Heartbeat(commit: min(peer.match, log.commitIndex), readRound: leadership.reads.round)
      output.sendNow.append(message(to: peer.id, .heartbeat(heartbeat)))
    }
  }
}
