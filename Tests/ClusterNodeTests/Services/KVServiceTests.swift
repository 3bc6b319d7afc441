import ClusterNode
import EtcdAPI
import Foundation
import NIOCore
import Testing
import Wire

@Suite("KV service")
struct KVServiceTests {
  let client = Client()

  @Test("A put and a get carry values, revisions and the member's header")
  func putAndGet() throws {
    let put = try client.put("a", "one")
    #expect(put.header.clusterID == 42 && put.header.memberID == 7 && put.header.raftTerm == 3)
    #expect(put.header.revision == 2)
    #expect(!put.hasPrevKv)

    let got = try client.range { $0.key = bytes("a") }
    #expect(got.header.revision == 2)
    #expect(got.count == 1 && !got.more)
    let record = try #require(got.kvs.first)
    #expect(text(record.key) == "a" && text(record.value) == "one")
    #expect(record.createRevision == 2 && record.modRevision == 2 && record.version == 1 && record.lease == 0)
  }

  @Test("prev_kv brings the value before, for puts and for deletes")
  func previous() throws {
    try client.put("a", "one")
    let put = try client.put {
      $0.key = bytes("a")
      $0.value = bytes("two")
      $0.prevKv = true
    }
    #expect(text(put.prevKv.value) == "one")
    let deleted = try client.deleteRange {
      $0.key = bytes("a")
      $0.prevKv = true
    }
    #expect(deleted.deleted == 1)
    #expect(deleted.prevKvs.map { text($0.value) } == ["two"])
  }

  @Test("An empty key is refused by every method", arguments: ["Range", "Put", "DeleteRange"])
  func emptyKey(method: String) throws {
    let call = try client.send("/etcdserverpb.KV/\(method)", ByteBuffer())
    #expect(call.status == GRPCStatus(.invalidArgument, "etcdserver: key is not provided"))
    #expect(client.node.proposed.isEmpty)
  }

