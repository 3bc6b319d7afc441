import CacheSidecar
import Keyspace
import Primitives
import SidecarCore
import Synchronization
import Testing

@Suite struct EntryLifeTests {
  @Test func hitsWithinTheWindowWriteNothing() async throws {
    let fixture = try await EntryFixture()
    #expect(await fixture.hit("k") == .registered)
    let transitions = fixture.store.committedTransitions
    for _ in 0..<100 { #expect(await fixture.hit("k") == .coalesced) }
    #expect(fixture.store.committedTransitions == transitions)
    #expect(fixture.store.renewedLeases == 0)
    fixture.store.advance(milliseconds: 1_001)
    #expect(await fixture.hit("k") == .renewed)
    #expect(fixture.store.renewedLeases == 1)
    #expect(fixture.store.committedTransitions == transitions, "a renewal writes no key")
  }

  /// G1: whatever the moment of the last accepted hit, the entry lives for the TTL from then on.
  @Test(arguments: 0..<20) func noEvictionBeforeTheTTLHasPassedSinceTheLastHit(seed: Int) async throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let fixture = try await EntryFixture()
    for _ in 0..<30 {
      #expect(await fixture.hit("k") != nil)
      fixture.store.advance(milliseconds: .random(in: 0...3_000, using: &random))
    }
    #expect(await fixture.hit("k") != nil)
    fixture.store.advance(milliseconds: 9_999)
    try await fixture.sidecar.scan()
    #expect(try await fixture.record("k")?.state == .live)
    fixture.store.advance(milliseconds: 1_002)
    try await fixture.sidecar.scan()
    #expect(try await fixture.record("k")?.state == .evicting(sequence: 1, reason: .expired), "late by at most w")
  }

