// What a leader does of its own accord: take office, beat, count its quorum, take proposals, commit.

extension RaftCore {
  /// The election is won. The first entry of the term is empty; committing it commits all before it (thesis §3.6.2).
  mutating func becomeLeader(isUnheard: Bool, at now: Instant, into output: inout Output) {
    state = .leader(
      Leadership(
        firstIndex: log.lastIndex + 1, isUnheard: isUnheard, peers: [],
        heartbeatDeadline: now.advanced(byMilliseconds: configuration.heartbeatInterval),
        quorumDeadline: now.advanced(byMilliseconds: configuration.electionTimeout)))
    reconcilePeers(next: log.lastIndex + 1)
    appendOwn(.empty, into: &output)
    replicateToAll(.entries, into: &output)
  }

  mutating func leaderTick(at now: Instant, into output: inout Output) {
    if now >= state.leadership.quorumDeadline {
      let isHeard = countHeard()
      guard isHeard || !configuration.checkQuorum else {
        becomeFollower(term: term, leader: nil, at: now, into: &output)
        return
      }
      state.leadership.quorumDeadline = now.advanced(byMilliseconds: configuration.electionTimeout)
    }
    if let transfer = state.leadership.transfer, now >= transfer.deadline { state.leadership.transfer = nil }
    if now >= state.leadership.heartbeatDeadline {
      state.leadership.heartbeatDeadline = now.advanced(byMilliseconds: configuration.heartbeatInterval)
      if configuration.leaseReads { state.leadership.reads.round += 1 }
      broadcastHeartbeat(at: now, into: &output)
    }
  }

  /// Counts the peers heard since the last count, and starts anew. True: with this member, a quorum (thesis §6.2).
  private mutating func countHeard() -> Bool {
    let leadership = state.leadership
    for slot in leadership.peers.indices { state.leadership.peers[slot].startCount() }
    return memberships.latest.hasQuorum { id in
      id == configuration.id || leadership.peer(id)?.isActive == true
    }
  }

  /// Appends all payloads or none.
  mutating func propose(_ payloads: [[UInt8]], into output: inout Output) {
    output.accepted = nil
    guard state.isLeader, transferTarget == nil, !payloads.isEmpty else { return }
    if log.backlogBytes > 0 {
      let bytes = payloads.reduce(0) { $0 + $1.count + Entry.overheadBytes }
      guard log.backlogBytes + bytes <= configuration.maxBacklogBytes else { return }
    }
    output.accepted = (log.lastIndex + 1, term)
    for payload in payloads { appendOwn(.command(payload), into: &output) }
    replicateToAll(.entries, into: &output)
  }

  mutating func appendOwn(_ payload: Entry.Payload, into output: inout Output) {
    let entry = Entry(index: log.lastIndex + 1, term: term, payload: payload)
    log.append(entry)
    output.persist.entries.append(entry)
    if memberships.append(entry) {
      refreshStanding()
      reconcilePeers(next: entry.index)
    }
  }

  /// Commits what a quorum holds durably, this member's disk being one voice. Only an entry of the own term is
  /// committed by counting; those before it come along (thesis §3.6.2).
  mutating func advanceCommit(at now: Instant, into output: inout Output) {
    guard state.isLeader else { return }
    let index = quorumIndex()
    let old = log.commitIndex
    guard log.term(at: index) == term, commit(through: index) else { return }
    answerReadsAfterFirstCommit(at: now, into: &output)
    replicateToAll(.commit, into: &output)
    // Something to follow has come to be committed, or this leader has come to know what is.
    let news = max(memberships.latestIndex, state.leadership.firstIndex)
    if old < news { followCommittedMembership(at: now, into: &output) }
  }

  /// The highest index that a quorum holds durably.
  private func quorumIndex() -> LogIndex {
    if standing.isSoleQuorum { return log.durableIndex }
    guard case .leader(let leadership) = state else { return 0 }
    return memberships.latest.quorumIndex { id in
      id == configuration.id ? log.durableIndex : leadership.match(of: id)
    }
  }
}