  @Test("ignore_value with a value, ignore_lease with a lease, and either on a key that is not there")
  func ignores() throws {
    #expect(throws: GRPCStatus(.invalidArgument, "etcdserver: value is provided")) {
      try client.put {
        $0.key = bytes("a")
        $0.value = bytes("v")
        $0.ignoreValue = true
      }
    }
    #expect(throws: GRPCStatus(.invalidArgument, "etcdserver: lease is provided")) {
      try client.put {
        $0.key = bytes("a")
        $0.lease = 9
        $0.ignoreLease = true
      }
    }
    #expect(throws: GRPCStatus(.invalidArgument, "etcdserver: key not found")) {
      try client.put {
        $0.key = bytes("a")
        $0.ignoreValue = true
      }
    }
  }

  @Test("A put under a lease that does not exist")
  func unknownLease() throws {
    #expect(throws: GRPCStatus(.notFound, "etcdserver: requested lease not found")) {
      try client.put("a", "v", lease: 12_345)
    }
  }

  @Test("Sort options that do not exist are refused")
  func sortOptions() throws {
    #expect(throws: EtcdErrors.invalidSortOption) {
      try client.range {
        $0.key = bytes("a")
        $0.sortOrder = .UNRECOGNIZED(9)
      }
    }
    #expect(throws: EtcdErrors.invalidSortOption) {
      try client.range {
        $0.key = bytes("a")
        $0.sortTarget = .UNRECOGNIZED(-1)
      }
    }
  }

  @Test("A value above the request limit is refused before it is proposed")
  func tooLarge() throws {
    #expect(throws: GRPCStatus(.invalidArgument, "etcdserver: request is too large")) {
      try client.put("a", String(repeating: "x", count: 1_572_864))
    }
    #expect(client.node.proposed.isEmpty)
  }

  @Test("Compaction: what is older, what is in the future, and compacting twice")
  func compaction() throws {
    for value in ["1", "2", "3"] { try client.put("a", value) }
    #expect(try client.compact(3).header.revision == 4)
    let compacted = GRPCStatus(.outOfRange, "etcdserver: mvcc: required revision has been compacted")
    let future = GRPCStatus(.outOfRange, "etcdserver: mvcc: required revision is a future revision")
    #expect(throws: compacted) { try client.compact(3) }
    #expect(throws: future) { try client.compact(99) }
    #expect(throws: compacted) {
      try client.range {
        $0.key = bytes("a")
        $0.revision = 2
      }
    }
    #expect(throws: future) {
      try client.range {
        $0.key = bytes("a")
        $0.revision = 5
      }
    }
    let kept = try client.range {
      $0.key = bytes("a")
      $0.revision = 3
    }
    #expect(kept.kvs.map { text($0.value) } == ["2"])
    #expect(kept.header.revision == 4)
  }

  @Test("A negative revision means the current one; in a transaction, one that was compacted")
  func negativeRevision() throws {
    for value in ["1", "2", "3"] { try client.put("a", value) }
    _ = try client.compact(3)
    let query = EtcdRangeRequest.with {
      $0.key = bytes("a")
      $0.revision = -1
    }
    #expect(try client.range { $0 = query }.kvs.map { text($0.value) } == ["3"])
    #expect(throws: GRPCStatus(.outOfRange, "etcdserver: mvcc: required revision has been compacted")) {
      try client.transact { $0.success = [EtcdRequestOp.with { $0.requestRange = query }] }
    }
  }

  @Test("A range over more keys than are read under the lock is whole, and honours its limit")
  func largeRange() throws {
    for number in 0..<1_500 { try client.put("k\(10_000 + number)", "\(number)") }
    let all = try client.range {
      $0.key = bytes("k")
      $0.rangeEnd = bytes("l")
    }
    #expect(all.kvs.map { text($0.value) } == (0..<1_500).map(String.init))
    #expect(all.count == 1_500 && !all.more)
    let some = try client.range {
      $0.key = bytes("k")
      $0.rangeEnd = Data([0])
      $0.limit = 1_200
      $0.serializable = true
    }
    #expect(some.kvs.count == 1_200 && some.count == 1_500 && some.more)
    let counted = try client.range {
      $0.key = bytes("k")
      $0.rangeEnd = bytes("l")
      $0.countOnly = true
    }
    #expect(counted.kvs.isEmpty && counted.count == 1_500)
  }

  @Test(
    "What the node cannot do now comes back under etcd's texts",
    arguments: [
      (ProposalError.noLeader, "etcdserver: no leader", GRPCCode.unavailable),
      (.stopped, "etcdserver: server stopped", .unavailable),
      (.timedOut, "etcdserver: request timed out", .unavailable),
      (.tooManyRequests, "etcdserver: too many requests", .resourceExhausted),
      (.requestTooLarge, "etcdserver: request is too large", .invalidArgument),
    ])
  func outage(error: ProposalError, text: String, code: GRPCCode) throws {
    client.node.change { $0.outage = error }
    #expect(throws: GRPCStatus(code, text)) { try client.put("a", "v") }
    #expect(throws: GRPCStatus(code, text)) { try client.range { $0.key = bytes("a") } }
    // A serializable read asks nobody.
    _ = try client.range {
      $0.key = bytes("a")
      $0.serializable = true
    }
  }

  @Test("A client that insists on a leader is not served without one")
  func requiresLeader() throws {
    client.node.change { $0.leaderID = 0 }
    let request = EtcdRangeRequest.with {
      $0.key = bytes("a")
      $0.serializable = true
    }
    #expect(throws: EtcdErrors.noLeader) {
      let _: EtcdRangeResponse = try client.unary("/etcdserverpb.KV/Range", request, headers: ["hasleader": "true"])
    }
    let _: EtcdRangeResponse = try client.unary("/etcdserverpb.KV/Range", request)
  }

  @Test("Keys and values of any bytes survive")
  func anyBytes() throws {
    let key = Data((0...255).map(UInt8.init))
    let value = Data([0, 0xff, 0xc0, 0x80])
    _ = try client.put {
      $0.key = key
      $0.value = value
    }
    let got = try client.range { $0.key = key }
    #expect(got.kvs.first?.key == key && got.kvs.first?.value == value)
  }
}
