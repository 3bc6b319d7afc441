import ClusterNode
import EtcdAPI
import Foundation
import Gateway
import NIOCore
import NIOEmbedded
import Synchronization
import Testing
import Wire

@Suite("The JSON gateway: streams")
struct GatewayStreamTests {
  let gateway = GatewayClient()
  var node: FakeNode { gateway.client.node }

  private static let header = #""header":{"cluster_id":"42","member_id":"7","revision":"1","raft_term":"3"}"#

  @Test("Each answer is a line; a keepalive ends with its last request")
  func keepalive() {
    _ = gateway.post("/v3/lease/grant", #"{"TTL":"100","ID":"5"}"#)
    let peer = gateway.open("/v3/lease/keepalive", "{\"ID\":\"5\"}{\"ID\":5}\n{\"ID\":\"99\"}")
    #expect(peer.status == 200 && peer.isEnded)
    #expect(
      peer.takeLines() == [
        #"{"result":{\#(Self.header),"ID":"5","TTL":"100"}}"#, #"{"result":{\#(Self.header),"ID":"5","TTL":"100"}}"#,
        #"{"result":{\#(Self.header),"ID":"99"}}"#,
      ])
    let empty = gateway.open("/v3/lease/keepalive", "")
    #expect(empty.status == 200 && empty.isEnded && empty.text.isEmpty)
  }

  @Test("What cannot be read is an error as the first thing, and later ends the requests")
  func malformed() {
    for body in [#"{"ID":"5""#, #"{"ID":"x"}"#, "garbage"] {
      let peer = gateway.open("/v3/lease/keepalive", body)
      #expect(peer.status == 500 && peer.text.contains(#""code":2"#), "\(body): \(peer.text)")
    }
    let late = gateway.open("/v3/lease/keepalive", #"{"ID":"5"}garbage{"ID":"6"}"#)
    #expect(late.status == 200 && late.isEnded && late.takeLines().count == 1)
    let snapshot = gateway.open("/v3/maintenance/snapshot", "{")
    #expect(snapshot.status == 400 && snapshot.text.contains(#""code":3"#))
  }

  @Test("A watch goes on until its client leaves")
  func watch() throws {
    let peer = gateway.open(
      "/v3/watch", #"{"create_request":{"key":"YQ==","filters":["NODELETE"]}} {"create_request":{"key":"Yg=="}}"#)
    #expect(
      peer.takeLines() == [
        #"{"result":{\#(Self.header),"created":true}}"#, #"{"result":{\#(Self.header),"watch_id":"1","created":true}}"#,
      ])
    #expect(!peer.isEnded)
    let session = try #require(node.sessions.first)
    #expect(session.created.map(\.filtersDeletes) == [true, false])
    try gateway.client.put("a", "1")
    let keyspace = node.machine.keyspace
    let (events, _) = try keyspace.history(
      from: 2, in: .single("a"), wantsPrevious: false, limit: 10, maxBytes: 1_000, allowsCompactRevision: true)
    session.sink.events(watch: 0, events, revision: 2)
    let line = try #require(peer.takeLines().first)
    #expect(
      line.hasSuffix(
        #""events":[{"kv":{"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}}]}}"#))
    peer.onClose?()
    #expect(session.isClosed)
  }

  @Test("A client that leaves before the first answer ends its call, too")
  func earlyLeave() {
    let peer = gateway.open("/v3/watch", "{}")
    #expect(peer.status == nil && gateway.client.metrics.watchStreams.value == 1)
    peer.onAbandon?()
    #expect(gateway.client.metrics.watchStreams.value == 0)
    #expect(peer.status == 499)
  }

  @Test("What the client has not read is what its watch sees; requests wait meanwhile")
  func slowClient() throws {
    let peer = gateway.open("/v3/watch", #"{"create_request":{"key":"YQ=="}}"#)
    let session = try #require(node.sessions.first)
    peer.pendingBytes = 12_345
    #expect(session.sink.pendingBytes == 12_345)
    session.sink.notifyWhenDrained()
    #expect(peer.drainRequests == 1)
    peer.pendingBytes = 0
    peer.onWritable?()
    #expect(session.resumptions == 1)
  }

  @Test("A stream that fails ends with an error as its line; at once, the answer has its status")
  func failure() throws {
    var registry = GRPCRegistry()
    let calls = Mutex(0)
    registry.register("/etcdserverpb.Watch/Watch") { call in
      let isFirst = calls.withLock { count in
        count += 1
        return count == 1
      }
      return Failing(call, sends: isFirst)
    }
    var router = HTTPRouter()
    Gateway(grpc: registry, limits: WireLimits()).register(into: &router)
    let line =
      #"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}"#
    for (status, lines) in [(200, [#"{"result":{"created":true}}"#, line]), (503, [line])] {
      let peer = HTTPPeer(EmbeddedEventLoop())
      let body = ByteBuffer(string: #"{"create_request":{}}"#)
      router.dispatch(HTTPRequest(method: "POST", path: "/v3/watch", body: body), peer)
      #expect(peer.status == status && peer.isEnded)
      #expect(peer.takeLines() == lines)
    }
  }

  private final class Failing: GRPCHandler {
    private let call: any GRPCCall
    private let sends: Bool

    init(_ call: any GRPCCall, sends: Bool) {
      self.call = call
      self.sends = sends
    }

    func receive(_ message: ByteBuffer) {
      if sends { call.send(EtcdWatchResponse.with { $0.created = true }.wireBuffer) }
      call.finish(EtcdErrors.noLeader)
    }

    func halfClosed() {}
    func cancelled() {}
  }

  @Test("A method that is not served is one that gRPC does not know")
  func unserved() {
    var router = HTTPRouter()
    Gateway(grpc: GRPCRegistry(), limits: WireLimits()).register(into: &router)
    let loop = EmbeddedEventLoop()
    for path in ["/v3/kv/range", "/v3/watch"] {
      let peer = HTTPPeer(loop)
      router.dispatch(HTTPRequest(method: "POST", path: path, body: ByteBuffer(string: "{}")), peer)
      loop.run()
      #expect(peer.status == 501 && peer.text.contains("unknown service"), "\(path): \(peer.text)")
    }
  }
}
