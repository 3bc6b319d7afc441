import DequeModule

/// What a leader knows about one other member's log (thesis §3.5), and how fast it may send to it.
struct Peer: Sendable {
  enum Flow: Hashable, Sendable {
    /// The place where the logs meet is not known: one append at a time.
    case probe(isWaiting: Bool)
    /// Appends are sent without waiting for the answers, as far as the window allows (thesis §10.2.1).
    case replicate
    /// It lacks entries that are forgotten here. The shell is asked to bring it a state; until then it gets heartbeats.
    case snapshot
  }

  /// What follows from an answer that refuses an append.
  enum Refusal {
    /// Nothing: it is older than what is known.
    case outdated
    /// There is another place to try.
    case probe
    /// Not even the oldest entry held here was accepted: the peer needs a state.
    case snapshot
  }

  let id: NodeID
  /// Known to be durable there.
  private(set) var match: LogIndex = 0
  /// The next entry to send.
  private(set) var next: LogIndex
  private(set) var flow = Flow.probe(isWaiting: false)
  private var window = InflightWindow()
  private var sentCommit: LogIndex = 0
  /// Heard from since the leader last counted.
  var isActive = true
  /// Heard from between the last two counts.
  private(set) var wasActive = false
  /// The newest round of heartbeats that it answered.
  private(set) var confirmedRound: UInt64 = 0
  /// When the newest of those rounds was sent that a lease may be counted from.
  private(set) var confirmedRoundSentAt: Instant?

  init(id: NodeID, next: LogIndex) {
    self.id = id
    self.next = next
  }

  enum Urgency {
    /// Only if there are entries to send.
    case entries
    /// Also without entries, to tell a commit index that the peer has not been told.
    case commit
    /// Even if it tells nothing: the answer will show whether what was sent has arrived.
    case probe
  }

  /// What may be sent now, counted as sent; nothing when there is nothing to say or no room to say it.
  mutating func nextAppend(from log: borrowing RaftLog, limits: Configuration, _ urgency: Urgency) -> AppendRequest? {
    if flow == .probe(isWaiting: true) || flow == .snapshot { return nil }
    // What it lacks by our knowledge is forgotten. It may have it, though, its answer being lost.
    if next <= log.base.index { restartProbe(at: log.base.index + 1) }
    let previous = EntryID(index: next - 1, term: log.term(at: next - 1)!)
    var batch: (entries: [Entry], bytes: Int) = ([], 0)
    let isFull = flow == .replicate ? window.isFull(limits) : false
    if !isFull { batch = log.slice(from: next, maxBytes: limits.maxMessageBytes) }
    if batch.entries.isEmpty {
      switch urgency {
      case .entries: return nil
      case .commit: if sentCommit >= log.commitIndex { return nil }
      case .probe: break
      }
    }
    sentCommit = log.commitIndex
    if flow != .replicate {
      flow = .probe(isWaiting: true)
    } else if let last = batch.entries.last {
      next = last.index + 1
      window.add(last: last.index, bytes: batch.bytes)
    }
    return AppendRequest(previous: previous, entries: batch.entries, commit: log.commitIndex)
  }

  /// The state up to `index` was handed over, nil: it was not. What the peer has now shows at its next answer.
  mutating func finishSnapshot(index: LogIndex?) {
    guard flow == .snapshot else { return }
    restartProbe(at: max(match, index ?? 0) + 1)
    flow = .probe(isWaiting: true)
  }

  /// What was sent and not answered may be lost (thesis §10.2.1).
  mutating func loseContact() {
    if flow == .replicate { restartProbe(at: match + 1) }
  }

  /// The peer's log equals the leader's up to `index`; the leader's starts behind `base`.
  mutating func matched(_ index: LogIndex, base: LogIndex) {
    match = max(match, index)
    window.remove(through: match)
    switch flow {
    case .probe:
      // An answer to something older than the probe tells nothing about it.
      guard index + 1 >= next else { return }
      flow = .replicate
      next = match + 1
    case .snapshot:
      guard match >= base else { return }
      flow = .replicate
      next = match + 1
    case .replicate:
      next = max(next, match + 1)
    }
  }

  /// The peer lacks the entry before those sent.
  mutating func mismatched(rejected: LogIndex, hint: EntryID, log: borrowing RaftLog) -> Refusal {
    switch flow {
    case .snapshot:
      return .outdated
    case .replicate:
      // A message was lost on the way, unless the answer is older than what is known by now.
      guard rejected > match else { return .outdated }
    case .probe:
      guard rejected == next - 1, rejected > 0 else { return .outdated }
      if rejected <= log.base.index {
        flow = .snapshot
        return .snapshot
      }
    }
    let meeting = log.newest(notBehind: min(hint.index, rejected - 1), termAtMost: hint.term)
    restartProbe(at: max(meeting.index, match, log.base.index) + 1)
    return .probe
  }

  private mutating func restartProbe(at index: LogIndex) {
    next = index
    flow = .probe(isWaiting: false)
    window = InflightWindow()
  }

  mutating func startCount() {
    wasActive = isActive
    isActive = false
  }

  /// It answered a heartbeat; `sentAt` is nil when that is too old, or not of interest, for a lease.
  mutating func confirm(_ round: UInt64, sentAt: Instant?) {
    confirmedRound = max(confirmedRound, round)
    if let sentAt { confirmedRoundSentAt = max(confirmedRoundSentAt ?? sentAt, sentAt) }
  }

  /// The peer lives: a probe that got no answer may be repeated.
  mutating func resumeProbe() {
    if case .probe = flow { flow = .probe(isWaiting: false) }
  }
}

/// The appends under way to one peer, oldest first.
struct InflightWindow: Sendable {
  private var messages: Deque<(last: LogIndex, bytes: Int)> = []
  private var bytes = 0

  func isFull(_ limits: Configuration) -> Bool {
    messages.count >= limits.maxInflightMessages || bytes >= limits.maxInflightBytes
  }

  mutating func add(last: LogIndex, bytes added: Int) {
    messages.append((last, added))
    bytes += added
  }

  /// Everything that ended at or before `index` has arrived.
  mutating func remove(through index: LogIndex) {
    while let first = messages.first, first.last <= index {
      bytes -= first.bytes
      messages.removeFirst()
    }
  }
}
