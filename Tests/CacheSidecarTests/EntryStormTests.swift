import CacheSidecar
import Primitives
import SidecarCore
import Testing

/// Hits, uploads, deletions, acknowledgements, expiries and restarts on few keys, at the same time, in random order.
@Suite(.timeLimit(.minutes(1))) struct EntryStormTests {
  private static let keys = (0..<25).map { Bytes("k\($0)") }
  private static let ttl: Int64 = 10_000

  @Test(arguments: 0..<6) func guaranteesHoldInAStorm(seed: Int) async throws {
    var random = SeededGenerator(seed: UInt64(seed))
    var fixture = try await EntryFixture()
    var lastAccepted: [Bytes: Int64] = [:]
    var checked: UInt64 = 0
    for round in 0..<30 {
      let before = lastAccepted
      let running = Task { [fixture] in await fixture.sidecar.run() }
      try await storm(fixture, &random, &lastAccepted)
      fixture.store.advance(milliseconds: .random(in: 0...6_000, using: &random))
      if round % 7 == 3 { fixture.store.breakWatches() }
      try await fixture.sidecar.scan()
      running.cancel()
      await running.value
      checked = try await check(fixture, from: checked, lastAccepted: before)
      if round % 10 == 9 { fixture = try await EntryFixture(store: EntryTestStore(restarting: fixture.store)) }
    }
  }

  private func storm(
    _ fixture: EntryFixture, _ random: inout SeededGenerator, _ lastAccepted: inout [Bytes: Int64]
  ) async throws {
    let now = fixture.store.now
    let batches = (0..<8).map { _ in
      (0..<20).map { _ -> (key: Bytes, request: EntryRequest) in
        let key = Self.keys.randomElement(using: &random)!
        return switch Int.random(in: 0..<10, using: &random) {
        case 0: (key, .evict)
        case 1: (key, .register(EntryRegistration(sizeBytes: .random(in: 1...3, using: &random))))
        default: (key, .hit)
        }
      }
    }
    let due = try await fixture.journal().suffix(10)
    let accepted = await withTaskGroup(of: [Bytes].self) { group in
      for batch in batches {
        group.addTask {
          zip(batch, await fixture.perform(batch)).compactMap { request, outcome in
            switch outcome {
            case .coalesced, .renewed, .registered, .updated, .revived: request.key
            default: nil
            }
          }
        }
      }
      group.addTask {
        for item in due {
          guard case .evict(let entry, let generation, _, _, _, _) = item.item else { continue }
          let acknowledgement = Acknowledgement(
            sequence: item.sequence, entry: entry, generation: generation, isLast: item.sequence % 2 == 0)
          _ = try? await fixture.sidecar.outcomes.settle([acknowledgement], cursors: [])
        }
        return []
      }
      return await group.reduce(into: Set<Bytes>()) { $0.formUnion($1) }
    }
    for key in accepted { lastAccepted[key] = now }
  }

  /// G1, G4 and the invariants of what is stored. Returns the journal's head.
  private func check(_ fixture: EntryFixture, from sequence: UInt64, lastAccepted: [Bytes: Int64]) async throws
    -> UInt64
  {
    let items = try await fixture.sidecar.journal.items(from: 1, limit: 1_000_000)
    #expect(items.map(\.sequence) == Array(1..<UInt64(items.count) + 1), "dense")
    for (number, item) in items where number > sequence {
      guard case .evict(let entry, _, .expired, _, _, _) = item, let last = lastAccepted[entry.key] else { continue }
      #expect(fixture.store.now >= last + Self.ttl, "\(entry.key) was evicted early")
    }
    var recount = CacheTotals()
    for key in Self.keys {
      let stored = try await fixture.store.get([
        fixture.layout.record(fixture.entry(key)), fixture.layout.marker(fixture.entry(key)),
      ])
      let entry = try StoredEntry(fixture.entry(key), record: stored[0], marker: stored[1])
      guard let record = entry.record else {
        #expect(entry.marker == nil, "a marker without record")
        continue
      }
      recount.add(record)
      switch record.state {
      case .live: #expect(entry.marker?.generation == record.generation, "the scan has evicted what is owed")
      case .evicting(let number, let reason):
        #expect(entry.marker == nil)
        guard case .evict(entry.entry, record.generation, reason, _, _, _) = items[Int(number) - 1].item else {
          Issue.record("\(key) is not what item \(number) says")
          continue
        }
      }
    }
    #expect(fixture.sidecar.totals(of: fixture.cache).totals == recount)
    return fixture.sidecar.journal.head
  }
}
