import DequeModule

/// What a leader knows about one other member's log (thesis §3.5), and how fast it may send to it.
struct Peer: Sendable {
  enum Flow: Hashable, Sendable {
    /// The place where the logs meet is not known: one append at a time.
    case probe(isWaiting: Bool)
    /// Appends are sent without waiting for the answers, as far as the window allows (thesis §10.2.1).
    case replicate
  }

  let id: NodeID
  /// Known to be durable there.
  private(set) var match: LogIndex = 0
  /// The next entry to send.
  private(set) var next: LogIndex
  private(set) var flow = Flow.probe(isWaiting: false)
  private var window = InflightWindow()
  private var sentCommit: LogIndex = 0
  /// It lacks even the entry at which this log starts: only a snapshot helps. It is asked again, without entries,
  /// after each heartbeat that it answers.
  private(set) var needsSnapshot = false
  /// Heard from since the leader last counted.
  var isActive = true
  /// The newest round of reads that it confirmed.
  var confirmedRound: UInt64 = 0

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

  /// The next append that may be sent now, counted as sent; nil when there is nothing to say or no room to say it.
  mutating func nextAppend(from log: borrowing RaftLog, limits: borrowing Configuration, _ urgency: Urgency)
    -> AppendRequest?
  {
    if next <= log.base.index { restartProbe(at: log.base.index + 1) }
    let previousTerm = log.term(at: next - 1)!
    let previous = EntryID(index: next - 1, term: previousTerm)
    var batch: (entries: [Entry], bytes: Int) = ([], 0)
    switch flow {
    case .probe(isWaiting: true):
      return nil
    case .probe(isWaiting: false):
      if !needsSnapshot { batch = log.slice(from: next, maxBytes: limits.maxMessageBytes) }
    case .replicate:
      if !window.isFull(limits) { batch = log.slice(from: next, maxBytes: limits.maxMessageBytes) }
    }
    if batch.entries.isEmpty {
      switch urgency {
      case .entries: return nil
      case .commit: if sentCommit >= log.commitIndex { return nil }
      case .probe: break
      }
    }
    sentCommit = log.commitIndex
    switch flow {
    case .probe:
      flow = .probe(isWaiting: true)
    case .replicate:
      if let last = batch.entries.last {
        next = last.index + 1
        window.add(last: last.index, bytes: batch.bytes)
      }
    }
    return AppendRequest(previous: previous, entries: batch.entries, commit: log.commitIndex)
  }

  /// The peer's log equals the leader's up to `index`.
  mutating func matched(_ index: LogIndex) {
    match = max(match, index)
    needsSnapshot = false
    window.remove(through: match)
    switch flow {
    case .probe:
      flow = .replicate
      next = match + 1
    case .replicate:
      next = max(next, match + 1)
    }
  }

  /// The peer lacks the entry before those sent. True: the place to try next is known.
  mutating func mismatched(rejected: LogIndex, hint: EntryID, log: borrowing RaftLog) -> Bool {
    switch flow {
    case .replicate:
      // A message was lost on the way, unless the answer is older than what is known by now.
      guard rejected > match else { return false }
    case .probe:
      guard rejected == next - 1, rejected > 0 else { return false }
    }
    needsSnapshot = rejected <= log.base.index
    let meeting = log.newest(notBehind: min(hint.index, rejected - 1), termAtMost: hint.term)
    restartProbe(at: max(meeting.index, match, log.base.index) + 1)
    if needsSnapshot { flow = .probe(isWaiting: true) }
    return !needsSnapshot
  }

  private mutating func restartProbe(at index: LogIndex) {
    next = index
    flow = .probe(isWaiting: false)
    window = InflightWindow()
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

  func isFull(_ limits: borrowing Configuration) -> Bool {
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
