// Linearizable reads without writing to the log (thesis §6.4): note the commit index, make sure by a round of
// heartbeats that no later leader exists, wait until the index is applied. One round is under way at a time; reads
// that come meanwhile share the next one.

struct ReadQueue: Sendable {
  /// Came before the leader committed an entry of its term, when it does not know the commit index yet.
  var beforeFirstCommit: [UInt64] = []
  /// Share the next round.
  var waiting: [(context: UInt64, index: LogIndex)] = []
  /// Wait for the answers to `round`.
  var inFlight: [(context: UInt64, index: LogIndex)] = []
  /// Number of the round under way or, when none is, of the last one.
  var round: UInt64 = 0

  var contexts: [UInt64] { inFlight.map(\.context) + waiting.map(\.context) + beforeFirstCommit }

  /// Starts a round for those that wait. False: none wait, or a round is under way.
  mutating func startRound() -> Bool {
    guard inFlight.isEmpty, !waiting.isEmpty else { return false }
    swap(&inFlight, &waiting)
    round += 1
    return true
  }
}

extension RaftCore {
  mutating func readIndex(_ context: UInt64, into output: inout Output) {
    guard state.isLeader else {
      output.refusedReads.append(context)
      return
    }
    guard hasCommittedInTerm else {
      state.leadership.reads.beforeFirstCommit.append(context)
      return
    }
    if isSoleVoter {
      output.readStates.append((context, log.commitIndex))
      return
    }
    state.leadership.reads.waiting.append((context, log.commitIndex))
    if state.leadership.reads.startRound() { broadcastHeartbeat(into: &output) }
  }

  /// Called whenever the commit index has moved; does something once a term.
  mutating func answerReadsAfterFirstCommit(into output: inout Output) {
    guard hasCommittedInTerm, !state.leadership.reads.beforeFirstCommit.isEmpty else { return }
    let contexts = state.leadership.reads.beforeFirstCommit
    state.leadership.reads.beforeFirstCommit = []
    for context in contexts { readIndex(context, into: &output) }
  }

  /// A peer answered a heartbeat of `round`: it knew of no later leader.
  mutating func confirmReads(by slot: Int, round: UInt64, into output: inout Output) {
    let confirmed = state.leadership.peers[slot].confirmedRound
    state.leadership.peers[slot].confirmedRound = max(confirmed, round)
    let leadership = state.leadership
    guard !leadership.reads.inFlight.isEmpty else { return }
    var voices = configuration.isVoter ? 1 : 0
    for peer in leadership.peers where peer.confirmedRound >= leadership.reads.round { voices += 1 }
    guard voices >= configuration.quorum else { return }
    output.readStates += leadership.reads.inFlight
    state.leadership.reads.inFlight = []
    if state.leadership.reads.startRound() { broadcastHeartbeat(into: &output) }
  }
}
