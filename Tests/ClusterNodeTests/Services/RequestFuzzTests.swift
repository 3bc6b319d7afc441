import ClusterNode
import EtcdAPI
import NIOCore
import Primitives
import SwiftProtobuf
import Testing
import Wire

/// Whatever bytes arrive as a request, the method answers with a result or a status and the process lives on.
@Suite("Requests of random bytes")
struct RequestFuzzTests {
  /// Good requests to start from, so that mutations reach deep.
  static let samples: [(path: String, message: ByteBuffer)] = {
    let transactionRequest = EtcdTxnRequest.with {
      $0.compare = [version("a", .greater, 3), version("b", .notEqual, 1)]
      $0.success = [
        put("a", "value"), get("a", to: "z"), delete("q"), transaction([put("c"), transaction([get("d")])]),
      ]
      $0.failure = [get("a")]
    }
    let watch = EtcdWatchRequest.with {
      $0.createRequest.key = bytes("a")
      $0.createRequest.rangeEnd = bytes("b")
      $0.createRequest.filters = [.noput]
      $0.createRequest.watchID = 5
      $0.createRequest.progressNotify = true
    }
    let range = EtcdRangeRequest.with {
      $0.key = bytes("a")
      $0.rangeEnd = bytes("z")
      $0.limit = 10
      $0.sortOrder = .descend
      $0.sortTarget = .value
      $0.maxModRevision = 9
    }
    let putRequest = EtcdPutRequest.with {
      $0.key = bytes("key")
      $0.value = bytes("value")
      $0.lease = 300
      $0.prevKv = true
    }
    return [
      ("/etcdserverpb.KV/Range", range.wireBuffer),
      ("/etcdserverpb.KV/Put", putRequest.wireBuffer),
      ("/etcdserverpb.KV/DeleteRange", EtcdDeleteRangeRequest.with { $0.key = bytes("a") }.wireBuffer),
      ("/etcdserverpb.KV/Txn", transactionRequest.wireBuffer),
      ("/etcdserverpb.KV/Compact", EtcdCompactionRequest.with { $0.revision = 2 }.wireBuffer),
      (
        "/etcdserverpb.Lease/LeaseGrant",
        EtcdLeaseGrantRequest.with {
          $0.ttl = 300; $0.id = 9
        }.wireBuffer
      ),
      ("/etcdserverpb.Lease/LeaseRevoke", EtcdLeaseRevokeRequest.with { $0.id = 9 }.wireBuffer),
      ("/etcdserverpb.Lease/LeaseKeepAlive", EtcdLeaseKeepAliveRequest.with { $0.id = 9 }.wireBuffer),
      (
        "/etcdserverpb.Lease/LeaseTimeToLive",
        EtcdLeaseTimeToLiveRequest.with {
          $0.id = 9; $0.keys = true
        }.wireBuffer
      ),
      ("/leaseholdpb.Leases/Grant", NativeGrantRequest.with { $0.leases = [.with { $0.ttlMs = 300 }] }.wireBuffer),
      ("/leaseholdpb.Leases/GrantAndPut", NativeGrantAndPutRequest.with { $0.items = [nativeItem("k")] }.wireBuffer),
      ("/leaseholdpb.Leases/Renew", NativeRenewRequest.with { $0.ids = [9, 300] }.wireBuffer),
      ("/leaseholdpb.Leases/TimeToLive", NativeTimeToLiveRequest.with { $0.ids = [9, 300] }.wireBuffer),
      ("/etcdserverpb.Watch/Watch", watch.wireBuffer),
      ("/etcdserverpb.Watch/Watch", EtcdWatchRequest.with { $0.cancelRequest.watchID = 5 }.wireBuffer),
      ("/etcdserverpb.Cluster/MemberList", EtcdMemberListRequest.with { $0.linearizable = true }.wireBuffer),
      ("/etcdserverpb.Maintenance/HashKV", EtcdHashKVRequest.with { $0.revision = 1 }.wireBuffer),
      ("/etcdserverpb.Maintenance/Alarm", EtcdAlarmRequest.with { $0.action = .deactivate }.wireBuffer),
      ("/etcdserverpb.Auth/UserGrantRole", EtcdAuthUserGrantRoleRequest.with { $0.user = "u" }.wireBuffer),
      ("/etcdserverpb.Auth/Authenticate", EtcdAuthenticateRequest.with { $0.name = "u" }.wireBuffer),
      (
        "/etcdserverpb.Auth/UserAdd",
        EtcdAuthUserAddRequest.with {
          $0.name = "u"
          $0.options.noPassword = true
        }.wireBuffer
      ),
      (
        "/etcdserverpb.Auth/RoleGrantPermission",
        EtcdAuthRoleGrantPermissionRequest.with {
          $0.name = "r"
          $0.perm.key = bytes("a")
          $0.perm.permType = .readwrite
        }.wireBuffer
      ),
      ("/grpc.health.v1.Health/Check", HealthHealthCheckRequest.with { $0.service = "x" }.wireBuffer),
    ]
  }()

