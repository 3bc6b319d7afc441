import NIOCore

// CONTRACT SKETCH: signatures that the services (etcd's API, the sidecar's HTTP API) build on; the implementation and
// the split into files are the Wire author's. All objects here live on the connection's event loop unless marked.

/// gRPC status codes by their numbers on the wire.
package enum GRPCCode: Int, Sendable {
  case ok = 0, cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists, permissionDenied
  case resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented, `internal`, unavailable, dataLoss
  case unauthenticated
}

package struct GRPCStatus: Error, Hashable, Sendable {
  package var code: GRPCCode
  package var message: String
  package init(_ code: GRPCCode, _ message: String) {
    self.code = code
    self.message = message
  }
  package static let ok = GRPCStatus(.ok, "")
}

/// One RPC on one HTTP/2 stream. Event-loop bound; other threads come by `eventLoop.execute`, once per batch.
package protocol GRPCCall: AnyObject {
  var eventLoop: any EventLoop { get }
  var path: String { get }
  /// First value of a metadata key (lower case).
  func metadata(_ name: String) -> String?
  /// DER subject CN of the client's certificate, nil without one.
  var peerCommonName: String? { get }
  /// Sends one message (length prefix and framing are the wire's). Headers go out with the first. The write is
  /// flushed once at the end of the event-loop turn.
  func send(_ message: ByteBuffer)
  /// Bytes accepted by `send` that the peer has not yet taken (HTTP/2 window, socket): the measure for back-pressure.
  var pendingBytes: Int { get }
  /// Ends the call with trailers. Later sends are ignored.
  func finish(_ status: GRPCStatus)
}

/// The server side of one RPC, made by the service registry when the headers arrive.
package protocol GRPCHandler: AnyObject {
  /// One whole message, already checked against the size limit.
  func receive(_ message: ByteBuffer)
  /// The client has sent its last message.
  func halfClosed()
  /// The call is over without our doing: RST, connection lost, deadline. Nothing can be sent any more.
  func cancelled()
  /// `pendingBytes` has fallen below the low-water mark after having been above the high one.
  func writable()
}

extension GRPCHandler {
  package func writable() {}
}

/// Maps full method names ("/etcdserverpb.KV/Range") to what makes their handlers. Immutable once the server runs.
package struct GRPCRegistry: Sendable {
  package init() {}
  package mutating func register(_ path: String, _ make: @escaping @Sendable (any GRPCCall) -> any GRPCHandler) { fatalError() }
}

/// A plain HTTP request, from HTTP/1.1 or HTTP/2 alike, whole with its body.
package struct HTTPRequest: Sendable {
  package var method: String
  /// Percent-encoded path without the query.
  package var path: String
  package var query: String
  package var headers: [(name: String, value: String)]
  package var body: ByteBuffer
  package var peerCommonName: String?
  package func header(_ name: String) -> String? { fatalError() }
  /// Percent-decoded query parameter.
  package func parameter(_ name: String) -> String? { fatalError() }
}

package struct HTTPResponse: Sendable {
  package var status: Int
  package var headers: [(name: String, value: String)] = []
  package var body: ByteBuffer
  package init(status: Int, contentType: String, body: ByteBuffer) { fatalError() }
  package static func text(_ text: String, status: Int = 200) -> HTTPResponse { fatalError() }
  package static func json(_ bytes: some Sequence<UInt8>, status: Int = 200) -> HTTPResponse { fatalError() }
  /// RFC 9457: `{"type":"about:blank","title":…,"status":…,"detail":…}` as application/problem+json.
  package static func problem(_ status: Int, _ detail: String, field: String? = nil) -> HTTPResponse { fatalError() }
}

/// What answers one request. Called on the event loop; exactly one of `respond` or `startStream` must follow, at any
/// time, from that event loop.
package protocol HTTPResponder: AnyObject {
  var eventLoop: any EventLoop { get }
  func respond(_ response: HTTPResponse)
  /// Starts a chunked answer that goes on until `end` (NDJSON streams).
  func startStream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream
}

package protocol HTTPStream: AnyObject {
  var eventLoop: any EventLoop { get }
  func write(_ bytes: ByteBuffer)
  var pendingBytes: Int { get }
  func end()
  /// Set by the handler: the peer went away.
  var onClose: (() -> Void)? { get set }
  /// Set by the handler: pending bytes have drained below the low-water mark.
  var onWritable: (() -> Void)? { get set }
}

/// Exact and prefix routes; answers 404 and 405 (with Allow) itself. Immutable once the server runs.
package struct HTTPRouter: Sendable {
  package typealias Handler = @Sendable (HTTPRequest, any HTTPResponder) -> Void
  package init() {}
  package mutating func on(_ method: String, _ path: String, _ handler: @escaping Handler) { fatalError() }
  /// Matches every path that starts with `prefix`; the longest registered match wins.
  package mutating func onPrefix(_ method: String, _ prefix: String, _ handler: @escaping Handler) { fatalError() }
}
