import CacheSidecar
import Foundation
import Primitives
import SidecarCore
import Testing

@Suite struct EventHubTests {
  @Test func aRecordThatCannotBeReadStopsTheStartAndIsNamed() async throws {
    let backend = EventTestBackend()
    backend.state.withLock { $0.records[StoreLayout().subscriber("me")] = Bytes([9, 9, 9]) }
    do {
      _ = try await EventTestServer.start(backend)
      Issue.record("it has started")
    } catch let error as SidecarStoreError {
      guard case .refused(let why) = error else { throw error }
      #expect(why == "the record of subscriber me cannot be read: unknown format version 9")
    }
  }

  @Test func aCursorOfAnotherJournalStartsAtTheBeginning() async throws {
    let backend = EventTestBackend()
    backend.evict(["a"])
    let record = SubscriberRecord(epoch: 1, scope: .allCaches, cursor: SubscriberCursor(floor: 500))
    backend.state.withLock { $0.records[StoreLayout().subscriber("me")] = record.encoded() }
    let test = try await EventTestServer.start(backend)
    #expect(test.hub.directory.records["me"]?.cursor.floor == 0)
    await test.stop()
  }

  @Test func anEvictionWaitsForAPolicysNameThatHasNeverComeAndTheJournalIsKeptForIt() async throws {
    let test = try await EventTestServer.start { $0.policyNames = ["c": ["mirror"]] }
    test.backend.evict(["a"])
    let one = try test.nc()
    try one.type("sub one\nack to 1\n")
    _ = try await one.lines(2)
    try await eventually("one has acknowledged") { try test.backend.record(of: "one")?.cursor.floor == 1 }
    #expect(test.backend.state.withLock { $0.due } == [1])
    let mirror = try test.nc()
    try mirror.type("sub mirror\n")
    _ = try await mirror.lines(2)
    try mirror.type("ack 1\n")
    _ = try await mirror.line()
    #expect(test.backend.state.withLock { $0.due }.isEmpty)
    await test.stop()
  }

  @Test func whatNobodyWaitsForStaysInTheJournalForTheNextWhoStartsFromTheOldest() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["a", "b"])
    let late = try test.nc()
    try late.type("sub late from=now\n")
    #expect(try await late.line().contains(#""acked":2"#))
    test.backend.evict(["c"])
    _ = try await late.line()
    try late.type("ack 3\n")
    _ = try await late.line()
    test.hub.setPolicyNames([:])  // sweeps
    try await eventually("c is settled") { test.backend.state.withLock { $0.due } == [1, 2] }
    let audit = try test.nc()
    try audit.type("sub audit\n")
    #expect(try await audit.lines(3).dropFirst().allSatisfy { $0.contains("evict") }, "a and b are still told")
    try audit.type("ack to 2\n")
    _ = try await audit.line()
    #expect(test.backend.state.withLock { $0.due }.isEmpty, "and wait for nobody else")
    await test.stop()
  }

  @Test func metricsShowEverySubscriber() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["a", "b"])
    let nc = try test.nc()
    try nc.type("sub me inflight=1\n")
    _ = try await nc.lines(2)
    let text = await test.hub.metricsText()
    #expect(text.contains("leasehold_subscriber_lag{subscriber=\"me\"} 2\n"))
    #expect(text.contains("leasehold_subscriber_unacked{subscriber=\"me\"} 1\n"))
    #expect(text.contains("leasehold_subscriber_connected{subscriber=\"me\"} 1\n"))
    await test.stop()
  }
}
