import NIOCore

/// A plain HTTP request on an HTTP/2 stream, and its answer.
final class HTTP2Exchange: HTTP2Stream, HTTPResponder, HTTPStream {
  private enum State {
    /// The body is arriving.
    case receiving
    /// With the handler.
    case waiting
    case streaming
    /// Everything is said.
    case over
  }

  private var state = State.receiving
  private var request: HTTPRequest
  private var handler: HTTPRouter.Handler?

  init(id: Int32, connection: HTTP2Connection, headers: IncomingHeaders) {
    let (path, query) = splitTarget(String(decoding: headers.path, as: UTF8.self))
    request = HTTPRequest(
      method: String(decoding: headers.method, as: UTF8.self), path: path, query: query,
      headers: headers.block.fields, peerCommonName: connection.peerCommonName)
    super.init(id: id, connection: connection)
  }

  func start(headersTooLarge: Bool) {
    guard let connection else { return }
    if headersTooLarge { return respond(.problem(431, "the headers are too large")) }
    switch connection.services.http.match(method: request.method, path: request.path) {
    case .handler(let handler): self.handler = handler
    case let miss: return respond(HTTPRouter.response(to: miss, method: request.method, path: request.path))
    }
    let limit = connection.limits.maxBodyBytes
    if let length = request.header("content-length").flatMap({ Int($0) }), length > limit {
      return respond(bodyTooLarge(limit))
    }
    connection.watchDeadline(of: self, eventLoop.now + connection.limits.bodyTimeout)
    if request.header("expect")?.lowercased() == "100-continue" { connection.submitContinue(self) }
  }

  // MARK: Stream events

  override func receive(_ bytes: ByteBuffer) {
    guard case .receiving = state, let connection else { return }
    let limit = connection.limits.maxBodyBytes
    guard request.body.readableBytes + bytes.readableBytes <= limit else { return respond(bodyTooLarge(limit)) }
    if request.body.readableBytes == 0 {
      request.body = bytes
    } else {
      request.body.writeImmutableBuffer(bytes)
    }
    if !holdsRequestBytes(request.body.readableBytes) {
      respond(.problem(503, "too many unfinished requests on this connection"))
    }
  }

  override func expired() {
    if case .receiving = state { respond(.problem(408, "the body did not arrive in time")) }
  }

  override func remoteEnded() {
    guard case .receiving = state, let handler else { return }
    state = .waiting
    deadline = nil
    _ = holdsRequestBytes(0)
    let request = request
    self.request.body = ByteBuffer()
    self.handler = nil
    handler(request, self)
  }

  override func drained() {
    if case .streaming = state { onWritable?() }
  }

  override func closed(_ connection: HTTP2Connection) {
    let (wasStreaming, wasWaiting) =
      switch state {
      case .streaming: (true, false)
      case .waiting: (false, true)
      case .receiving, .over: (false, false)
      }
    state = .over
    handler = nil
    if wasStreaming { announceClose() }
    onWritable = nil
    let onAbandon = onAbandon
    self.onAbandon = nil
    if wasWaiting { onAbandon?() }
  }

  // MARK: HTTPResponder

  var onAbandon: (() -> Void)?

  func respond(_ response: HTTPResponse) {
    switch state {
    case .over: return
    case .streaming: preconditionFailure("an exchange is answered once")
    case .receiving, .waiting: break
    }
    state = .over
    onAbandon = nil
    handler = nil
    request.body = ByteBuffer()
    _ = holdsRequestBytes(0)
    let hasBody = request.method != "HEAD" && response.body.readableBytes > 0
    submit(response.status, response.headers, length: response.body.readableBytes, hasBody: hasBody)
    if hasBody {
      enqueue(response.body)
      endOutput()
    }
  }

  func startStream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream {
    guard case .waiting = state else { return self }
    onAbandon = nil
    let hasBody = request.method != "HEAD"
    submit(status, headers, length: nil, hasBody: hasBody)
    state = hasBody ? .streaming : .over
    return self
  }

  private func submit(_ status: Int, _ fields: [(name: String, value: String)], length: Int?, hasBody: Bool) {
    guard let connection else { return }
    var headers = OutgoingHeaders()
    headers.add(":status", String(status).utf8)
    for field in fields where !isConnectionHeader(field.name) {
      headers.add(headerSafe(field.name), headerSafe(field.value).utf8)
    }
    if let length, status != 204, status != 304 { headers.add("content-length", String(length).utf8) }
    headers.withFields { connection.submitResponse(self, $0, $1, hasBody: hasBody) }
  }

  // MARK: HTTPStream

  var pendingBytes: Int { queuedBytes }
  func notifyWhenDrained() { reportDrained() }
  func abort() { connection?.reset(self) }
  var onWritable: (() -> Void)?
  var onClose: (() -> Void)? {
    didSet {
      // Set too late to be told in the normal course (also for HEAD, which has no stream).
      if case .over = state, !hasEnded, onClose != nil { announceClose() }
    }
  }
  private var hasEnded = false

  func write(_ bytes: ByteBuffer) {
    if case .streaming = state { enqueue(bytes) }
  }

  func end() {
    hasEnded = true
    onClose = nil
    guard case .streaming = state else { return }
    state = .over
    onWritable = nil
    endOutput()
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

/// "path?query" in its two parts.
func splitTarget(_ target: String) -> (path: String, query: String) {
  guard let mark = target.utf8.firstIndex(of: UInt8(ascii: "?")) else { return (target, "") }
  return (String(target[..<mark]), String(target[target.utf8.index(after: mark)...]))
}

func bodyTooLarge(_ limit: Int) -> HTTPResponse {
  .problem(413, "the body is larger than \(limit) bytes")
}

/// Headers that speak of one connection; the wire sets them itself.
func isConnectionHeader(_ name: String) -> Bool {
  ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"]
    .contains { sameHeaderName($0, name) }
}
