import ClusterNode
import EtcdAPI
import NIOCore
import Testing
import Wire

/// Streams that end because of what has become of the member. The election time-out is one second here.
@Suite("Supervised streams")
final class StreamSupervisorTests {
  let client = Client()
  /// As the wire keeps them.
  private var handlers: [any GRPCHandler] = []

  private func watch(headers: [String: String] = [:]) throws -> FakeCall {
    let (call, handler) = try client.open("/etcdserverpb.Watch/Watch", headers: headers)
    handlers.append(handler)
    handler.receive(EtcdWatchRequest.with { $0.createRequest.key = bytes("a") }.wireBuffer)
    return call
  }

  private func keepAlive(headers: [String: String] = [:]) throws -> FakeCall {
    let (call, handler) = try client.open("/etcdserverpb.Lease/LeaseKeepAlive", headers: headers)
    handlers.append(handler)
    handler.receive(EtcdLeaseKeepAliveRequest.with { $0.id = 1 }.wireBuffer)
    return call
  }

  private func pass(seconds: Int64) { client.loop.advanceTime(by: .seconds(seconds)) }

  @Test("When a member's state turns out not to be the cluster's, its streams end with data loss")
  func corruption() throws {
    let calls = [try watch(), try keepAlive()]
    pass(seconds: 5)
    #expect(calls.allSatisfy { !$0.isOver })
    client.node.change { $0.isCorrupt = true }
    pass(seconds: 1)
    for call in calls {
      #expect(call.status?.code == .dataLoss)
      #expect(call.status?.message == "etcdserver: corrupt cluster")
    }
  }

  @Test("A client that needs a leader keeps its streams through two election time-outs without one, not through three")
  func leaderIsGone() throws {
    let needing = [try watch(headers: ["hasleader": "true"]), try keepAlive(headers: ["hasleader": "true"])]
    let content = try watch()
    client.node.change { $0.leaderID = 0 }
    pass(seconds: 2)
    #expect(needing.allSatisfy { !$0.isOver })
    pass(seconds: 1)
    for call in needing {
      #expect(call.status?.code == .unavailable)
      #expect(call.status?.message == "etcdserver: no leader")
    }
    pass(seconds: 5)
    #expect(!content.isOver)
  }

  @Test("A leader that comes back in time is as good as one that never went")
  func leaderIsBack() throws {
    let call = try watch(headers: ["hasleader": "true"])
    for _ in 0..<3 {
      client.node.change { $0.leaderID = 0 }
      pass(seconds: 2)
      client.node.change { $0.leaderID = 7 }
      pass(seconds: 1)
    }
    #expect(!call.isOver)
  }
}
