import NIOCore

/// One RPC on one HTTP/2 stream. Event-loop bound; other threads come by `eventLoop.execute`, once per batch.
///
/// A call may be kept after it is over (its answer may come from another thread): everything sent then is ignored.
package protocol GRPCCall: AnyObject {
  var eventLoop: any EventLoop { get }
  var path: String { get }
  /// First value of a metadata key (lower case).
  func metadata(_ name: String) -> String?
  /// Whether the first value of a metadata key (lower case) is `value`.
  func hasMetadata(_ name: StaticString, _ value: StaticString) -> Bool
  /// DER subject CN of the client's certificate, nil without one.
  var peerCommonName: String? { get }
  /// Sends one message (length prefix and framing are the wire's). Headers go out with the first. The write is
  /// flushed once at the end of the event-loop turn.
  func send(_ message: ByteBuffer)
  /// The whole answer of a unary call, too large to be made at once: its parts are made as the peer takes them.
  func reply(_ message: any GRPCMessageSource)
  /// Bytes accepted by `send` that the peer has not yet taken (HTTP/2 window, socket): the measure for back-pressure.
  var pendingBytes: Int { get }
  /// Has the handler's `writable` called once `pendingBytes` falls below the low-water mark (or some of it is taken
  /// while it is below), even if it has not been above the high one.
  func notifyWhenDrained()
  /// Ends the call with trailers. Later sends are ignored.
  func finish(_ status: GRPCStatus)
  /// The call was finished, cancelled, or its deadline has passed: work for it is wasted.
  var isOver: Bool { get }
}

extension GRPCCall {
  /// A call that has no marks calls `writable` as it sees fit.
  package func notifyWhenDrained() {}

  /// The whole answer of a unary call.
  package func reply(_ message: ByteBuffer) {
    send(message)
    finish(.ok)
  }

  package func reply(_ message: any GRPCMessageSource) {
    var whole = ByteBuffer()
    while whole.readableBytes < message.byteCount { whole.writeImmutableBuffer(message.nextPart()) }
    reply(whole)
  }

  package func hasMetadata(_ name: StaticString, _ value: StaticString) -> Bool {
    metadata("\(name)") == "\(value)"
  }
}

/// A message made in parts. Used on the call's event loop, and let go of when the call is over.
package protocol GRPCMessageSource: AnyObject {
  /// Of all parts together; at most what the four bytes of a gRPC length can say.
  var byteCount: Int { get }
  /// The next part, some tens of KiB. Asked for until the parts have come to `byteCount`; never empty.
  func nextPart() -> ByteBuffer
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

/// The shape of a method; the raw value is its `grpc_type` label.
package enum GRPCMethodKind: String, Sendable {
  case unary
  case clientStream = "client_stream"
  case serverStream = "server_stream"
  case bidiStream = "bidi_stream"
}

/// A registered method. `index` counts from 0 in the order of registration, so that counters can live in an array.
package struct GRPCMethod: Sendable, Hashable {
  package let index: Int
  package let path: String
  package let kind: GRPCMethodKind
}

/// What one call amounted to when it was over.
package struct GRPCCallSummary: Sendable {
  package var code: GRPCCode
  /// Messages and their bytes, without the five-byte prefixes.
  package var receivedMessages: Int
  package var receivedBytes: Int
  package var sentMessages: Int
  package var sentBytes: Int
  /// From the headers' arrival to `finish`, or to the loss of the call.
  package var durationNanoseconds: Int64
}

/// Told of every call to a registered method, on the connection's event loop: `grpc_server_*` counters live behind it.
package protocol GRPCObserver: Sendable {
  func callStarted(_ method: GRPCMethod)
  func callFinished(_ method: GRPCMethod, _ summary: GRPCCallSummary)
  /// Message bytes of all calls since the last report of this connection, long streams included, at most once per
  /// event-loop turn.
  func transferred(receivedBytes: Int, sentBytes: Int)
}

extension GRPCObserver {
  package func transferred(receivedBytes: Int, sentBytes: Int) {}
}
