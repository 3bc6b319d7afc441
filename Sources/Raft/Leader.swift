// What a leader does of its own accord: take office, beat, count its quorum, take proposals, commit.

extension RaftCore {
  /// The election is won. The first entry of the term is empty; committing it commits all before it (thesis §3.6.2).
  mutating func becomeLeader(at now: Instant, into output: inout Output) {
    let next = log.lastIndex + 1
    state = .leader(
      Leadership(
        firstIndex: next, peers: otherVoters.map { Peer(id: $0, next: next) },
        heartbeatDeadline: now.advanced(byMilliseconds: configuration.heartbeatInterval),
        quorumDeadline: now.advanced(byMilliseconds: configuration.electionTimeout)))
    appendOwn(.empty, into: &output)
    replicateToAll(.entries, into: &output)
  }

  mutating func leaderTick(at now: Instant, into output: inout Output) {
    if configuration.checkQuorum, now >= state.leadership.quorumDeadline {
      guard hasHeardQuorum() else {
        becomeFollower(term: term, leader: nil, at: now, into: &output)
        return
      }
      state.leadership.quorumDeadline = now.advanced(byMilliseconds: configuration.electionTimeout)
    }
    if now >= state.leadership.heartbeatDeadline {
      state.leadership.heartbeatDeadline = now.advanced(byMilliseconds: configuration.heartbeatInterval)
      broadcastHeartbeat(into: &output)
    }
  }

  /// Counts the peers heard since the last count, and starts anew (thesis §6.2).
  private mutating func hasHeardQuorum() -> Bool {
    var heard = 1
    for slot in state.leadership.peers.indices {
      if state.leadership.peers[slot].isActive { heard += 1 }
      state.leadership.peers[slot].isActive = false
    }
    return heard >= configuration.quorum
  }

  /// Appends all payloads or none.
  mutating func propose(_ payloads: [[UInt8]], into output: inout Output) {
    output.accepted = nil
    guard state.isLeader, !payloads.isEmpty else { return }
    if log.backlogBytes > 0 {
      let bytes = payloads.reduce(0) { $0 + $1.count + Entry.overheadBytes }
      guard log.backlogBytes + bytes <= configuration.maxBacklogBytes else { return }
    }
    output.accepted = (log.lastIndex + 1, term)
    for payload in payloads { appendOwn(.command(payload), into: &output) }
    replicateToAll(.entries, into: &output)
  }

  private mutating func appendOwn(_ payload: Entry.Payload, into output: inout Output) {
    let entry = Entry(index: log.lastIndex + 1, term: term, payload: payload)
    log.append(entry)
    output.persist.entries.append(entry)
  }

  /// Commits what a quorum holds durably, this member's disk being one voice. Only an entry of the own term is
  /// committed by counting; those before it come along (thesis §3.6.2).
  mutating func advanceCommit(into output: inout Output) {
    guard state.isLeader else { return }
    let index = quorumMatch()
    guard log.term(at: index) == term, log.commit(through: index) else { return }
    answerReadsAfterFirstCommit(into: &output)
    replicateToAll(.commit, into: &output)
  }

  /// The highest index that a quorum of voters holds durably.
  private func quorumMatch() -> LogIndex {
    if isSoleVoter { return log.durableIndex }
    guard case .leader(let leadership) = state else { return 0 }
    let own = configuration.isVoter ? log.durableIndex : 0
    var best: LogIndex = 0
    // A handful of voters: counting for each beats sorting, and allocates nothing.
    for candidate in leadership.peers.lazy.map(\.match) where candidate > best {
      if holders(of: candidate, own: own, leadership.peers) >= configuration.quorum { best = candidate }
    }
    if own > best, holders(of: own, own: own, leadership.peers) >= configuration.quorum { best = own }
    return best
  }

  private func holders(of index: LogIndex, own: LogIndex, _ peers: [Peer]) -> Int {
    var count = own >= index ? 1 : 0
    for peer in peers where peer.match >= index { count += 1 }
    return count
  }

  /// Peers that lack even the entry at which this log starts: only a snapshot can bring them back.
  package var peersBehindLog: [NodeID] {
    guard case .leader(let leadership) = state else { return [] }
    return leadership.peers.filter(\.needsSnapshot).map(\.id)
  }
}
