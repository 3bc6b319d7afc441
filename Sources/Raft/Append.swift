// The follower's side of AppendEntries and of heartbeats (thesis §3.5).

extension RaftCore {
  mutating func handle(_ request: AppendRequest, from leader: NodeID, at now: Instant, into output: inout Output) {
    guard !state.isLeader, request.isWellFormed(term: term) else { return }
    becomeFollower(term: term, leader: leader, at: now, into: &output)
    if request.previous.index < log.commitIndex {
      // An old message. What is committed equals the leader's log in any case.
      acknowledge(log.commitIndex, to: leader, into: &output)
      return
    }
    guard log.contains(request.previous) else {
      let hint = log.newest(notBehind: request.previous.index, termAtMost: request.previous.term)
      let answer = AppendResponse.mismatch(rejected: request.previous.index, hint: hint)
      output.sendNow.append(message(to: leader, .appendResponse(answer)))
      return
    }
    let isChange = merge(request.entries, into: &output)
    let match = request.previous.index + LogIndex(request.entries.count)
    if isChange {
      refreshStanding()
      resetElectionDeadline(now)
    }
    _ = commit(through: min(request.commit, match))
    acknowledge(match, to: leader, into: &output)
  }

  /// Appends what is new. Entries already held stay: an old, shorter message must not cut the log.
  /// True when the membership has changed.
  private mutating func merge(_ entries: [Entry], into output: inout Output) -> Bool {
    guard let fresh = entries.firstIndex(where: { log.term(at: $0.index) != $0.term }) else { return false }
    var isChange = false
    let first = entries[fresh].index
    if first <= log.lastIndex {
      log.truncate(from: first)
      isChange = memberships.truncate(from: first)
      // What was appended and is removed within one output need not reach the disk, nor be promised.
      output.persist.entries.removeAll { $0.index >= first }
      output.sendAfterPersist.removeAll { ($0.waitsFor.entry?.index ?? 0) >= first }
    }
    for entry in entries[fresh...] {
      log.append(entry)
      output.persist.entries.append(entry)
      if memberships.append(entry) { isChange = true }
    }
    return isChange
  }

  /// Promises that this log equals the leader's up to `index`; leaves when that is durable.
  func acknowledge(_ index: LogIndex, to leader: NodeID, into output: inout Output) {
    let entry = log.term(at: index).map { EntryID(index: index, term: $0) }
    hold(message(to: leader, .appendResponse(.matched(index))), entry: entry, into: &output)
  }

  /// The answer promises nothing about the disk: it says that this member had entered no later term when the heartbeat
  /// came, and votes of later terms leave only when durable. So a slow disk does not make a leader look alone.
  mutating func handle(_ heartbeat: Heartbeat, from leader: NodeID, at now: Instant, into output: inout Output) {
    guard !state.isLeader else { return }
    becomeFollower(term: term, leader: leader, at: now, into: &output)
    _ = commit(through: min(heartbeat.commit, log.lastIndex))
    let answer = HeartbeatResponse(readRound: heartbeat.readRound)
    output.sendNow.append(message(to: leader, .heartbeatResponse(answer)))
    repeatForwardedRead(at: now, into: &output)
  }
}

extension AppendRequest {
  /// Entries follow one another and none comes from the future.
  func isWellFormed(term: Term) -> Bool {
    var last = previous
    for entry in entries {
      guard entry.index == last.index &+ 1, entry.term >= last.term, entry.term <= term else { return false }
      last = EntryID(index: entry.index, term: entry.term)
    }
    return last.term <= term
  }
}
