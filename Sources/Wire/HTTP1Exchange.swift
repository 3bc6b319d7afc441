import NIOCore
import NIOHTTP1

/// One request of an HTTP/1.1 connection and its answer, whole or as a chunked stream.
final class HTTP1Exchange: HTTPResponder, HTTPStream {
  private enum State {
    case unanswered
    case streaming
    case over
  }

  let eventLoop: any EventLoop
  let method: String
  let isHTTP10: Bool
  var keepsAlive: Bool
  /// The request is answered before it has arrived.
  var isDraining = false

  // What the connection collects while the request arrives
  var request = HTTPRequest(method: "", path: "")
  var receivedBytes = 0
  var routed: HTTPRouter.Handler?
  var refusal: HTTPResponse?

  /// Nil once the connection is lost or the answer is complete.
  private var handler: HTTP1Handler?
  private var state = State.unanswered
  private let limits: WireLimits

  // The stream's bytes: gathered in a turn, and handed to the socket but not yet taken
  private var gathered = ByteBuffer()
  private var inFlightBytes = 0
  private var isAboveHighWater = false
  private var hasEnded = false

  init(handler: HTTP1Handler, method: String, keepsAlive: Bool, version: HTTPVersion) {
    self.handler = handler
    self.eventLoop = handler.eventLoop!
    self.limits = handler.services.limits
    self.method = method
    self.isHTTP10 = version == .http1_0
    self.keepsAlive = keepsAlive
  }

  var isStreaming: Bool { if case .streaming = state { true } else { false } }

  // MARK: HTTPResponder

  var onAbandon: (() -> Void)?

  /// The peer will send nothing any more, and may be gone.
  func abandon() {
    let onAbandon = onAbandon
    self.onAbandon = nil
    onAbandon?()
  }

  func openWebSocket(_ request: HTTPRequest, subprotocol: String?, _ ready: @escaping (WebSocket) -> Void) {
    guard case .unanswered = state, let handler else { return }
    guard !isHTTP10 else { return respond(.problem(400, "a WebSocket begins with a request of HTTP/1.1")) }
    handler.upgrade(self, request, subprotocol: subprotocol, ready)
  }

  /// The connection has become a WebSocket: nothing is answered here.
  func leaveToWebSocket() {
    state = .over
    handler = nil
    onAbandon = nil
  }

  func respond(_ response: HTTPResponse) {
    switch state {
    case .over: return
    case .streaming: preconditionFailure("an exchange is answered once")
    case .unanswered: break
    }
    state = .over
    onAbandon = nil
    guard let handler else { return }
    self.handler = nil
    var headers = headers(of: response.headers)
    let carriesLength = response.status != 204 && response.status != 304
    if carriesLength { headers.add(name: "content-length", value: String(response.body.readableBytes)) }
    handler.write(.head(head(response.status, headers)))
    if method != "HEAD", carriesLength, response.body.readableBytes > 0 {
      handler.write(.body(.byteBuffer(response.body)))
    }
    handler.finish(self)
  }

  func startStream(status: Int, headers fields: [(name: String, value: String)]) -> any HTTPStream {
    guard case .unanswered = state, let handler else { return self }
    onAbandon = nil
    guard method != "HEAD" else {
      // The length of the stream is not known and its bytes are not wanted.
      keepsAlive = false
      state = .over
      self.handler = nil
      var headers = headers(of: fields)
      headers.add(name: "content-length", value: "0")
      handler.write(.head(head(status, headers)))
      handler.finish(self)
      return self
    }
    state = .streaming
    // HTTP/1.0 knows no chunks: the end of the connection ends the stream.
    if isHTTP10 { keepsAlive = false }
    var headers = headers(of: fields)
    if !isHTTP10 { headers.add(name: "transfer-encoding", value: "chunked") }
    handler.write(.head(head(status, headers)))
    return self
  }

  private func head(_ status: Int, _ headers: HTTPHeaders) -> HTTPResponseHead {
    HTTPResponseHead(
      version: isHTTP10 ? .http1_0 : .http1_1,
      status: HTTPResponseStatus(statusCode: status, reasonPhrase: httpReason(status)),
      headers: headers)
  }

  private func headers(of fields: [(name: String, value: String)]) -> HTTPHeaders {
    var headers = HTTPHeaders()
    for field in fields where !isConnectionHeader(field.name) {
      headers.add(name: headerSafe(field.name), value: headerSafe(field.value))
    }
    if !keepsAlive {
      headers.add(name: "connection", value: "close")
    } else if isHTTP10 {
      headers.add(name: "connection", value: "keep-alive")
    }
    return headers
  }

  // MARK: HTTPStream

  var pendingBytes: Int { gathered.readableBytes + inFlightBytes }
  func notifyWhenDrained() {
    if pendingBytes > 0 { isAboveHighWater = true }
  }
  func abort() { handler?.abort() }
  var onWritable: (() -> Void)?
  var onClose: (() -> Void)? {
    didSet {
      if case .over = state, !hasEnded, onClose != nil { announceClose() }
    }
  }

  func write(_ bytes: ByteBuffer) {
    guard case .streaming = state, bytes.readableBytes > 0 else { return }
    gathered.writeImmutableBuffer(bytes)
    if pendingBytes > limits.streamHighWaterBytes { isAboveHighWater = true }
    handler?.streamGrew()
  }

  func end() {
    hasEnded = true
    onClose = nil
    onWritable = nil
    guard case .streaming = state else { return }
    writeGathered()
    state = .over
    handler?.finish(self)
    handler = nil
  }

  /// Called by the connection at the end of a turn, and when the socket takes bytes again.
  func flushStream() {
    guard case .streaming = state, let handler, handler.isWritable else { return }
    writeGathered()
  }

  /// What was gathered leaves as one chunk.
  private func writeGathered() {
    guard let handler, gathered.readableBytes > 0 else { return }
    let count = gathered.readableBytes
    let written = eventLoop.makePromise(of: Void.self)
    written.futureResult.assumeIsolated().whenSuccess { self.taken(count) }
    inFlightBytes += count
    let bytes = gathered
    gathered = ByteBuffer()
    handler.write(.body(.byteBuffer(bytes)), promise: written)
  }

  private func taken(_ count: Int) {
    inFlightBytes -= count
    guard isAboveHighWater, pendingBytes < limits.streamLowWaterBytes else { return }
    isAboveHighWater = false
    onWritable?()
  }

  // MARK: Loss

  func connectionLost() {
    handler = nil
    let wasStreaming = isStreaming
    state = .over
    gathered = ByteBuffer()
    onWritable = nil
    if wasStreaming { announceClose() }
    abandon()
  }

  /// At the end of the turn, so that it never comes from within a call of the handler's own.
  private func announceClose() {
    eventLoop.assumeIsolatedUnsafeUnchecked().execute {
      guard let onClose = self.onClose else { return }
      self.hasEnded = true
      self.onClose = nil
      onClose()
    }
  }
}
