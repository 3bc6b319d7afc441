import ClusterNode
import EtcdAPI
import Primitives
import StateMachine
import SwiftProtobuf
import Testing
import Wire

func nativeItem(
  _ key: String, _ value: String = "", ttl: Int64 = 10_000, lease: Int64 = 0
) -> NativeGrantAndPutRequest.Item {
  .with {
    $0.key = bytes(key)
    $0.value = bytes(value)
    $0.ttlMs = ttl
    $0.lease = lease
  }
}

@Suite("Our own lease service")
struct NativeLeaseServiceTests {
  let client = Client()

  func grant(_ leases: [(id: Int64, ttl: Int64)]) throws -> NativeGrantResponse {
    try client.unary(
      "/leaseholdpb.Leases/Grant",
      NativeGrantRequest.with {
        $0.leases = leases.map { lease in
          .with {
            $0.id = lease.id
            $0.ttlMs = lease.ttl
          }
        }
      })
  }

  func grantAndPut(_ items: [NativeGrantAndPutRequest.Item]) throws -> NativeGrantAndPutResponse {
    try client.unary("/leaseholdpb.Leases/GrantAndPut", NativeGrantAndPutRequest.with { $0.items = items })
  }

  func renew(_ ids: [Int64]) throws -> NativeRenewResponse {
    try client.unary("/leaseholdpb.Leases/Renew", NativeRenewRequest.with { $0.ids = ids })
  }

  func timeToLive(_ ids: [Int64]) throws -> NativeTimeToLiveResponse {
    try client.unary("/leaseholdpb.Leases/TimeToLive", NativeTimeToLiveRequest.with { $0.ids = ids })
  }

  func pass(milliseconds: Int64) {
    client.node.change { $0.clock = LeaseClock(milliseconds: $0.clock.milliseconds + milliseconds) }
  }

  @Test("Grants of one request are one proposal; TTLs are milliseconds, and one that is too short is raised")
  func grants() throws {
    let answer = try grant([(5, 2_345), (0, 60_001), (6, 1), (7, -9)])
    #expect(answer.ttlsMs == [2_345, 60_001, 2_000, 2_000])
    #expect(answer.ids[0] == 5 && answer.ids[1] > 0 && answer.ids[2...] == [6, 7])
    #expect(client.node.proposed.count == 1 && client.node.proposed[0].count == 4)
    #expect(client.metrics.leasesGranted.value == 4)
    #expect(answer.header.clusterID == 42 && answer.header.memberID == 7 && answer.header.revision == 1)
    #expect(try timeToLive(answer.ids).remainingMs == answer.ttlsMs)
  }

  @Test("A lease whose ID is taken is told in its place and keeps its time; the others are granted")
  func takenIDs() throws {
    _ = try grant([(5, 10_000)])
    pass(milliseconds: 4_000)
    #expect(try grant([(5, 60_000), (6, 60_000), (6, 50_000)]).ttlsMs == [0, 60_000, 0])
    #expect(try grant([(5, 60_000)]).header.memberID == 7)
    #expect(try timeToLive([5, 6]).remainingMs == [6_000, 60_000])
  }

  @Test("Leases with a key each come to be in one entry, at one revision")
  func grantsAndPuts() throws {
    let answer = try grantAndPut([nativeItem("a", "1", ttl: 2_500, lease: 11), nativeItem("b", "2")])
    #expect(answer.leases[0] == 11 && answer.leases[1] > 0 && answer.ttlsMs == [2_500, 10_000])
    #expect(answer.header.revision == 2)
    #expect(client.node.proposed.map(\.count) == [1])
    let found = try client.range {
      $0.key = bytes("a")
      $0.rangeEnd = bytes("c")
    }
    #expect(found.kvs.map(\.lease) == answer.leases && found.kvs.map(\.modRevision) == [2, 2])
    #expect(found.kvs.map { text($0.value) } == ["1", "2"])
    #expect(client.metrics.puts.value == 2)
  }

