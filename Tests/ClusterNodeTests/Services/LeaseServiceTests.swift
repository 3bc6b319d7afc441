import ClusterNode
import EtcdAPI
import Primitives
import StateMachine
import Testing
import Wire

@Suite("Lease service")
struct LeaseServiceTests {
  let client = Client()

  func keepAlive(_ id: Int64) -> EtcdLeaseKeepAliveRequest { .with { $0.id = id } }

  @Test("A grant picks an ID, and raises a TTL that is too short", arguments: [(10, 10), (1, 2), (0, 2), (-5, 2)])
  func grant(asked: Int64, granted: Int64) throws {
    let answer = try client.grant(ttl: asked)
    #expect(answer.id > 0 && answer.ttl == granted)
    #expect(answer.header.revision == 1)
  }

  @Test("The minimum is the node's")
  func minimum() throws {
    var settings = EtcdSettings()
    settings.minLeaseTTLSeconds = 8
    #expect(try Client(settings).grant(ttl: 3).ttl == 8)
  }

  @Test("IDs: the client's own, taken twice, and a TTL beyond the limit")
  func refusals() throws {
    #expect(try client.grant(ttl: 10, id: 77).id == 77)
    #expect(throws: GRPCStatus(.failedPrecondition, "etcdserver: lease already exists")) {
      try client.grant(ttl: 10, id: 77)
    }
    #expect(try client.grant(ttl: 9_000_000_000).ttl == 9_000_000_000)
    #expect(throws: GRPCStatus(.outOfRange, "etcdserver: too large lease TTL")) {
      try client.grant(ttl: 9_000_000_001)
    }
  }

  @Test("Time to live counts whole seconds down, names the keys when asked, and is -1 for what is not there")
  func timeToLive() throws {
    let id = try client.grant(ttl: 10).id
    try client.put("b", "", lease: id)
    try client.put("a", "", lease: id)
    client.node.change { $0.clock = LeaseClock(milliseconds: $0.clock.milliseconds + 3_001) }
    let answer = try client.timeToLive(id, keys: true)
    #expect(answer.ttl == 6 && answer.grantedTtl == 10 && answer.id == id)
    #expect(answer.keys.map(text) == ["a", "b"])
    #expect(try client.timeToLive(id).keys.isEmpty)

    let unknown = try client.timeToLive(5)
    #expect(unknown.ttl == -1 && unknown.grantedTtl == 0 && unknown.id == 5)
    #expect(unknown.header.memberID == 7)
  }

  @Test("A revoke deletes the keys; a second one finds nothing")
  func revoke() throws {
    let id = try client.grant(ttl: 10).id
    try client.put("a", "", lease: id)
    let request = EtcdLeaseRevokeRequest.with { $0.id = id }
    let answer: EtcdLeaseRevokeResponse = try client.unary("/etcdserverpb.Lease/LeaseRevoke", request)
    #expect(answer.header.revision == 3)
    #expect(try client.range { $0.key = bytes("a") }.count == 0)
    #expect(throws: EtcdErrors.leaseNotFound) {
      let _: EtcdLeaseRevokeResponse = try client.unary("/etcdserverpb.Lease/LeaseRevoke", request)
    }
  }

  @Test("Leases are listed in the order in which they run out")
  func list() throws {
    _ = try client.grant(ttl: 30, id: 3)
    _ = try client.grant(ttl: 10, id: 1)
    _ = try client.grant(ttl: 20, id: 2)
    let answer: EtcdLeaseLeasesResponse = try client.unary("/etcdserverpb.Lease/LeaseLeases", EtcdLeaseLeasesRequest())
    #expect(answer.leases.map(\.id) == [1, 2, 3])
  }

  @Test("All keepalives of one turn, from all streams, are one command; each is answered in order on its stream")
  func batching() throws {
    for id in 1...3 { _ = try client.grant(ttl: 10, id: Int64(id)) }
    let before = client.node.proposed.count
    let (one, oneHandler) = try client.open("/etcdserverpb.Lease/LeaseKeepAlive")
    let (two, twoHandler) = try client.open("/etcdserverpb.Lease/LeaseKeepAlive")
    oneHandler.receive(keepAlive(1).wireBuffer)
    twoHandler.receive(keepAlive(2).wireBuffer)
    oneHandler.receive(keepAlive(99).wireBuffer)
    oneHandler.receive(keepAlive(3).wireBuffer)
    #expect(client.node.proposed.count == before)
    client.loop.run()
    #expect(client.node.proposed[before...] == [[.leaseRenew(ids: [1, 2, 99, 3])]])
    let answers = try one.take(EtcdLeaseKeepAliveResponse.self)
    #expect(answers.map(\.id) == [1, 99, 3])
    #expect(answers.map(\.ttl) == [10, 0, 10])
    #expect(try two.take(EtcdLeaseKeepAliveResponse.self).map(\.ttl) == [10])
    #expect(client.metrics.leasesRenewed.value == 3)
    #expect(one.status == nil)
  }

  @Test("A renewal starts the lease's time again")
  func renewal() throws {
    let id = try client.grant(ttl: 10).id
    client.node.change { $0.clock = LeaseClock(milliseconds: $0.clock.milliseconds + 7_000) }
    #expect(try client.timeToLive(id).ttl == 3)
    _ = try client.send("/etcdserverpb.Lease/LeaseKeepAlive", keepAlive(id).wireBuffer)
    #expect(try client.timeToLive(id).ttl == 10)
  }

  @Test("A stream that the client has ended is closed when its last keepalive is answered")
  func halfClose() throws {
    let (call, handler) = try client.open("/etcdserverpb.Lease/LeaseKeepAlive")
    handler.receive(keepAlive(1).wireBuffer)
    handler.halfClosed()
    #expect(call.status == nil)
    client.loop.run()
    #expect(call.sent.count == 1 && call.status == .ok)
  }

  @Test("Without a leader a keepalive ends its stream")
  func outage() throws {
    client.node.change { $0.outage = .noLeader }
    let call = try client.send("/etcdserverpb.Lease/LeaseKeepAlive", keepAlive(1).wireBuffer)
    #expect(call.status == EtcdErrors.noLeader && call.sent.isEmpty)
  }
}
