import DequeModule

/// The log as this member holds it in memory, and how far it has got: durable, committed, handed out, applied.
///
/// ```
///   base        applied      delivered      durable    commit          last
///    |──────────────|─────────────|─────────────|─────────|──────────────|
///    └ forgotten    └ entries held ─────────────────────────────────────▶
/// ```
/// Always `base ≤ applied ≤ delivered ≤ min(durable, commit)` and `durable, commit ≤ last`; durable and commit are
/// independent: a quorum may commit what this disk has not written yet.
struct RaftLog: Sendable {
  /// The entry just before the first one held: compacted into a snapshot, or forgotten by a sole voter.
  private(set) var base: EntryID
  private var entries: Deque<Entry>
  private(set) var durableIndex: LogIndex
  private(set) var commitIndex: LogIndex
  /// Up to here entries have been put into `Output.commit`.
  private(set) var deliveredIndex: LogIndex
  private(set) var appliedIndex: LogIndex
  /// Weight of the entries behind `deliveredIndex`.
  private(set) var backlogBytes: Int
  /// Completions of entries up to this term prove nothing; see `truncate`.
  private var ambiguousThroughTerm: Term = 0

  /// `entries` are durable, contiguous and start behind `base`; `commit` may be stale.
  init(base: EntryID, entries recovered: [Entry], commit: LogIndex, applied: LogIndex) {
    self.base = base
    entries = Deque(recovered)
    let last = base.index + LogIndex(recovered.count)
    precondition((base.index...last).contains(applied), "the applied index \(applied) lies outside the recovered log")
    durableIndex = last
    commitIndex = max(applied, min(commit, last))
    deliveredIndex = applied
    appliedIndex = applied
    backlogBytes = 0
    var previous = base
    for entry in recovered {
      precondition(
        entry.index == previous.index + 1 && entry.term >= previous.term,
        "the recovered log breaks between entries \(previous.index) and \(entry.index)")
      previous = EntryID(index: entry.index, term: entry.term)
      if entry.index > applied { backlogBytes += entry.weightBytes }
    }
  }

  var lastIndex: LogIndex { base.index + LogIndex(entries.count) }

  var last: EntryID { entries.last.map { EntryID(index: $0.index, term: $0.term) } ?? base }

  /// nil when the entry is not held (forgotten, or behind the end). The base's term is known.
  func term(at index: LogIndex) -> Term? {
    if index == base.index { return base.term }
    guard index > base.index, index <= lastIndex else { return nil }
    return entries[position(index)].term
  }

  func contains(_ id: EntryID) -> Bool { term(at: id.index) == id.term }

  /// Whether a candidate whose log ends in `other` may lead this member (thesis §3.6.1).
  func isNoNewer(than other: EntryID) -> Bool {
    let mine = last
    return other.term > mine.term || (other.term == mine.term && other.index >= mine.index)
  }

  /// Entries from `first`, at least one if there is one, until they weigh `maxBytes`.
  func slice(from first: LogIndex, maxBytes: Int) -> (entries: [Entry], bytes: Int) {
    guard first > base.index, first <= lastIndex else { return ([], 0) }
    var end = position(first)
    let start = end
    var bytes = 0
    while end < entries.count {
      let weight = entries[end].weightBytes
      if end > start, bytes + weight > maxBytes { break }
      bytes += weight
      end += 1
    }
    return (Array(entries[start..<end]), bytes)
  }

  /// The newest held entry not behind `index` and not of a later term than `term`. Terms only grow along a log, so
  /// halving finds it. When even the base is of a later term, the index before the base (of term 0: unknown).
  func newest(notBehind index: LogIndex, termAtMost term: Term) -> EntryID {
    var low = base.index
    var high = min(index, lastIndex)
    guard base.term <= term, high >= low else { return EntryID(index: base.index == 0 ? 0 : base.index - 1, term: 0) }
    while low < high {
      let middle = low + (high - low + 1) / 2
      if self.term(at: middle)! <= term { low = middle } else { high = middle - 1 }
    }
    return EntryID(index: low, term: self.term(at: low)!)
  }

  mutating func append(_ entry: Entry) {
    assert(entry.index == lastIndex + 1)
    backlogBytes += entry.weightBytes
    entries.append(entry)
  }

  /// Removes `index` and everything behind it.
  ///
  /// A write of removed entries may still be under way, and a later leader may bring back an entry of the same index
  /// and term; the completion of the first write would then be taken for that of the second. But whoever makes us
  /// truncate leads a term above all that is removed, and sends an entry of it: until such an entry is reported
  /// durable, completions of older terms are not believed (see `markDurable`).
  mutating func truncate(from index: LogIndex) {
    precondition(
      index > commitIndex, "asked to remove committed entry \(index): the cluster's logs contradict each other")
    if durableIndex < lastIndex { ambiguousThroughTerm = max(ambiguousThroughTerm, last.term) }
    durableIndex = min(durableIndex, index - 1)
    while lastIndex >= index { backlogBytes -= entries.removeLast().weightBytes }
  }

  /// Forgets everything: the log goes on behind `base`, an entry that is committed and that this log does not hold.
  /// Counted as durable at once, since writes become durable in order: nothing behind it can be durable before it.
  ///
  /// Writes of entries behind `base` that are gone here may still be under way. They need no distrust: they followed
  /// another entry in the place of `base`, so no later leader holds them, and their completions name nothing.
  mutating func restart(behind newBase: EntryID) {
    precondition(newBase.index > commitIndex, "a state that ends at \(newBase.index) would take back what is committed")
    base = newBase
    entries.removeAll()
    durableIndex = newBase.index
    commitIndex = newBase.index
    deliveredIndex = newBase.index
    appliedIndex = newBase.index
    backlogBytes = 0
  }

  /// True when the durable part has grown.
  mutating func markDurable(_ id: EntryID) -> Bool {
    guard id.index > durableIndex, contains(id), id.term > ambiguousThroughTerm else { return false }
    // Writes become durable in order: with this one, all that were handed out before it.
    ambiguousThroughTerm = 0
    durableIndex = id.index
    return true
  }

  /// True when the committed part has grown.
  mutating func commit(through index: LogIndex) -> Bool {
    guard index > commitIndex else { return false }
    precondition(index <= lastIndex, "entry \(index) cannot be committed: the log ends at \(lastIndex)")
    commitIndex = index
    return true
  }

  /// Hands out what is committed and durable here. An entry that only others hold durably is not applied yet, so that
  /// the state machine's store never runs ahead of this member's log.
  mutating func deliver(into output: inout [Entry]) {
    let end = min(commitIndex, durableIndex)
    guard end > deliveredIndex else { return }
    for position in position(deliveredIndex + 1)...position(end) {
      let entry = entries[position]
      backlogBytes -= entry.weightBytes
      output.append(entry)
    }
    deliveredIndex = end
  }

  mutating func markApplied(_ index: LogIndex) {
    precondition(index <= deliveredIndex, "entry \(index) cannot be applied: only \(deliveredIndex) were handed out")
    appliedIndex = max(appliedIndex, index)
  }

  /// Forgets entries up to `index`, which must be applied.
  mutating func compact(through index: LogIndex) {
    precondition(index <= appliedIndex, "entry \(index) cannot be compacted: only \(appliedIndex) are applied")
    guard index > base.index else { return }
    let newBase = EntryID(index: index, term: term(at: index)!)
    entries.removeFirst(Int(index - base.index))
    base = newBase
  }

  private func position(_ index: LogIndex) -> Int { Int(index - base.index - 1) }
}