  @Test("Grants with puts are all or nothing")
  func allOrNothing() throws {
    _ = try grant([(11, 10_000)])
    #expect(throws: EtcdErrors.leaseExists) {
      try grantAndPut([nativeItem("a", lease: 10), nativeItem("b", lease: 11)])
    }
    #expect(try timeToLive([10, 11]).remainingMs == [-1, 10_000])
    #expect(try client.range { $0.key = bytes("a") }.count == 0)
  }

  @Test("Putting an existing key moves it to the new lease, as a put does")
  func movesKeys() throws {
    let first = try grantAndPut([nativeItem("a")]).leases[0]
    let second = try grantAndPut([nativeItem("a")]).leases[0]
    #expect(try client.timeToLive(first, keys: true).keys.isEmpty)
    #expect(try client.timeToLive(second, keys: true).keys.map(text) == ["a"])
  }

  @Test("A renewal of many is one command; 0 for a lease that is not there")
  func renewals() throws {
    _ = try grant([(1, 10_000), (2, 20_500)])
    pass(milliseconds: 7_001)
    #expect(try timeToLive([1, 2]).remainingMs == [2_999, 13_499])
    #expect(try renew([2, 99, 1]).ttlsMs == [20_500, 0, 10_000])
    #expect(client.node.proposed.last == [.leaseRenew(ids: [2, 99, 1])])
    #expect(client.metrics.leasesRenewed.value == 2)
    let after = try timeToLive([1, 2, 99])
    #expect(after.remainingMs == [10_000, 20_500, -1] && after.grantedMs == [10_000, 20_500, 0])
  }

  @Test("What etcd grants can be renewed here, and the other way round")
  func sameLeases() throws {
    let id = try client.grant(ttl: 30).id
    pass(milliseconds: 500)
    #expect(try timeToLive([id]).remainingMs == [29_500])
    #expect(try renew([id]).ttlsMs == [30_000])
    _ = try grant([(77, 5_999)])
    #expect(try client.timeToLive(77).grantedTtl == 5)
  }

  @Test("Refusals name the limit, or the item that is wrong; nothing is proposed")
  func refusals() throws {
    for attempt: () throws -> Void in [
      { _ = try grant([]) }, { _ = try grantAndPut([]) }, { _ = try renew([]) }, { _ = try timeToLive([]) },
    ] {
      #expect(throws: NativeLeaseErrors.empty, performing: attempt)
    }
    let leases = Limits.maxLeasesPerNativeRequest
    let tooMany = NativeLeaseErrors.tooMany(leases + 1, limit: leases)
    #expect(throws: tooMany) { try renew(Array(1...Int64(leases + 1))) }
    #expect(throws: tooMany) { try timeToLive(Array(1...Int64(leases + 1))) }
    #expect(throws: tooMany) { try grant(Array(repeating: (0, 10_000), count: leases + 1)) }
    let puts = Limits.maxPutsPerNativeRequest
    #expect(throws: NativeLeaseErrors.tooMany(puts + 1, limit: puts)) {
      try grantAndPut((0...puts).map { nativeItem("\($0)") })
    }
    #expect(throws: GRPCStatus(.outOfRange, "leasehold: item 1: too large lease TTL")) {
      try grant([(0, 10_000), (0, Limits.maxLeaseTTLSeconds * 1_000 + 1)])
    }
    #expect(throws: GRPCStatus(.invalidArgument, "leasehold: item 0: key is not provided")) {
      try grantAndPut([nativeItem("")])
    }
    #expect(throws: GRPCStatus(.invalidArgument, "leasehold: item 2: its key stands twice")) {
      try grantAndPut([nativeItem("a"), nativeItem("b"), nativeItem("a")])
    }
    #expect(throws: GRPCStatus(.invalidArgument, "leasehold: item 1: its lease stands twice")) {
      try grantAndPut([nativeItem("a", lease: 5), nativeItem("b", lease: 5)])
    }
    #expect(throws: EtcdErrors.requestTooLarge) {
      try grantAndPut([nativeItem("a", String(repeating: "x", count: 1_600_000))])
    }
    #expect(client.node.proposed.isEmpty)
  }

  @Test("The largest requests are served")
  func largest() throws {
    let granted = try grant(Array(repeating: (0, 10_000), count: Limits.maxLeasesPerNativeRequest))
    #expect(Set(granted.ids).count == Limits.maxLeasesPerNativeRequest)
    #expect(try renew(granted.ids).ttlsMs.allSatisfy { $0 == 10_000 })
    let put = try grantAndPut((0..<Limits.maxPutsPerNativeRequest).map { nativeItem("\($0)") })
    #expect(Set(put.leases).count == Limits.maxPutsPerNativeRequest)
  }

  @Test("Without a leader nothing is granted, renewed or read")
  func outage() throws {
    client.node.change { $0.outage = .noLeader }
    #expect(throws: EtcdErrors.noLeader) { try grant([(0, 10_000)]) }
    #expect(throws: EtcdErrors.noLeader) { try grantAndPut([nativeItem("a")]) }
    #expect(throws: EtcdErrors.noLeader) { try renew([1]) }
    #expect(throws: EtcdErrors.noLeader) { try timeToLive([1]) }
  }
}
