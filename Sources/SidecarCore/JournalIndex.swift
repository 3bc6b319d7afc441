import DequeModule
import Primitives

/// What a writer of the journal knows of it: its head, where its chunks begin, and the recent ones themselves, so that
/// prompt readers need not go to the store.
package struct JournalIndex: Sendable {
  package private(set) var head = JournalHead(epoch: 0)
  /// First sequence number of each chunk kept, ascending.
  private var chunkStarts: [UInt64] = []
  private var recentChunks: Deque<JournalChunk> = []
  private var recentItemCount = 0

  private static let maxRecentItems = 20_000

  package init() {}

  // MARK: Changes

  /// An append is committed.
  package mutating func note(_ append: JournalPlanner.Append) {
    guard let chunk = append.chunk else { preconditionFailure("an append without items") }
    head = append.head
    chunkStarts.append(chunk.firstSequence)
    recentChunks.append(chunk)
    recentItemCount += chunk.items.count
    while recentItemCount > Self.maxRecentItems, recentChunks.count > 1 {
      recentItemCount -= recentChunks.removeFirst().items.count
    }
  }

  /// A trim to `head.first` is committed.
  package mutating func noteTrim(_ head: JournalHead) {
    self.head = head
    chunkStarts.removeAll { $0 < head.first }
    while let oldest = recentChunks.first, oldest.firstSequence < head.first {
      recentItemCount -= oldest.items.count
      recentChunks.removeFirst()
    }
  }

  /// Whether the store's head tells of something that is not known here.
  package func isBehind(_ head: JournalHead) -> Bool {
    head.epoch != self.head.epoch || head.next > self.head.next || head.first > self.head.first
  }

  /// The sequence numbers between which new chunks begin, when the store's head is `head`.
  package func unknown(below head: JournalHead) -> Range<UInt64> {
    let from = self.head.epoch == head.epoch ? max(self.head.next, head.first) : head.first
    return from..<max(from, head.next)
  }

  /// Somebody else has moved the head to where the store has it: `starts` are the chunks of `unknown(below:)`.
  package mutating func reload(_ head: JournalHead, newStarts starts: [UInt64]) {
    chunkStarts = (self.head.epoch == head.epoch ? chunkStarts.filter { $0 >= head.first } : []) + starts
    self.head = head
    recentChunks.removeAll()
    recentItemCount = 0
  }

  /// The first sequence number that must stay when those below `sequence` are not read again: chunks go as a whole.
  package func trimTarget(below sequence: UInt64) -> UInt64 {
    if sequence >= head.next { return head.next }
    return chunkStarts.last { $0 <= sequence } ?? head.first
  }

  // MARK: Reading

  package struct Lookup: Sendable {
    /// The lowest sequence number wanted.
    package var start: UInt64
    package var limit: Int
    /// The chunks that hold what is wanted, by their first sequence numbers.
    package var chunkStarts: ArraySlice<UInt64>
    /// Those chunks, when they are all in memory.
    package var remembered: [JournalChunk]?

    package func items(of chunks: [JournalChunk]) -> [(sequence: UInt64, item: JournalItem)] {
      var items: [(sequence: UInt64, item: JournalItem)] = []
      for chunk in chunks {
        for (offset, item) in chunk.items.enumerated() {
          let number = chunk.firstSequence + UInt64(offset)
          if number >= start, items.count < limit { items.append((number, item)) }
        }
      }
      return items
    }
  }

  /// Where `limit` items from `sequence` on are.
  package func lookUp(from sequence: UInt64, limit: Int) -> Lookup {
    let start = max(sequence, head.first)
    var lookup = Lookup(start: start, limit: limit, chunkStarts: chunks(from: start, limit: limit))
    if let first = lookup.chunkStarts.first, let oldest = recentChunks.first, oldest.firstSequence <= first {
      let last = lookup.chunkStarts[lookup.chunkStarts.index(before: lookup.chunkStarts.endIndex)]
      lookup.remembered = recentChunks.filter { (first...last).contains($0.firstSequence) }
    }
    return lookup
  }

  private func chunks(from start: UInt64, limit: Int) -> ArraySlice<UInt64> {
    var low = 0
    var high = chunkStarts.count
    while low < high {
      let middle = (low + high) / 2
      if chunkStarts[middle] <= start { low = middle + 1 } else { high = middle }
    }
    let begin = max(0, low - 1)
    let wanted = start + UInt64(max(0, limit))
    var end = begin
    while end < chunkStarts.count, chunkStarts[end] < wanted { end += 1 }
    return chunkStarts[begin..<end]
  }
}
