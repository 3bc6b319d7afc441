import ClusterNode
import Keyspace
import NIOCore
import NIOPosix
import Primitives
import StateMachine
import Testing

/// The raft thread on a real disk: what is acknowledged stays, and the lease clock goes on where it stood.
@Suite struct NodeTests {
  @Test func whatWasAcknowledgedIsThereAfterARestart() async throws {
    let fixture = try NodeFixture()
    for number in 0..<100 { try await fixture.put("k\(number)", "v\(number)") }
    let revision = fixture.node.read { $0.keyspace.revision }
    let identity = fixture.node.header
    try await fixture.restart()
    #expect(try await fixture.value("k99") == "v99")
    #expect(fixture.node.read { $0.keyspace.revision } == revision)
    #expect(fixture.node.header.memberID == identity.memberID)
    #expect(fixture.node.header.term > identity.term)
    await fixture.node.stop()
  }

  @Test func proposalsOfManyCallersComeBackEachWithItsOwnResult() async throws {
    let fixture = try NodeFixture()
    let node = fixture.node
    let revisions = try await withThrowingTaskGroup(of: Int64.self) { group in
      for number in 0..<500 {
        group.addTask {
          let results = try await node.committed([.put(PutRequest(Bytes("k\(number)"), "v")), .tick])
          guard case .put(_, let revision) = results[0], results[1] == .ticked else {
            throw UnexpectedResult(results: results)
          }
          return revision
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(revisions.sorted() == Array(2...501))
    await fixture.node.stop()
  }

  @Test func theStoreCarriesWhatTheLogHasForgotten() async throws {
    let fixture = try NodeFixture { $0.commitAfterLogBytes = 64 * 1024 }
    let value = String(repeating: "x", count: 1_000)
    for number in 0..<400 { try await fixture.put("k\(number % 50)", "\(number) \(value)") }
    _ = try await fixture.propose(.leaseGrant(id: 7, ttlMilliseconds: 600_000))
    let hash = try fixture.node.read { try $0.keyspace.hash(at: 0) }
    try await fixture.restart()
    try await fixture.barrier()
    #expect(try fixture.node.read { try $0.keyspace.hash(at: 0) } == hash)
    #expect(try await fixture.value("k49") == "399 \(value)")
    #expect(fixture.node.read { $0.leases.contains(7) })
    await fixture.node.stop()
  }

  @Test func aRestartNeitherShortensALeaseNorCountsTheOutage() async throws {
    let fixture = try NodeFixture()
    _ = try await fixture.propose(.leaseGrant(id: 7, ttlMilliseconds: 60_000))
    let granted = fixture.node.read { $0.leases.deadline(of: 7) }
    try await fixture.put("stamps the clock", "")
    let before = fixture.node.read { $0.clock }
    try await fixture.restart()
    try await fixture.barrier()
    let after = fixture.node.leaseClock
    #expect(fixture.node.read { $0.leases.deadline(of: 7) } == granted)
    #expect(after >= before)
    #expect(after.milliseconds - before.milliseconds < 30_000)
    await fixture.node.stop()
  }

  @Test func aLeaseRunsOutByItselfWithItsKeys() async throws {
    let fixture = try NodeFixture()
    _ = try await fixture.propose(
      .grantAndTransact(
        grants: [LeaseGrant(id: 7, ttlMilliseconds: 300)],
        request: TransactionRequest(success: [.put(PutRequest("leased", "", lease: 7))])))
    try await fixture.put("free", "")
    #expect(try await eventually { fixture.node.read { !$0.leases.contains(7) } })
    #expect(try await fixture.value("leased") == nil)
    #expect(try await fixture.value("free") == "")
    await fixture.node.stop()
  }

  @Test func aStoppedNodeSaysSo() async throws {
    let fixture = try NodeFixture()
    await fixture.node.stop()
    await #expect(throws: ProposalError.stopped) { try await fixture.put("k", "v") }
  }
}
