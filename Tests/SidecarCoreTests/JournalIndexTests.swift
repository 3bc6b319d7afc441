import Primitives
import SidecarCore
import Testing

/// What a writer knows of the journal, from its own appends and from the store.
@Suite struct JournalIndexTests {
  private let planner = JournalPlanner(layout: StoreLayout())
  private var index = JournalIndex()

  init() { index.reload(JournalHead(epoch: 1), newStarts: []) }

  private mutating func append(_ count: Int) {
    let candidates = (0..<count).map { number in
      EvictionCandidate(
        entry: EntryName(cache: "c", key: Bytes("k\(number)")),
        record: EntryRecord(registeredAtMilliseconds: 0, ttlMilliseconds: 1), recordRevision: 1, reason: .expired,
        idleMilliseconds: 0)
    }
    index.note(planner.evictions(candidates, after: index.head, appendID: index.head.next).append)
  }

  private func sequences(from: UInt64, limit: Int) -> [UInt64]? {
    let lookup = index.lookUp(from: from, limit: limit)
    return lookup.remembered.map { lookup.items(of: $0).map(\.sequence) }
  }

  @Test("Items are found across chunks, from where they are asked for, and no more than were asked for")
  mutating func lookups() {
    for count in [3, 1, 4] { append(count) }
    #expect(index.head.next == 9)
    #expect(sequences(from: 2, limit: 4) == [2, 3, 4, 5])
    #expect(sequences(from: 8, limit: 10) == [8])
    #expect(index.lookUp(from: 2, limit: 4).chunkStarts == [1, 4, 5])
    #expect(sequences(from: 9, limit: 1) == [], "nothing is there yet")
  }

  @Test("A chunk goes as a whole, when all of it is below")
  mutating func trims() {
    for count in [3, 1, 4] { append(count) }
    #expect(index.trimTarget(below: 3) == 1)
    #expect(index.trimTarget(below: 4) == 4)
    #expect(index.trimTarget(below: 100) == 9)
    var head = index.head
    head.first = 4
    index.noteTrim(head)
    #expect(index.lookUp(from: 1, limit: 2).chunkStarts == [4, 5])
    #expect(sequences(from: 1, limit: 2) == [4, 5])
  }

  @Test("What somebody else has appended is asked for between its own end and the new head, and not remembered")
  mutating func reloads() {
    append(3)
    var head = index.head
    #expect(!index.isBehind(head))
    head.next = 9
    head.appendID = 99
    #expect(index.isBehind(head))
    #expect(index.unknown(below: head) == 4..<9)
    index.reload(head, newStarts: [4, 7])
    #expect(index.lookUp(from: 1, limit: 9).chunkStarts == [1, 4, 7])
    #expect(sequences(from: 1, limit: 9) == nil, "they are in the store")
    // A trim far ahead leaves nothing of what was known.
    head.first = 20
    head.next = 25
    #expect(index.unknown(below: head) == 20..<25)
    index.reload(head, newStarts: [20])
    #expect(index.lookUp(from: 1, limit: 9).chunkStarts == [20])
  }

  @Test("Another journal has nothing in common with this one")
  mutating func epochs() {
    append(3)
    let other = JournalHead(epoch: 2, next: 3)
    #expect(index.isBehind(other))
    #expect(index.unknown(below: other) == 1..<3)
    index.reload(other, newStarts: [1])
    #expect(index.lookUp(from: 1, limit: 9).chunkStarts == [1])
    #expect(index.head == other)
  }
}
