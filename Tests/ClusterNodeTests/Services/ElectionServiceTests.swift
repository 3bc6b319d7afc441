import ClusterNode
import EtcdAPI
import Foundation
import Testing
import Wire

@Suite("Elections over the wire")
struct ElectionServiceTests {
  let client = Client()

  init() throws {
    client.node.change { $0.tellsChanges = true }
    for lease in [Int64(1), 2] { _ = try client.grant(ttl: 60, id: lease) }
  }

  private func campaign(_ value: String, lease: Int64) throws -> (FakeCall, any GRPCHandler) {
    let (call, handler) = try client.open("/v3electionpb.Election/Campaign")
    handler.receive(
      EtcdElectionCampaignRequest.with {
        $0.name = bytes("e")
        $0.value = bytes(value)
        $0.lease = lease
      }.wireBuffer)
    handler.halfClosed()
    client.loop.run()
    return (call, handler)
  }

  private func leaderKey(_ call: FakeCall) throws -> EtcdElectionLeaderKey {
    #expect(call.status == .ok)
    return try #require(try call.take(EtcdElectionCampaignResponse.self).first).leader
  }

  private func leader() throws -> String {
    let answer: EtcdElectionLeaderResponse = try client.unary(
      "/v3electionpb.Election/Leader", EtcdElectionLeaderRequest.with { $0.name = bytes("e") })
    return text(answer.kv.value)
  }

  private func proclaim(_ value: String, as leader: EtcdElectionLeaderKey?) throws {
    let _: EtcdElectionProclaimResponse = try client.unary(
      "/v3electionpb.Election/Proclaim",
      EtcdElectionProclaimRequest.with {
        if let leader { $0.leader = leader }
        $0.value = bytes(value)
      })
  }

  private func resign(_ leader: EtcdElectionLeaderKey?) throws {
    let _: EtcdElectionResignResponse = try client.unary(
      "/v3electionpb.Election/Resign", EtcdElectionResignRequest.with { if let leader { $0.leader = leader } })
  }

  @Test("The first candidate leads, proclaims, and resigns in favour of the next")
  func succession() throws {
    #expect(throws: GRPCStatus(.unknown, "election: no leader")) { try leader() }
    let (first, _) = try campaign("a", lease: 1)
    let (second, _) = try campaign("b", lease: 2)
    let key = try leaderKey(first)
    #expect(text(key.name) == "e" && text(key.key) == "e/1" && key.rev == 2 && key.lease == 1)
    #expect(try leader() == "a")
    try proclaim("a2", as: key)
    #expect(try leader() == "a2")
    #expect(second.status == nil)
    try resign(key)
    #expect(try leader() == "b")
    _ = try leaderKey(second)
    #expect(throws: GRPCStatus(.unknown, "election: not leader")) { try proclaim("late", as: key) }
    try resign(key)
    #expect(try leader() == "b")
  }

  @Test("The leader's key must be named")
  func missingLeader() {
    let missing = GRPCStatus(.unknown, "\"leader\" field must be provided")
    #expect(throws: missing) { try proclaim("x", as: nil) }
    #expect(throws: missing) { try resign(nil) }
  }

  @Test("A candidate that leaves is no candidate any more; one whose lease is gone does not lead")
  func withdrawal() throws {
    _ = try client.grant(ttl: 60, id: 3)
    let (first, _) = try campaign("a", lease: 1)
    let (second, handler) = try campaign("b", lease: 2)
    let (third, _) = try campaign("c", lease: 3)
    second.finish(GRPCStatus(.cancelled, ""))
    handler.cancelled()
    client.loop.run()
    let _: EtcdLeaseRevokeResponse = try client.unary(
      "/etcdserverpb.Lease/LeaseRevoke", EtcdLeaseRevokeRequest.with { $0.id = 3 })
    try resign(try leaderKey(first))
    #expect(third.status == GRPCStatus(.unknown, "election: not leader"))
    #expect(throws: GRPCStatus(.unknown, "election: no leader")) { try leader() }
    #expect(client.metrics.watchStreams.value == 0)
  }

  @Test("Who campaigns again by the same lease proclaims its new value")
  func again() throws {
    let first = try leaderKey(try campaign("a", lease: 1).0)
    let second = try leaderKey(try campaign("b", lease: 1).0)
    #expect(first == second)
    #expect(try leader() == "b")
  }

  @Test("An observer is told of every leader and of what each proclaims")
  func observation() throws {
    let (call, handler) = try client.open("/v3electionpb.Election/Observe")
    handler.receive(EtcdElectionLeaderRequest.with { $0.name = bytes("e") }.wireBuffer)
    handler.halfClosed()
    client.loop.run()
    #expect(call.sent.isEmpty)
    let told = { try call.take(EtcdElectionLeaderResponse.self).map { "\(text($0.kv.value))@\($0.header.revision)" } }
    let first = try leaderKey(try campaign("a", lease: 1).0)
    #expect(try told() == ["a@2"])
    try proclaim("a2", as: first)
    #expect(try told() == ["a2@3"])
    let (second, _) = try campaign("b", lease: 2)
    #expect(try told() == [])
    try resign(first)
    _ = try leaderKey(second)
    #expect(try told().map { String($0.prefix(1)) } == ["b"])
    try resign(
      .with {
        $0.key = bytes("e/2")
        $0.rev = 4
      })
    _ = try campaign("c", lease: 1)
    #expect(try told().map { String($0.prefix(1)) } == ["c"])
    call.finish(GRPCStatus(.cancelled, ""))
    handler.cancelled()
    #expect(client.metrics.watchStreams.value == 0)
  }
}
