import CacheSidecar
import Primitives
import SidecarCore
import Testing

/// G3: the process dies between any two transitions of any commit; after the restart the scan makes good what is owed.
@Suite struct EntryCrashTests {
  @Test(arguments: 0..<40) func everyOwedEvictionIsFoundAgain(transitions: Int) async throws {
    let fixture = try await EntryFixture()
    let keys = (0..<30).map { Bytes("k\($0)") }
    _ = await fixture.perform(keys.map { ($0, .register(EntryRegistration())) })
    fixture.store.advance(milliseconds: 11_001)
    fixture.store.crash(afterTransitions: transitions)
    do { try await fixture.sidecar.scan() } catch {}
    try await checkAllEvicted(EntryFixture(store: EntryTestStore(restarting: fixture.store)), keys)
  }

  @Test(arguments: 0..<30) func revivalsAndDeletionsAreWholeOrNotAtAll(transitions: Int) async throws {
    let fixture = try await EntryFixture()
    let keys = (0..<12).map { Bytes("k\($0)") }
    _ = await fixture.perform(keys.map { ($0, .register(EntryRegistration())) })
    fixture.store.advance(milliseconds: 11_001)
    try await fixture.sidecar.scan()
    fixture.store.crash(afterTransitions: transitions)
    let outcomes = await fixture.perform(keys.map { ($0, .hit) })
    _ = await fixture.perform(keys.prefix(6).map { ($0, .evict) })
    let again = try await EntryFixture(store: EntryTestStore(restarting: fixture.store))
    try await again.sidecar.scan()
    let items = try await again.journal()
    for (index, key) in keys.enumerated() {
      let record = try #require(try await again.record(key))
      let cancelled = items.contains { item in
        if case .cancel(again.entry(key), _, 2) = item.item { true } else { false }
      }
      #expect(cancelled == (record.generation == 2), "a cancel in the journal has happened, and the other way round")
      if outcomes[index] == .revived { #expect(record.generation == 2, "a hit answered well is safe") }
      if case .evicting(let sequence, _) = record.state {
        guard
          case .evict(again.entry(key), record.generation, _, _, _, _)? = items.first(where: { $0.sequence == sequence }
          )?.item
        else {
          Issue.record("an eviction without its item: \(record)")
          continue
        }
      }
    }
  }

  private func checkAllEvicted(_ fixture: EntryFixture, _ keys: [Bytes]) async throws {
    try await fixture.sidecar.scan()
    let items = try await fixture.journal()
    #expect(items.map(\.sequence) == Array(1...fixture.sidecar.journal.head), "dense")
    for key in keys {
      guard case .evicting(let sequence, .expired)? = try await fixture.record(key)?.state else {
        Issue.record("\(key) is not evicting")
        continue
      }
      guard case .evict(fixture.entry(key), 1, .expired, _, _, _) = items[Int(sequence) - 1].item else {
        Issue.record("\(key) is not what item \(sequence) says")
        continue
      }
    }
    let due = try await fixture.sidecar.outcomes.areDue(
      items.map { item in
        guard case .evict(let entry, _, _, _, _, _) = item.item else { return (item.sequence, fixture.entry("")) }
        return (item.sequence, entry)
      })
    #expect(due.count { $0 } == keys.count, "each once; the rest is void")
  }
}