  @Test func manyHitsOnOneKeyAtOnceShareOneRenewal() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.hit("k")
    fixture.store.advance(milliseconds: 2_000)
    let outcomes = await fixture.perform((0..<500).map { _ in ("k", .hit) })
    #expect(outcomes.allSatisfy { $0 == .renewed || $0 == .coalesced })
    #expect(fixture.store.renewedLeases == 1)
  }

  @Test func theWatchEvictsWhatRunsOut() async throws {
    let fixture = try await EntryFixture()
    for number in 0..<50 { _ = await fixture.register(Bytes("k\(number)"), size: 7) }
    let advanced = Mutex(0)
    fixture.sidecar.journal.onAdvance { advanced.withLock { $0 += 1 } }
    let running = Task { await fixture.sidecar.run() }
    fixture.store.advance(milliseconds: 11_001)
    while fixture.sidecar.journal.head < 50 { await Task.yield() }
    running.cancel()
    await running.value
    let items = try await fixture.journal()
    #expect(items.map(\.sequence) == Array(1...50))
    #expect(
      Set(items.map { if case .evict(let entry, _, _, _, _, _) = $0.item { entry.key } else { "" as Bytes } }).count
        == 50)
    guard case .evict(_, 1, .expired, 7, 11_000, _) = items[0].item else {
      Issue.record("\(items[0])")
      return
    }
    #expect(advanced.withLock { $0 } > 0)
  }

  @Test func aLostWatchIsMadeGoodByTheScan() async throws {
    let fixture = try await EntryFixture()
    for number in 0..<20 { _ = await fixture.register(Bytes("k\(number)")) }
    let running = Task { await fixture.sidecar.run() }
    fixture.store.breakWatches()
    fixture.store.advance(milliseconds: 11_001)
    fixture.store.breakWatches()
    while fixture.sidecar.journal.head < 20 { try await Task.sleep(for: .milliseconds(1)) }
    running.cancel()
    await running.value
  }

  @Test func deleteEvictsNowAndRevokesTheLease() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k", size: 3)
    fixture.store.advance(milliseconds: 400)
    #expect(await fixture.evict("k") == .evictionStarted)
    #expect(fixture.store.leaseCount == 0)
    #expect(try await fixture.record("k")?.state == .evicting(sequence: 1, reason: .deleted))
    guard case .evict(_, 1, .deleted, 3, 400, _) = try await fixture.journal()[0].item else {
      Issue.record("the item is another")
      return
    }
    #expect(await fixture.evict("k") == .evictionStarted, "and again")
    #expect(await fixture.evict("other") == .unknown)
  }

  @Test func aHitOnAnEvictedKeyIsNotAnsweredFromMemory() async throws {
    let fixture = try await EntryFixture("c:ttl=10s,window=5s,jitter=0")
    _ = await fixture.hit("k")
    #expect(await fixture.hit("k") == .coalesced)
    _ = await fixture.evict("k")
    let running = Task { await fixture.sidecar.run() }
    defer { running.cancel() }
    #expect(await fixture.hit("k") == .revived)
  }

  @Test func aRevivalIsALifeOfItsOwnAndSubscribersAreTold() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k")
    fixture.store.advance(milliseconds: 11_001)
    try await fixture.sidecar.scan()
    #expect(await fixture.hit("k") == .revived)
    #expect(try await fixture.record("k")?.generation == 2)
    #expect(try await fixture.journal().map(\.item).last == .cancel(fixture.entry("k"), of: 1, generation: 2))
    #expect(try await fixture.sidecar.outcomes.areDue([(1, fixture.entry("k"))]) == [false])
    #expect(try await fixture.acknowledge(1, "k", isLast: true) == .stale(livingGeneration: 2))
    #expect(try await fixture.record("k")?.state == .live)
  }

  @Test func aThousandRevivalsAtOnce() async throws {
    let fixture = try await EntryFixture()
    let keys = (0..<1_000).map { Bytes("k\($0)") }
    _ = await fixture.perform(keys.map { ($0, .register(EntryRegistration())) })
    fixture.store.advance(milliseconds: 11_001)
    try await fixture.sidecar.scan()
    #expect(await fixture.perform(keys.map { ($0, .hit) }).allSatisfy { $0 == .revived })
    #expect(fixture.sidecar.journal.head == 2_000)
    #expect(fixture.sidecar.totals(of: fixture.cache).totals.liveEntries == 1_000)
  }

  @Test func acknowledgementsEndAnEviction() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k")
    fixture.store.advance(milliseconds: 11_001)
    try await fixture.sidecar.scan()
    #expect(
      try await fixture.sidecar.outcomes.areDue([(1, fixture.entry("k")), (2, fixture.entry("k"))]) == [true, false])
    #expect(try await fixture.acknowledge(1, "k", isLast: false) == .accepted)
    #expect(await fixture.hit("k") == .evicting, "somebody has deleted it already")
    #expect(try await fixture.sidecar.outcomes.keep(fixture.entry("k"), sequence: 1, ttlMilliseconds: nil) == .tooLate)
    #expect(try await fixture.acknowledge(1, "k", isLast: true) == .accepted)
    #expect(try await fixture.record("k") == nil)
    #expect(try await fixture.acknowledge(1, "k", isLast: true) == .stale(livingGeneration: nil))
    #expect(fixture.sidecar.totals(of: fixture.cache).totals.evictingEntries == 0)
  }

  @Test func cursorsCommitWithTheAcknowledgement() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k")
    _ = await fixture.evict("k")
    let cursor = fixture.layout.subscriber("me")
    let outcomes = try await fixture.sidecar.outcomes.settle(
      [Acknowledgement(sequence: 1, entry: fixture.entry("k"), generation: 1, isLast: true)],
      cursors: [Transition(operations: [.put(PutRequest(cursor, "1"))])])
    #expect(outcomes == [.accepted])
    #expect(try await fixture.store.get([cursor])[0]?.value == "1")
  }

  @Test func aVetoKeepsTheEntry() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k")
    _ = await fixture.evict("k")
    let outcome = try await fixture.sidecar.outcomes.keep(fixture.entry("k"), sequence: 1, ttlMilliseconds: 60_000)
    #expect(outcome == .kept)
    let record = try await fixture.record("k")
    #expect(record?.generation == 2 && record?.ttlMilliseconds == 60_000)
  }

  @Test func whatOneSidecarEvictsTheOtherOnesKnow() async throws {
    let fixture = try await EntryFixture()
    let other = try await EntryFixture(store: fixture.store)
    let running = Task { await other.sidecar.run() }
    _ = await fixture.register("k")
    _ = await fixture.evict("k")
    #expect(await fixture.hit("k") == .revived)
    // It has nothing to append itself: only the journal's head tells it.
    while other.sidecar.journal.head < 2 { try await Task.sleep(for: .milliseconds(1)) }
    #expect(try await other.journal().map(\.sequence) == [1, 2])
    running.cancel()
    await running.value
  }

  @Test func aBlobThatIsGoneTakesItsNewLifeWithIt() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k")
    _ = await fixture.evict("k")
    #expect(await fixture.hit("k") == .revived)
    #expect(try await fixture.acknowledge(1, "k", isLast: true, gone: true) == .stale(livingGeneration: 2))
    #expect(try await fixture.record("k") == nil)
    #expect(fixture.store.leaseCount == 0)
    #expect(await fixture.hit("k") == .registered, "and the next hit is not answered from memory")
  }

  @Test func aChangedTTLTakesANewLease() async throws {
    let fixture = try await EntryFixture()
    _ = await fixture.register("k")
    let outcome = await fixture.perform([("k", .register(EntryRegistration(ttlMilliseconds: 60_000)))])[0]
    #expect(outcome == .updated)
    #expect(fixture.store.leaseCount == 1)
    fixture.store.advance(milliseconds: 59_000)
    try await fixture.sidecar.scan()
    #expect(try await fixture.record("k")?.state == .live)
  }

  @Test func totalsAreCountedAndFollowed() async throws {
    let fixture = try await EntryFixture()
    for number in 0..<30 { _ = await fixture.register(Bytes("k\(number)"), size: 2) }
    for number in 0..<10 { _ = await fixture.evict(Bytes("k\(number)")) }
    let followed = fixture.sidecar.totals(of: fixture.cache)
    #expect(followed.totals.liveEntries == 20 && followed.totals.evictingBytes == 20 && !followed.isExact)
    try await fixture.sidecar.scan()
    let counted = fixture.sidecar.totals(of: fixture.cache)
    #expect(counted.totals == followed.totals && counted.isExact)
  }
}
