import NIOCore

/// A plain HTTP request, from HTTP/1.1 or HTTP/2 alike, whole with its body.
package struct HTTPRequest: Sendable {
  package var method: String
  /// Percent-encoded path without the query.
  package var path: String
  /// What follows the question mark, still encoded; empty without one.
  package var query: String
  package var headers: [(name: String, value: String)]
  package var body: ByteBuffer
  package var peerCommonName: String?

  package init(
    method: String, path: String, query: String = "", headers: [(name: String, value: String)] = [],
    body: ByteBuffer = ByteBuffer(), peerCommonName: String? = nil
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.headers = headers
    self.body = body
    self.peerCommonName = peerCommonName
  }

  /// First value of a header, whatever the case of its name.
  package func header(_ name: String) -> String? {
    headers.first { sameHeaderName($0.name, name) }?.value
  }

  /// Percent-decoded query parameter; the empty string for one without a value ("?verbose").
  package func parameter(_ name: String) -> String? { parameters(name).first ?? nil }

  /// All values of a query parameter, in order; nil for one that is not valid UTF-8 or has a broken escape.
  package func parameters(_ name: String) -> [String?] {
    query.utf8.split(separator: UInt8(ascii: "&")).compactMap { pair -> String?? in
      let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard percentDecoded(parts[0], plusIsSpace: true) == name else { return nil }
      return .some(parts.count == 2 ? percentDecoded(parts[1], plusIsSpace: true) : "")
    }
  }

  /// The path's segments, each percent-decoded; nil when one of them is not valid UTF-8 or has a broken escape.
  package var pathSegments: [String]? {
    var segments: [String] = []
    for segment in path.utf8.split(separator: UInt8(ascii: "/")) {
      guard let text = percentDecoded(segment, plusIsSpace: false) else { return nil }
      segments.append(text)
    }
    return segments
  }
}

package struct HTTPResponse: Sendable {
  package var status: Int
  /// Without content-length and transfer-encoding, which are the wire's.
  package var headers: [(name: String, value: String)] = []
  package var body: ByteBuffer

  package init(status: Int, contentType: String, body: ByteBuffer) {
    self.status = status
    self.headers = [("content-type", contentType)]
    self.body = body
  }

  package static func text(_ text: String, status: Int = 200) -> HTTPResponse {
    HTTPResponse(status: status, contentType: "text/plain; charset=utf-8", body: ByteBuffer(string: text))
  }

  package static func json(_ bytes: some Sequence<UInt8>, status: Int = 200) -> HTTPResponse {
    HTTPResponse(status: status, contentType: "application/json", body: ByteBuffer(bytes: bytes))
  }

  /// RFC 9457: `{"type":"about:blank","title":…,"status":…,"detail":…}` as application/problem+json. `field` names the
  /// part of the request that is at fault.
  package static func problem(_ status: Int, _ detail: String, field: String? = nil) -> HTTPResponse {
    var text = "{\"type\":\"about:blank\",\"title\":\(jsonQuoted(httpReason(status)))"
    text += ",\"status\":\(status),\"detail\":\(jsonQuoted(detail))"
    if let field { text += ",\"field\":\(jsonQuoted(field))" }
    text += "}\n"
    return HTTPResponse(
      status: status, contentType: "application/problem+json", body: ByteBuffer(string: text))
  }
}

/// What answers one request. Called on the event loop; exactly one of `respond` or `startStream` must follow, at any
/// time, from that event loop. When the peer has gone meanwhile the answer is dropped.
package protocol HTTPResponder: AnyObject {
  var eventLoop: any EventLoop { get }
  func respond(_ response: HTTPResponse)
  /// Starts a chunked answer that goes on until `end` (NDJSON streams).
  func startStream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream
  /// Set by the handler: the peer has gone, or has closed its side, before it was answered. Work that may take long is
  /// wasted then; an answer is still due.
  var onAbandon: (() -> Void)? { get set }
  /// Instead of an answer: turns the connection that `request` came on into a WebSocket and hands it to `ready`. What
  /// is no proper handshake is refused here.
  func openWebSocket(_ request: HTTPRequest, subprotocol: String?, _ ready: @escaping (WebSocket) -> Void)
}

extension HTTPResponder {
  package var onAbandon: (() -> Void)? {
    get { nil }
    set {}
  }

  package func openWebSocket(_ request: HTTPRequest, subprotocol: String?, _ ready: @escaping (WebSocket) -> Void) {
    respond(.problem(400, "a WebSocket begins with a request of HTTP/1.1"))
  }
}

/// An answer that goes on. Writes of one event-loop turn leave as one.
package protocol HTTPStream: AnyObject {
  var eventLoop: any EventLoop { get }
  func write(_ bytes: ByteBuffer)
  /// Bytes accepted by `write` that the peer has not yet taken.
  var pendingBytes: Int { get }
  func end()
  /// Set by the handler: the peer went away. Not called after `end`. When the peer is gone already it is called at the
  /// end of the event-loop turn in which it is set.
  var onClose: (() -> Void)? { get set }
  /// Set by the handler: pending bytes have drained below the low-water mark.
  var onWritable: (() -> Void)? { get set }
  /// Has `onWritable` called once pending bytes are below the low-water mark, even if they have not been above the high
  /// one.
  func notifyWhenDrained()
  /// Gives up on a peer that does not read: what it has not taken is dropped. `onClose` follows.
  func abort()
}

extension HTTPStream {
  package func notifyWhenDrained() {}
  package func abort() { end() }
}