  static func mutated(_ buffer: ByteBuffer, _ random: inout SeededGenerator) -> ByteBuffer {
    var bytes = Array(buffer.readableBytesView)
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      switch Int.random(in: 0..<4, using: &random) {
      case 0 where !bytes.isEmpty:
        bytes[Int.random(in: bytes.indices, using: &random)] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
      case 1: bytes.insert(.random(in: 0...255, using: &random), at: Int.random(in: 0...bytes.count, using: &random))
      case 2 where !bytes.isEmpty: bytes.remove(at: Int.random(in: bytes.indices, using: &random))
      default: bytes.removeLast(Int.random(in: 0...min(3, bytes.count), using: &random))
      }
    }
    return ByteBuffer(bytes: bytes)
  }

  static func noise(_ random: inout SeededGenerator) -> ByteBuffer {
    var bytes: [UInt8] = []
    for _ in 0..<Int.random(in: 0...40, using: &random) { bytes.append(.random(in: 0...255, using: &random)) }
    return ByteBuffer(bytes: bytes)
  }

  @Test("Mutated and random requests never crash; what cannot be decoded is an internal error, as in grpc-go")
  func mutations() throws {
    var random = SeededGenerator(seed: 2)
    let client = Client()
    var undecodable = 0
    for round in 0..<6_000 {
      let sample = Self.samples[round % Self.samples.count]
      let message =
        round % 7 == 0
        ? Self.noise(&random)
        : Self.mutated(sample.message, &random)
      let (call, handler) = try client.open(sample.path)
      handler.receive(message)
      handler.halfClosed()
      client.loop.run()
      if let status = call.status, status.code == .internal {
        undecodable += 1
        #expect(status.message.hasPrefix("grpc: "))
      } else if !sample.path.hasSuffix("/Watch") {
        #expect(call.status != nil, "\(sample.path) was not answered")
      }
      if call.status == nil { handler.cancelled() }
    }
    #expect(undecodable > 500)
    #expect(client.metrics.watchers.value == 0 && client.metrics.watchStreams.value == 0)
  }

  @Test("Messages nested without end are refused, not followed")
  func endlessNesting() throws {
    var message = ByteBuffer()
    for _ in 0..<5_000 {
      // A request_txn (field 4 of RequestOp) in a success list (field 2 of TxnRequest) around what is there.
      for tag: UInt8 in [0x22, 0x12] {
        var outer = ByteBuffer(bytes: [tag])
        var length = message.readableBytes
        while length >= 0x80 {
          outer.writeInteger(UInt8(length & 0x7f) | 0x80)
          length >>= 7
        }
        outer.writeInteger(UInt8(length))
        outer.writeBuffer(&message)
        message = outer
      }
    }
    let call = try Client().send("/etcdserverpb.KV/Txn", message)
    #expect(call.status?.code == .internal)
  }
}
