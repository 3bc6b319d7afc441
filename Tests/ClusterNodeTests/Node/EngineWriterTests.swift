import ClusterNode
import Keyspace
import NIOPosix
import Primitives
import StateMachine
import Storage
import Testing

/// Write-behind on the real node: the engine follows what is applied, is never in its way, and may be full.
@Suite struct EngineWriterTests {
  private func metric(_ name: String, _ metrics: EtcdMetrics) -> Double? {
    metrics.registry.exposition().split(separator: "\n").first { $0.hasPrefix("\(name) ") }
      .flatMap { Double($0.dropFirst(name.count + 1)) }
  }

  @Test func whatIsAppliedIsStoredSoonAndStaysReadable() async throws {
    let engine = FakeEngine()
    let fixture = try NodeFixture(openStore: engine.opener)
    for number in 0..<200 { try await fixture.put("k\(number)", "v\(number)") }
    #expect(try await eventually { engine.now.versions.count == 200 })
    #expect(engine.now.head?.revision == 201)
    #expect(try await fixture.value("k0") == "v0")
    #expect(try await fixture.value("k199") == "v199")
    #expect(fixture.node.status.databaseSizeBytes == 8_192 + 200 * 100)
    await fixture.node.stop()
  }

  @Test func nothingIsStoredWhileOnlyTheLeaseClockTicks() async throws {
    let engine = FakeEngine()
    let fixture = try NodeFixture(openStore: engine.opener)
    try await fixture.put("k", "v")
    #expect(try await eventually { engine.now.versions.count == 1 })
    let commits = engine.now.commits
    for _ in 0..<20 { _ = try await fixture.propose(.tick) }
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    // The engine's thread takes orders in turn: behind this one it has seen the ticks.
    try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
      fixture.node.defragment(on: loop) { done.resume(with: $0) }
    }
    #expect(engine.now.commits == commits)
    await fixture.node.stop()
    #expect(engine.now.commits == commits + 1, "the end stores the clock too")
  }

  @Test func theEndStoresEverythingSoThatTheLogHasNothingToAdd() async throws {
    let fixture = try NodeFixture()
    for number in 0..<50 { try await fixture.put("k\(number)", "") }
    _ = try await fixture.propose(.leaseGrant(id: 7, ttlMilliseconds: 600_000))
    try await fixture.close()
    let directory = try DataDirectory.open(path: fixture.directory)
    let (engine, machine) = try StateEngineForTests.open(directory.statePath)
    #expect(machine.keyspace.keyCount == 50 && machine.leases.contains(7))
    engine.close()
    let base = LogBase(index: machine.appliedIndex, term: machine.appliedTerm)
    let found = try LogInspection.run(directory: directory.memberPath, base: base)
    #expect(found.entries == nil && found.warnings.isEmpty)
    directory.close()
  }

  @Test func aDiskWithoutRoomCostsNothingAndIsTriedAgain() async throws {
    let engine = FakeEngine()
    let fixture = try NodeFixture(openStore: engine.opener)
    engine.hasNoSpace = true
    for number in 0..<100 { try await fixture.put("k\(number)", "v\(number)") }
    #expect(try await eventually { engine.now.attempts >= 2 })
    #expect(engine.now.versions.isEmpty)
    try await fixture.put("more", "still taken")
    #expect(try await fixture.value("k99") == "v99")
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    await #expect(throws: StorageError.self) {
      try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
        fixture.node.defragment(on: loop) { done.resume(with: $0) }
      }
    }
    engine.hasNoSpace = false
    #expect(try await eventually { engine.now.versions.count == 101 })
    #expect(try await fixture.value("more") == "still taken")
    await fixture.node.stop()
  }

  @Test func aRestartWithoutALastCommitReplaysTheLog() async throws {
    let engine = FakeEngine()
    engine.hasNoSpace = true
    let fixture = try NodeFixture(openStore: engine.opener)
    for number in 0..<100 { try await fixture.put("k\(number)", "v\(number)") }
    // The engine could take nothing, not even at the end.
    try await fixture.restart()
    #expect(try await fixture.value("k99") == "v99")
    #expect(fixture.node.read { $0.keyspace.revision } == 101)
    await fixture.node.stop()
  }

  @Test func writesGoOnWhileACommitTakesLong() async throws {
    let engine = FakeEngine()
    let fixture = try NodeFixture(openStore: engine.opener)
    let held = engine.holdCommits()
    for number in 0..<300 { try await fixture.put("k\(number)", "v\(number)") }
    #expect(engine.now.commits == 0)
    held.release()
    #expect(try await eventually { engine.now.versions.count == 300 })
    await fixture.node.stop()
  }

  @Test func metricsTellOfCommitsAndSizes() async throws {
    let engine = FakeEngine()
    let fixture = try NodeFixture(openStore: engine.opener)
    let metrics = EtcdMetrics()
    metrics.observe(fixture.node, settings: EtcdSettings())
    fixture.node.observe(with: metrics)
    try await fixture.put("k", "v")
    #expect(try await eventually { metric("etcd_disk_backend_commit_duration_seconds_count", metrics) == 1 })
    #expect(metric("etcd_mvcc_db_total_size_in_bytes", metrics) == 8_292)
    #expect(metric("etcd_mvcc_db_total_size_in_use_in_bytes", metrics) == 4_196)
    #expect(metric("etcd_server_quota_backend_bytes", metrics) == 2_147_483_648)
    #expect(metric("etcd_server_proposals_pending", metrics) == 0)
    #expect(metric("etcd_server_slow_apply_total", metrics) == 0)
    #expect(metric("leasehold_engine_uncommitted_bytes", metrics) == 0)
    #expect(metric("leasehold_lease_expiry_lag_seconds_count", metrics) == 0)
    let busy = try #require(metric("leasehold_raft_loop_busy_ratio", metrics))
    #expect(busy >= 0 && busy <= 1)
    await fixture.node.stop()
  }
}
