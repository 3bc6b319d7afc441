import ClusterNode
import EtcdAPI
import Testing
import Wire

@Suite("Cluster, maintenance and health services")
struct MemberServicesTests {
  let client = Client()

  @Test("The member list names this member, whole, without a revision", arguments: [true, false])
  func list(linearizable: Bool) throws {
    let answer: EtcdMemberListResponse = try client.unary(
      "/etcdserverpb.Cluster/MemberList", EtcdMemberListRequest.with { $0.linearizable = linearizable })
    #expect(answer.header.revision == 0 && answer.header.clusterID == 42)
    let member = try #require(answer.members.first)
    #expect(member.id == 7 && member.name == "alone" && !member.isLearner)
    #expect(member.peerUrls == ["http://localhost:2380"] && member.clientUrls.isEmpty)
  }

  @Test("Changes of the only member, and of others")
  func changes() throws {
    func remove(_ id: UInt64) throws -> EtcdMemberRemoveResponse {
      try client.unary("/etcdserverpb.Cluster/MemberRemove", EtcdMemberRemoveRequest.with { $0.id = id })
    }
    func promote(_ id: UInt64) throws -> EtcdMemberPromoteResponse {
      try client.unary("/etcdserverpb.Cluster/MemberPromote", EtcdMemberPromoteRequest.with { $0.id = id })
    }
    func moveLeader(_ id: UInt64) throws -> EtcdMoveLeaderResponse {
      try client.unary("/etcdserverpb.Maintenance/MoveLeader", EtcdMoveLeaderRequest.with { $0.targetID = id })
    }
    #expect(throws: EtcdErrors.memberNotFound) { try remove(8) }
    #expect(throws: EtcdErrors.notEnoughStartedMembers) { try remove(7) }
    #expect(throws: EtcdErrors.memberNotFound) { try promote(8) }
    #expect(throws: EtcdErrors.memberNotLearner) { try promote(7) }
    #expect(throws: EtcdErrors.badLeaderTransferee) { try moveLeader(8) }
    #expect(try moveLeader(7) == EtcdMoveLeaderResponse())
  }

  @Test("Status tells version, sizes, leader and indexes")
  func status() throws {
    try client.put("a", "1")
    let status: EtcdStatusResponse = try client.unary("/etcdserverpb.Maintenance/Status", EtcdStatusRequest())
    #expect(status.version == "3.5.21" && status.leader == 7 && status.raftTerm == 3)
    #expect(status.raftIndex == 2 && status.raftAppliedIndex == 2 && !status.isLearner)
    #expect(status.dbSize == 4_096 && status.dbSizeInUse == 1_024 && status.errors.isEmpty)
    #expect(status.header.revision == 2)
    client.node.change { $0.leaderID = 0 }
    let leaderless: EtcdStatusResponse = try client.unary("/etcdserverpb.Maintenance/Status", EtcdStatusRequest())
    #expect(leaderless.errors == ["etcdserver: no leader"])
  }

  @Test("Whether one could go back is answered by etcd's rule; going back is refused")
  func downgrade() throws {
    func ask(_ action: EtcdDowngradeRequest.DowngradeAction, _ version: String) throws -> EtcdDowngradeResponse {
      let request = EtcdDowngradeRequest.with {
        $0.action = action
        $0.version = version
      }
      return try client.unary("/etcdserverpb.Maintenance/Downgrade", request)
    }
    for version in ["3.4", "3.4.0", "3.4.23", "3.4.0-rc.1"] {
      let answer = try ask(.validate, version)
      #expect(answer.version == "3.5.0" && answer.header.revision == 1)
    }
    for version in ["3.3.0", "3.5.0", "3.6", "4.4", "2.4.0"] {
      #expect(throws: EtcdErrors.downgradeTarget) { try ask(.validate, version) }
    }
    for version in ["", "3", "x", "3.4.0.1", "3.-4", "3..4", "v3.4"] {
      #expect(throws: EtcdErrors.downgradeVersionFormat) { try ask(.validate, version) }
    }
    #expect(throws: EtcdErrors.downgradeTarget) { try ask(.enable, "3.3") }
    #expect(throws: EtcdErrors.downgradeNotOffered) { try ask(.enable, "3.4.0") }
    #expect(throws: EtcdErrors.noDowngrade) { try ask(.cancel, "") }
    #expect(throws: EtcdErrors.unknownMethod) { try ask(.UNRECOGNIZED(5), "") }
  }

  @Test("Equal histories have equal hashes, up to any revision")
  func hashes() throws {
    func hashKV(_ client: Client, _ revision: Int64) throws -> EtcdHashKVResponse {
      try client.unary("/etcdserverpb.Maintenance/HashKV", EtcdHashKVRequest.with { $0.revision = revision })
    }
    let other = Client()
    for client in [client, other] {
      try client.put("a", "1")
      try client.put("b", "2")
    }
    try client.put("c", "3")
    #expect(try hashKV(client, 3).hash == hashKV(other, 0).hash)
    #expect(try hashKV(client, 0).hash != hashKV(other, 0).hash)
    #expect(try hashKV(client, 3).header.revision == 4)
    #expect(throws: EtcdErrors.futureRevision) { try hashKV(client, 9) }
    let whole: EtcdHashResponse = try client.unary("/etcdserverpb.Maintenance/Hash", EtcdHashRequest())
    #expect(whole.hash == (try hashKV(client, 0).hash))
  }

  @Test("Alarms: none to list, none to disarm. Defragmenting is always done")
  func upkeep() throws {
    for action in [EtcdAlarmRequest.AlarmAction.get, .deactivate] {
      let answer: EtcdAlarmResponse = try client.unary(
        "/etcdserverpb.Maintenance/Alarm", EtcdAlarmRequest.with { $0.action = action })
      #expect(answer.alarms.isEmpty && answer.header.revision == 1)
    }
    let answer: EtcdDefragmentResponse = try client.unary(
      "/etcdserverpb.Maintenance/Defragment", EtcdDefragmentRequest())
    #expect(!answer.hasHeader)
  }

  @Test("The server as a whole serves; other names are unknown")
  func health() throws {
    func check(_ service: String) throws -> HealthHealthCheckResponse {
      try client.unary("/grpc.health.v1.Health/Check", HealthHealthCheckRequest.with { $0.service = service })
    }
    #expect(try check("").status == .serving)
    #expect(throws: GRPCStatus(.notFound, "unknown service")) { try check("nobody") }
    let watch = try client.send("/grpc.health.v1.Health/Watch", HealthHealthCheckRequest().wireBuffer)
    #expect(try watch.take(HealthHealthCheckResponse.self).map(\.status) == [.serving])
    #expect(watch.status == nil)
  }
}
