import CacheSidecar
import Primitives
import SidecarCore
import Testing

@Suite struct JournalWriterTests {
  @Test func itemsAreDenseAndReadableInAnySlices() async throws {
    let fixture = try await EntryFixture()
    let keys = (0..<2_500).map { Bytes("k\($0)") }
    _ = await fixture.perform(keys.map { ($0, .register(EntryRegistration())) })
    fixture.store.advance(milliseconds: 11_001)
    try await fixture.sidecar.scan()
    #expect(fixture.sidecar.journal.head == 2_500)
    for (from, limit) in [(1, 10), (999, 3), (1_001, 2_000), (2_500, 5), (2_501, 5)] as [(UInt64, Int)] {
      let items = try await fixture.sidecar.journal.items(from: from, limit: limit)
      let end = min(2_501, from + UInt64(limit))
      #expect(items.map(\.sequence) == Array(from..<max(from, end)))
    }
    // The same from the store, in a new life of the process.
    let again = try await EntryFixture(store: EntryTestStore(restarting: fixture.store))
    #expect(again.sidecar.journal.head == 2_500)
    #expect(again.sidecar.journal.epoch == fixture.sidecar.journal.epoch)
    let items = try await again.sidecar.journal.items(from: 990, limit: 20)
    #expect(items.map(\.sequence) == Array(990..<1_010))
  }

  @Test func trimForgetsWholeChunksOnly() async throws {
    let fixture = try await EntryFixture()
    let keys = (0..<2_500).map { Bytes("k\($0)") }
    _ = await fixture.perform(keys.map { ($0, .register(EntryRegistration())) })
    fixture.store.advance(milliseconds: 11_001)
    try await fixture.sidecar.scan()
    try await fixture.sidecar.journal.trim(below: 1_500)
    #expect(fixture.sidecar.journal.first == 1_001)
    #expect(try await fixture.sidecar.journal.items(from: 1, limit: 2).map(\.sequence) == [1_001, 1_002])
    try await fixture.sidecar.journal.trim(below: 2_501)
    #expect(fixture.sidecar.journal.first == 2_501)
    #expect(try await fixture.journal().isEmpty)
    let again = try await EntryFixture(store: EntryTestStore(restarting: fixture.store))
    #expect(again.sidecar.journal.first == 2_501)
    #expect(again.sidecar.journal.head == 2_500)
  }

  @Test func anEvictionThatLosesItsGuardLeavesAVoidItem() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k")
    fixture.store.advance(milliseconds: 11_001)
    let record = try #require(try await fixture.record("k"))
    let revision = try await fixture.store.get([fixture.layout.record(fixture.entry("k"))])[0]!.modRevision
    // A hit comes between the evictor's read and its commit.
    #expect(await fixture.hit("k") == .renewed)
    let candidate = EvictionCandidate(
      entry: fixture.entry("k"), record: record, recordRevision: revision, reason: .expired, idleMilliseconds: 0)
    let plan = JournalPlanner(layout: fixture.layout).evictions(
      [candidate], after: try await fixture.head(), appendID: 5)
    let outcomes = try await fixture.store.commit(
      [Transition(comparisons: plan.append.comparisons, operations: plan.append.operations)]
        + plan.changes.map { Transition(comparisons: $0.comparisons, operations: $0.operations) })
    guard case .done = outcomes[0], case .conflict = outcomes[1] else {
      Issue.record("\(outcomes)")
      return
    }
    #expect(try await fixture.record("k")?.state == .live)
    #expect(try await fixture.sidecar.outcomes.areDue([(1, fixture.entry("k"))]) == [false])
    // The writer was not told of that append: its next one finds out and goes on behind it.
    #expect(await fixture.evict("k") == .evictionStarted)
    #expect(try await fixture.record("k")?.state == .evicting(sequence: 2, reason: .deleted))
    #expect(fixture.sidecar.journal.head == 2)
  }

  @Test func noChangeGoesThroughUnderAnotherAppendsNumber() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("a")
    _ = await fixture.register("b")
    fixture.store.advance(milliseconds: 11_001)
    let planner = JournalPlanner(layout: fixture.layout)
    let head = try await fixture.head()
    func plan(_ key: Bytes, _ id: UInt64) async throws -> [Transition] {
      let stored = try #require(try await fixture.store.get([fixture.layout.record(fixture.entry(key))])[0])
      let plan = planner.evictions(
        [
          EvictionCandidate(
            entry: fixture.entry(key), record: try EntryRecord(decoding: stored.value),
            recordRevision: stored.modRevision, reason: .expired, idleMilliseconds: 0)
        ], after: head, appendID: id)
      return [Transition(comparisons: plan.append.comparisons, operations: plan.append.operations)]
        + plan.changes.map { Transition(comparisons: $0.comparisons, operations: $0.operations) }
    }
    // Two writers plan on the same head; both would give the sequence number 1.
    let first = try await plan("a", 1)
    let second = try await plan("b", 2)
    _ = try await fixture.store.commit(first)
    for outcome in try await fixture.store.commit(second) {
      guard case .conflict = outcome else {
        Issue.record("b was evicted under a's number")
        return
      }
    }
  }
}

extension EntryFixture {
  func head() async throws -> JournalHead {
    try JournalHead(decoding: try await store.get([layout.journalHead])[0]!.value)
  }
}
