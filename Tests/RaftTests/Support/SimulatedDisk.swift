import Raft

/// A disk that takes its time, keeps order, and forgets in a crash what it had not synced.
struct SimulatedDisk {
  struct Write {
    /// Comes before the rest.
    var restore: SnapshotMark?
    var hardState: HardState?
    var entries: [Entry]
    /// Messages that leave when this write is durable.
    var held: [HeldMessage] = []
  }

  // What a crash leaves.
  var hardState = HardState()
  private(set) var base: EntryID
  /// As of the base.
  private(set) var membership: Membership
  private(set) var entries: [Entry]
  /// Handed over, not yet durable; oldest first.
  private(set) var queue: [Write] = []

  init(
    hardState: HardState = HardState(), base: EntryID = EntryID(index: 0, term: 0), membership: Membership,
    entries: [Entry] = []
  ) {
    self.hardState = hardState
    self.base = base
    self.membership = membership
    self.entries = entries
  }

  var lastIndex: LogIndex { base.index + LogIndex(entries.count) }

  /// Compacted entries count as held.
  func holds(_ id: EntryID) -> Bool {
    if id.index < base.index { return true }
    if id.index == base.index { return id.term == base.term }
    return id.index <= lastIndex && entries[Int(id.index - base.index - 1)].term == id.term
  }

  func term(at index: LogIndex) -> Term? {
    index == base.index ? base.term : entries.first { $0.index == index }?.term
  }

  mutating func enqueue(_ persist: Output.Persist, restore: SnapshotMark?) {
    queue.append(Write(restore: restore, hardState: persist.hardState, entries: persist.entries))
  }

  /// False: nothing is under way, the message may leave at once.
  mutating func hold(_ message: HeldMessage) -> Bool {
    guard !queue.isEmpty else { return false }
    queue[queue.count - 1].held.append(message)
    return true
  }

  mutating func completeFirst() -> Write? {
    guard !queue.isEmpty else { return nil }
    let write = queue.removeFirst()
    store(write, entries: write.entries.count)
    return write
  }

  /// Some writes had reached the medium, the next one perhaps in part; nobody was told.
  mutating func crash(keepingWrites kept: Int, tornEntries: Int) {
    for write in queue.prefix(kept) { store(write, entries: write.entries.count) }
    if kept < queue.count, tornEntries >= 0 { store(queue[kept], entries: tornEntries) }
    queue = []
  }

  mutating func compact(through index: LogIndex) {
    guard index > base.index, let term = term(at: index) else { return }
    for entry in entries where entry.index <= index {
      if case .membership(let change, _) = entry.payload { membership = change }
    }
    entries.removeFirst(Int(index - base.index))
    base = EntryID(index: index, term: term)
  }

  private mutating func store(_ write: Write, entries count: Int) {
    if let mark = write.restore {
      base = mark.last
      membership = mark.membership
      entries = []
    }
    if let state = write.hardState { hardState = state }
    for entry in write.entries.prefix(count) {
      precondition(entry.index > base.index && entry.index <= lastIndex + 1, "a write leaves a gap at \(entry.index)")
      entries.removeSubrange(Int(entry.index - base.index - 1)...)
      entries.append(entry)
    }
  }
}
