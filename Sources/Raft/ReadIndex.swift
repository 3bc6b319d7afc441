import DequeModule

// Linearizable reads without writing to the log (thesis §6.4): note the commit index, make sure by a round of
// heartbeats that no later leader exists, wait until the index is applied. One round is under way at a time; reads
// that come meanwhile share the next one. With leases a leader that a quorum has heard lately needs no round (§6.4.1).

/// Whoever waits for a read index.
enum Reader: Hashable, Sendable {
  case local(context: UInt64)
  case follower(NodeID, context: UInt64)
}

struct ReadQueue: Sendable {
  /// Came before the leader committed an entry of its term, when it does not know the commit index yet.
  var beforeFirstCommit: [Reader] = []
  /// Share the next round.
  var waiting: [(reader: Reader, index: LogIndex)] = []
  /// Wait for the answers to `awaitedRound` or a later one.
  var inFlight: [(reader: Reader, index: LogIndex)] = []
  var awaitedRound: UInt64 = 0
  /// Number of the last heartbeats' round.
  var round: UInt64 = 0
  /// When the rounds were sent that a lease may be counted from, oldest first.
  private var starts: Deque<(round: UInt64, at: Instant)> = []

  var readers: [Reader] { inFlight.map(\.reader) + waiting.map(\.reader) + beforeFirstCommit }

  /// Starts a round for those that wait. False: none wait, or a round is under way.
  mutating func startRound() -> Bool {
    guard inFlight.isEmpty, !waiting.isEmpty else { return false }
    swap(&inFlight, &waiting)
    round += 1
    awaitedRound = round
    return true
  }

  /// The present round is sent. Those that could grant no lease any more are forgotten.
  mutating func noteStart(at now: Instant, lease: Int64) {
    while let first = starts.first, first.at.advanced(byMilliseconds: lease) <= now { starts.removeFirst() }
    if starts.last?.round != round { starts.append((round, now)) }
  }

  func start(of round: UInt64) -> Instant? { starts.last { $0.round == round }?.at }
}

extension RaftCore {
  mutating func readIndex(_ context: UInt64, at now: Instant, into output: inout Output) {
    if state.isLeader {
      read(.local(context: context), at: now, into: &output)
    } else {
      forwardRead(context, at: now, into: &output)
    }
  }

  /// A follower asks. One that asks again for want of an answer is not queued twice.
  mutating func readIndex(_ context: UInt64, for follower: NodeID, at now: Instant, into output: inout Output) {
    guard case .leader(let leadership) = state else {
      output.sendNow.append(message(to: follower, .readRefused(context: context)))
      return
    }
    let reader = Reader.follower(follower, context: context)
    guard !leadership.reads.readers.contains(reader) else { return }
    read(reader, at: now, into: &output)
  }

  private mutating func read(_ reader: Reader, at now: Instant, into output: inout Output) {
    guard hasCommittedInTerm else {
      state.leadership.reads.beforeFirstCommit.append(reader)
      return
    }
    if standing.isSoleQuorum || hasLease(at: now) {
      answer([(reader, log.commitIndex)], into: &output)
      return
    }
    state.leadership.reads.waiting.append((reader, log.commitIndex))
    if state.leadership.reads.startRound() { broadcastHeartbeat(at: now, into: &output) }
  }

  /// Called whenever the commit index has moved; does something once a term.
  mutating func answerReadsAfterFirstCommit(at now: Instant, into output: inout Output) {
    guard hasCommittedInTerm, !state.leadership.reads.beforeFirstCommit.isEmpty else { return }
    let readers = state.leadership.reads.beforeFirstCommit
    state.leadership.reads.beforeFirstCommit = []
    for reader in readers { read(reader, at: now, into: &output) }
  }

  /// A peer answered a heartbeat of `round`: it knew of no later leader.
  mutating func confirmReads(by slot: Int, round: UInt64, at now: Instant, into output: inout Output) {
    let start = configuration.leaseReads ? state.leadership.reads.start(of: round) : nil
    state.leadership.peers[slot].confirm(round, sentAt: start)
    settleReads(at: now, into: &output)
  }

  /// Answers the reads under way if a quorum has confirmed them.
  mutating func settleReads(at now: Instant, into output: inout Output) {
    let leadership = state.leadership
    guard !leadership.reads.inFlight.isEmpty else { return }
    let isConfirmed = memberships.latest.hasQuorum { id in
      id == configuration.id || (leadership.peer(id)?.confirmedRound ?? 0) >= leadership.reads.awaitedRound
    }
    guard isConfirmed else { return }
    answer(leadership.reads.inFlight, into: &output)
    state.leadership.reads.inFlight = []
    guard state.leadership.reads.startRound() else { return }
    broadcastHeartbeat(at: now, into: &output)
    // With a quorum of its own nobody will answer.
    if standing.isSoleQuorum { settleReads(at: now, into: &output) }
  }

  private func answer(_ reads: [(reader: Reader, index: LogIndex)], into output: inout Output) {
    for (reader, index) in reads {
      switch reader {
      case .local(let context): output.readStates.append((context, index))
      case .follower(let follower, let context):
        output.sendNow.append(message(to: follower, .readResponse(context: context, index: index)))
      }
    }
  }

  /// Members that a quorum consists of have promised, by answering a heartbeat sent within the lease, to elect nobody
  /// yet. The promise does not bind a member that this leader has asked to campaign (thesis §3.10).
  private func hasLease(at now: Instant) -> Bool {
    guard configuration.leaseReads, case .leader(let leadership) = state, !leadership.hasInvitedSuccessor else {
      return false
    }
    return memberships.latest.hasQuorum { id in
      if id == configuration.id { return true }
      guard let sent = leadership.peer(id)?.confirmedRoundSentAt else { return false }
      return now < sent.advanced(byMilliseconds: configuration.lease)
    }
  }
}
