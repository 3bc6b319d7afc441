import CacheSidecar
import ClusterNode
import Glibc
import Keyspace
import Logging
import NIOPosix
import Primitives
import SidecarCore
import StateMachine
import TestSupport
import Testing

/// The sidecar on the real node, with its log on disk.
@Suite(.timeLimit(.minutes(1))) struct EntryNodeTests {
  private func quietLogger() -> Logger {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
  }

  private func withNode(in folder: String, _ body: (EmbeddedStore) async throws -> Void) async throws {
    let node = try Node(
      configuration: NodeConfiguration(name: "n", dataDirectory: folder), logger: quietLogger())
    let store = EmbeddedStore(node: node, eventLoop: MultiThreadedEventLoopGroup.singleton.any())
    // A fresh member elects itself first.
    while node.status.leaderID == 0 { try await Task.sleep(for: .milliseconds(5)) }
    let result: Result<Void, any Error>
    do { result = .success(try await body(store)) } catch { result = .failure(error) }
    await node.stop()
    try result.get()
  }

  @Test func theStoreDoesWhatTheContractSays() async throws {
    let folder = TemporaryDirectory()
    try await withNode(in: folder.path) { store in
      let put = Transition(
        comparisons: [.isAbsent("k")], grants: [LeaseGrant(id: 5, ttlMilliseconds: 60_000)],
        operations: [.put(PutRequest("k", "v", lease: 5))])
      let outcomes = try await store.commit([put, put])
      guard case .done(_, let revision) = outcomes[0], case .conflict = outcomes[1] else {
        Issue.record("\(outcomes)")
        return
      }
      let records = try await store.get(["k", "other"])
      #expect(records[0]?.modRevision == revision && records[0]?.lease == 5 && records[1] == nil)
      #expect(try await store.renew([5, 6]) == [60_000, 0])
      let times = try await store.timeToLive([5, 6])
      #expect(times[0]?.grantedMilliseconds == 60_000 && times[1] == nil)
      // A failed guard leaves its leases alone, a good one ends them.
      let refused = Transition(comparisons: [.isAbsent("k")], operations: [], revokes: [5])
      guard case .conflict = try await store.commit([refused])[0] else {
        Issue.record("the guard holds")
        return
      }
      #expect(try await store.get(["k"])[0] != nil)
      let deleting = Transition(operations: [.delete(DeleteRequest(.single("k")))], revokes: [5])
      _ = try await store.commit([deleting])
      #expect(try await store.timeToLive([5]) == [nil], "with the transition, not behind it")
      var events: [KeyspaceEvent] = []
      for try await batch in store.watch(prefix: "k", from: revision) {
        events += batch.events
        if events.count == 2 { break }
      }
      #expect(events.map(\.kind) == [.put, .delete(.deleted)])
    }
  }

  @Test func anEntryRunsOutAndItsEvictionSurvivesARestart() async throws {
    let folder = TemporaryDirectory()
    let policies = [try CachePolicy(flag: "c:ttl=1s,window=0s,jitter=0")]
    try await withNode(in: folder.path) { store in
      let sidecar = Sidecar(store: store, policies: policies, logger: quietLogger())
      try await sidecar.open()
      let running = Task { await sidecar.run() }
      let cache = try #require(sidecar.caches["c"])
      let keys = (0..<200).map { Bytes("k\($0)") }
      let results = await sidecar.perform(
        keys.map { ($0, .register(EntryRegistration(sizeBytes: 1))) }, in: cache, hook: .batch)
      for result in results { #expect(try result.get() == .registered) }
      while sidecar.journal.head < 200 { try await Task.sleep(for: .milliseconds(10)) }
      running.cancel()
      await running.value
    }
    try await withNode(in: folder.path) { store in
      let sidecar = Sidecar(store: store, policies: policies, logger: quietLogger())
      try await sidecar.open()
      let items = try await sidecar.journal.items(from: 1, limit: 1_000)
      #expect(items.map(\.sequence) == Array(1...200))
      let due = try await sidecar.outcomes.areDue(
        items.compactMap { item in
          guard case .evict(let entry, _, _, _, _, _) = item.item else { return nil }
          return (item.sequence, entry)
        })
      #expect(due.allSatisfy { $0 })
      let cache = try #require(sidecar.caches["c"])
      let results = await sidecar.perform([("k7", .hit)], in: cache, hook: .http)
      #expect(try results[0].get() == .revived)
    }
  }
}
