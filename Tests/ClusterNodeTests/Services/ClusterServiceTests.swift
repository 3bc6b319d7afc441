import ClusterNode
import EtcdAPI
import Keyspace
import Primitives
import StateMachine
import Testing
import Wire

@Suite("Changes of the members over the wire")
struct ClusterServiceTests {
  let client = Client()

  private func add(_ urls: [String], isLearner: Bool = false) throws -> EtcdMemberAddResponse {
    try client.unary(
      "/etcdserverpb.Cluster/MemberAdd",
      EtcdMemberAddRequest.with {
        $0.peerUrls = urls
        $0.isLearner = isLearner
      })
  }

  private func update(_ id: UInt64, _ urls: [String]) throws -> EtcdMemberUpdateResponse {
    try client.unary(
      "/etcdserverpb.Cluster/MemberUpdate",
      EtcdMemberUpdateRequest.with {
        $0.id = id
        $0.peerUrls = urls
      })
  }

  private func remove(_ id: UInt64) throws -> EtcdMemberRemoveResponse {
    try client.unary("/etcdserverpb.Cluster/MemberRemove", EtcdMemberRemoveRequest.with { $0.id = id })
  }

  private func promote(_ id: UInt64) throws -> EtcdMemberPromoteResponse {
    try client.unary("/etcdserverpb.Cluster/MemberPromote", EtcdMemberPromoteRequest.with { $0.id = id })
  }

  private func moveLeader(_ id: UInt64) throws -> EtcdMoveLeaderResponse {
    try client.unary("/etcdserverpb.Maintenance/MoveLeader", EtcdMoveLeaderRequest.with { $0.targetID = id })
  }

  /// Members that have told their names.
  private func start(_ ids: UInt64...) {
    client.node.change { contents in
      var (results, events) = ([CommandResult](), [KeyspaceEvent]())
      contents.machine.apply(
        CommandBatch(
          clock: .zero, commands: ids.map { .member(.publish(id: $0, name: "n\($0)", clientURLs: ["http://c:\($0)"])) }),
        index: contents.machine.appliedIndex + 1, term: 3, results: &results, events: &events)
      contents.reachable.formUnion(ids)
    }
  }

  @Test("A member is added, promoted, moved and removed; each answer lists all, and has no revision")
  func life() throws {
    let added = try add(["http://b:2380/", "http://a:2380"], isLearner: true)
    let id = added.member.id
    #expect(id != 0 && added.member.isLearner && added.member.name.isEmpty)
    #expect(added.member.peerUrls == ["http://a:2380", "http://b:2380"], "sorted, in one form")
    #expect(Set(added.members.map(\.id)) == [7, id] && added.header.clusterID == 42 && added.header.revision == 0)
    start(id)
    #expect(try promote(id).members.first { $0.id == id }?.isLearner == false)
    let updated = try update(id, ["http://d:2380"])
    #expect(updated.members.first { $0.id == id }?.peerUrls == ["http://d:2380"])
    #expect(updated.members.first { $0.id == id }?.clientUrls == ["http://c:\(id)"])
    #expect(try remove(id).members.map(\.id) == [7])
    #expect(throws: EtcdErrors.memberNotFound) { try remove(id) }
    #expect(throws: EtcdErrors.memberNotFound) { try promote(id) }
    #expect(throws: EtcdErrors.memberNotFound) { try update(id, ["http://d:2380"]) }
  }

  @Test("What etcd refuses is refused in its words")
  func refusals() throws {
    for urls in [[], ["a:2380"], ["http://a"], ["http://a:1", "ftp://b:1"], ["http://a:1/path"]] {
      #expect(throws: EtcdErrors.badMemberURLs, "\(urls)") { try add(urls) }
      #expect(throws: EtcdErrors.badMemberURLs, "\(urls)") { try update(7, urls) }
    }
    #expect(throws: EtcdErrors.peerURLExists) { try add(["http://localhost:2380"]) }
    let second = try add(["http://b:2380"]).member.id
    #expect(throws: EtcdErrors.notEnoughStartedMembers) { try add(["http://c:2380"]) }
    #expect(throws: EtcdErrors.peerURLExists) { try update(second, ["http://localhost:2380"]) }
    start(second)
    client.node.change { $0.reachable = [] }
    #expect(throws: EtcdErrors.unhealthy) { try add(["http://c:2380"]) }
    let learner = try add(["http://l:2380"], isLearner: true).member.id
    #expect(throws: EtcdErrors.tooManyLearners) { try add(["http://m:2380"], isLearner: true) }
    #expect(throws: EtcdErrors.memberNotLearner) { try promote(second) }
    #expect(throws: EtcdErrors.badLeaderTransferee) { try moveLeader(learner) }
    client.node.change { $0.outage = .noLeader }
    #expect(throws: EtcdErrors.noLeader) { try remove(learner) }
  }

  @Test("The leader gives way to a voter, and is alone in being able to")
  func transfer() throws {
    let second = try add(["http://b:2380"]).member.id
    client.node.change { $0.transferFailure = .tookTooLong }
    #expect(throws: EtcdErrors.leaderTransferTookTooLong) { try moveLeader(second) }
    client.node.change { $0.transferFailure = nil }
    #expect(try moveLeader(second) == EtcdMoveLeaderResponse())
    #expect(client.node.status.leaderID == second)
    #expect(throws: EtcdErrors.notLeader) { try moveLeader(7) }
  }

  @Test("A learner serves its status and reads of what it has, nothing else")
  func learner() throws {
    try client.put("a", "1")
    client.node.change { contents in
      contents.machine = StateMachine.genesis(
        clusterID: 42, members: [ClusterMember(id: 7, peerURLs: [], isLearner: true)], membershipBytes: [])
    }
    let status: EtcdStatusResponse = try client.unary("/etcdserverpb.Maintenance/Status", EtcdStatusRequest())
    #expect(status.isLearner)
    func range(serializable: Bool) throws -> EtcdRangeResponse {
      try client.unary(
        "/etcdserverpb.KV/Range",
        EtcdRangeRequest.with {
          $0.key = bytes("a")
          $0.serializable = serializable
        })
    }
    #expect(try range(serializable: true).count == 0)
    #expect(throws: EtcdErrors.notSupportedForLearner) { try range(serializable: false) }
    #expect(throws: EtcdErrors.notSupportedForLearner) { try client.put("a", "1") }
    #expect(throws: EtcdErrors.notSupportedForLearner) { try add(["http://b:2380"]) }
    let watch = try client.send("/etcdserverpb.Watch/Watch", EtcdWatchRequest().wireBuffer)
    #expect(watch.status == EtcdErrors.notSupportedForLearner)
  }
}
