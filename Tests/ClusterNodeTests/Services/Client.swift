import ClusterNode
import EtcdAPI
import NIOCore
import NIOEmbedded
import SwiftProtobuf
import Testing
import Wire

/// One call as the wire would make it, with everything that it was answered.
final class FakeCall: GRPCCall {
  let eventLoop: any EventLoop
  let path: String
  var headers: [String: String] = [:]
  var pendingBytes = 0
  private(set) var sent: [ByteBuffer] = []
  private(set) var status: GRPCStatus?

  init(_ path: String, on eventLoop: any EventLoop) {
    self.path = path
    self.eventLoop = eventLoop
  }

  func metadata(_ name: String) -> String? { headers[name] }
  var peerCommonName: String?
  var isOver: Bool { status != nil }

  func send(_ message: ByteBuffer) {
    if !isOver { sent.append(message) }
  }

  func finish(_ status: GRPCStatus) {
    if !isOver { self.status = status }
  }

  /// Takes what was sent since the last time.
  func take<Response: Message>(_ type: Response.Type) throws -> [Response] {
    defer { sent = [] }
    return try sent.map { try Response(wire: $0) }
  }
}

/// A client of the services, in one thread with them.
struct Client {
  let node = FakeNode()
  let loop = EmbeddedEventLoop()
  let metrics = EtcdMetrics()
  let registry: GRPCRegistry

  init(_ settings: EtcdSettings = EtcdSettings()) {
    var registry = GRPCRegistry()
    EtcdServices.register(into: &registry, node: node, settings: settings, metrics: metrics)
    self.registry = registry
  }

  /// Starts a call whose messages the test sends itself.
  func open(_ path: String, headers: [String: String] = [:]) throws -> (FakeCall, any GRPCHandler) {
    let call = FakeCall(path, on: loop)
    call.headers = headers
    return (call, try #require(registry.handler(for: call), "\(path) is not registered"))
  }

  func send(_ path: String, _ message: ByteBuffer, headers: [String: String] = [:]) throws -> FakeCall {
    let (call, handler) = try open(path, headers: headers)
    handler.receive(message)
    handler.halfClosed()
    loop.run()
    return call
  }

  /// A whole unary call; throws the status that it was refused with.
  func unary<Request: Message, Response: Message>(
    _ path: String, _ request: Request, headers: [String: String] = [:]
  ) throws -> Response {
    let call = try send(path, request.wireBuffer, headers: headers)
    let status = try #require(call.status, "\(path) was not answered")
    guard status == .ok else { throw status }
    return try #require(try call.take(Response.self).first)
  }

  func range(_ build: (inout EtcdRangeRequest) -> Void) throws -> EtcdRangeResponse {
    try unary("/etcdserverpb.KV/Range", EtcdRangeRequest.with(build))
  }

  func put(_ build: (inout EtcdPutRequest) -> Void) throws -> EtcdPutResponse {
    try unary("/etcdserverpb.KV/Put", EtcdPutRequest.with(build))
  }

  @discardableResult
  func put(_ key: String, _ value: String, lease: Int64 = 0) throws -> EtcdPutResponse {
    try put {
      $0.key = bytes(key)
      $0.value = bytes(value)
      $0.lease = lease
    }
  }

  func deleteRange(_ build: (inout EtcdDeleteRangeRequest) -> Void) throws -> EtcdDeleteRangeResponse {
    try unary("/etcdserverpb.KV/DeleteRange", EtcdDeleteRangeRequest.with(build))
  }

  func transact(_ build: (inout EtcdTxnRequest) -> Void) throws -> EtcdTxnResponse {
    try unary("/etcdserverpb.KV/Txn", EtcdTxnRequest.with(build))
  }

  func compact(_ revision: Int64) throws -> EtcdCompactionResponse {
    try unary("/etcdserverpb.KV/Compact", EtcdCompactionRequest.with { $0.revision = revision })
  }

  func grant(ttl: Int64, id: Int64 = 0) throws -> EtcdLeaseGrantResponse {
    try unary(
      "/etcdserverpb.Lease/LeaseGrant",
      EtcdLeaseGrantRequest.with {
        $0.ttl = ttl
        $0.id = id
      })
  }

  func timeToLive(_ id: Int64, keys: Bool = false) throws -> EtcdLeaseTimeToLiveResponse {
    try unary(
      "/etcdserverpb.Lease/LeaseTimeToLive",
      EtcdLeaseTimeToLiveRequest.with {
        $0.id = id
        $0.keys = keys
      })
  }
}
