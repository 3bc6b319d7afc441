import ClusterNode
import EtcdAPI
import Foundation
import Testing
import Wire

@Suite("Locks over the wire")
struct LockServiceTests {
  let client = Client()

  init() { client.node.change { $0.tellsChanges = true } }

  private func lock(_ name: String, lease: Int64) throws -> (FakeCall, any GRPCHandler) {
    let (call, handler) = try client.open("/v3lockpb.Lock/Lock")
    handler.receive(
      EtcdLockLockRequest.with {
        $0.name = bytes(name)
        $0.lease = lease
      }.wireBuffer)
    handler.halfClosed()
    client.loop.run()
    return (call, handler)
  }

  private func unlock(_ key: String) throws {
    let request = EtcdLockUnlockRequest.with { $0.key = bytes(key) }
    let _: EtcdLockUnlockResponse = try client.unary("/v3lockpb.Lock/Unlock", request)
  }

  private func keys() throws -> [String] {
    try client.range {
      $0.key = bytes("l/")
      $0.rangeEnd = bytes("l0")
    }.kvs.map { text($0.key) }
  }

  private func heldKey(_ call: FakeCall) throws -> String {
    #expect(call.status == .ok)
    return text(try #require(try call.take(EtcdLockLockResponse.self).first).key)
  }

  @Test("Callers hold it one after the other, in the order in which they came")
  func order() throws {
    for lease in [Int64(17), 18, 255] { _ = try client.grant(ttl: 60, id: lease) }
    let (first, _) = try lock("l", lease: 17)
    let (second, _) = try lock("l", lease: 255)
    let (third, _) = try lock("l", lease: 18)
    #expect(try heldKey(first) == "l/11")
    #expect(second.status == nil && third.status == nil)
    try unlock("l/11")
    #expect(try heldKey(second) == "l/ff")
    #expect(third.status == nil)
    _ = try client.deleteRange { $0.key = bytes("l/ff") }
    #expect(try heldKey(third) == "l/12")
    #expect(client.metrics.watchers.value == 0)
  }

  @Test("A caller that leaves gives its place up; those behind it go on waiting for whoever is before it")
  func cancellation() throws {
    for lease in [Int64(1), 2, 3] { _ = try client.grant(ttl: 60, id: lease) }
    let (first, _) = try lock("l", lease: 1)
    let (second, waiting) = try lock("l", lease: 2)
    let (third, _) = try lock("l", lease: 3)
    second.finish(GRPCStatus(.cancelled, ""))
    waiting.cancelled()
    client.loop.run()
    #expect(try keys() == ["l/1", "l/3"])
    #expect(third.status == nil)
    try unlock(try heldKey(first))
    #expect(try heldKey(third) == "l/3")
    #expect(client.metrics.watchers.value == 0 && client.metrics.watchStreams.value == 0)
  }

  @Test("A caller that leaves before its key is there leaves none behind")
  func earlyCancellation() throws {
    _ = try client.grant(ttl: 60, id: 1)
    let (call, handler) = try client.open("/v3lockpb.Lock/Lock")
    handler.receive(
      EtcdLockLockRequest.with {
        $0.name = bytes("l")
        $0.lease = 1
      }.wireBuffer)
    call.finish(GRPCStatus(.cancelled, ""))
    handler.cancelled()
    client.loop.run()
    #expect(try keys().isEmpty)
  }

  @Test("A caller whose lease runs out while it waits does not get the lock")
  func expiredSession() throws {
    for lease in [Int64(1), 2] { _ = try client.grant(ttl: 60, id: lease) }
    let (first, _) = try lock("l", lease: 1)
    let (second, _) = try lock("l", lease: 2)
    let _: EtcdLeaseRevokeResponse = try client.unary(
      "/etcdserverpb.Lease/LeaseRevoke", EtcdLeaseRevokeRequest.with { $0.id = 2 })
    #expect(second.status == nil)
    try unlock(try heldKey(first))
    #expect(second.status == GRPCStatus(.unknown, "mutex: session is expired"))
    #expect(try keys().isEmpty)
  }

  @Test("The same lease holds it once; without a lease the caller is given one of a minute; a lost lease is an error")
  func leases() throws {
    _ = try client.grant(ttl: 60, id: 1)
    let (first, _) = try lock("l", lease: 1)
    let (again, _) = try lock("l", lease: 1)
    #expect(try heldKey(first) == "l/1")
    #expect(try heldKey(again) == "l/1")
    let (own, _) = try lock("other", lease: 0)
    let lease = try #require(Int64(try heldKey(own).dropFirst("other/".count), radix: 16))
    #expect(try client.timeToLive(lease).grantedTtl == 60)
    let (lost, _) = try lock("l", lease: 99)
    #expect(lost.status == GRPCStatus(.unknown, "etcdserver: requested lease not found"))
    #expect(throws: GRPCStatus(.unknown, "etcdserver: key is not provided")) { try unlock("") }
  }

  @Test("A learner serves neither, and what is no request is said to be none")
  func refusals() throws {
    let broken = try client.send("/v3lockpb.Lock/Lock", .init(bytes: [0xff]))
    #expect(broken.status?.code == .internal)
    let missing = try client.open("/v3lockpb.Lock/Lock")
    missing.1.halfClosed()
    #expect(missing.0.status?.code == .internal)
    client.node.change { $0.leaderID = 0 }
    let call = try client.send(
      "/v3lockpb.Lock/Lock", EtcdLockLockRequest().wireBuffer, headers: ["hasleader": "true"])
    #expect(call.status == EtcdErrors.noLeader)
  }
}
