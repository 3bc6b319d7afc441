import CNghttp2
import NIOCore

/// A gRPC call on an HTTP/2 stream.
final class GRPCServerCall: HTTP2Stream, GRPCCall {
  /// Who deals with the call's messages.
  private enum Delegate {
    case none
    case handler(any GRPCHandler)
    case unary(GRPCRegistry.UnaryAnswer)
  }

  private(set) var isOver = false

  private let metadataBlock: HeaderBlock
  private let route: GRPCRegistry.Route?
  /// The path of a call without a route; a route knows its own, and a call holds one reference less.
  private let unknownPath: String
  private var delegate = Delegate.none
  private var deframer = GRPCDeframer()
  private var hasStartedResponse = false
  private var status = GRPCStatus.ok
  private var startedAt: NIODeadline?
  private var receivedMessages = 0
  private var receivedBytes = 0
  private var sentMessages = 0
  private var sentBytes = 0

  init(
    id: Int32, connection: HTTP2Connection, metadata: HeaderBlock, route: (name: String, route: GRPCRegistry.Route?)
  ) {
    self.metadataBlock = metadata
    self.route = route.route
    unknownPath = route.route == nil ? route.name : ""
    self.peerCommonName = connection.peerCommonName
    super.init(id: id, connection: connection)
  }

  // MARK: GRPCCall

  var path: String { route?.method.path ?? unknownPath }

  let peerCommonName: String?

  func metadata(_ name: String) -> String? { metadataBlock[name] }
  func hasMetadata(_ name: StaticString, _ value: StaticString) -> Bool { metadataBlock.has(name, value) }

  var pendingBytes: Int { queuedBytes }

  func notifyWhenDrained() { reportDrained() }

  func send(_ message: ByteBuffer) {
    eventLoop.assertInEventLoop()
    guard !isOver, let connection else { return }
    startResponse(connection)
    note(sentBytes: message.readableBytes, connection)
    enqueueMessage(message)
  }

  func reply(_ message: any GRPCMessageSource) {
    eventLoop.assertInEventLoop()
    guard !isOver, let connection else { return }
    startResponse(connection)
    note(sentBytes: message.byteCount, connection)
    enqueueMessage(message)
    finish(.ok)
  }

  private func startResponse(_ connection: HTTP2Connection) {
    guard !hasStartedResponse else { return }
    hasStartedResponse = true
    let headers = StaticHeaders.grpcResponse
    connection.submitResponse(self, headers.fields, headers.count, hasBody: true)
  }

  private func note(sentBytes bytes: Int, _ connection: HTTP2Connection) {
    sentMessages += 1
    sentBytes += bytes
    connection.noteMessage(sentBytes: bytes)
  }

  func finish(_ status: GRPCStatus) {
    eventLoop.assertInEventLoop()
    guard !isOver else { return }
    isOver = true
    self.status = status
    // The handler and this call refer to each other.
    delegate = .none
    deframer.reset()
    _ = holdsRequestBytes(0)
    guard let connection else { return }
    report(status.code, connection)
    if hasStartedResponse {
      endOutput()
    } else {
      sendTrailersOnly(connection)
    }
  }

  // MARK: Start

  func start(_ headers: IncomingHeaders) {
    if let route, let observer = connection!.observer {
      startedAt = eventLoop.now
      observer.callStarted(route.method)
    }
    if let refusal = refusal(of: headers) { return finish(refusal) }
    guard let route else { return finish(connection!.services.grpc!.refusal(path)) }
    if case .some(.some(let timeout)) = headers.timeout {
      guard timeout > .zero else { return finish(Self.deadlineStatus) }
      connection!.watchDeadline(of: self, eventLoop.now + timeout)
    }
    switch route.implementation {
    case .unary(let answer): delegate = .unary(answer)
    case .streaming(let make):
      let handler = make(self)
      // The maker may have refused the call at once.
      if !isOver { delegate = .handler(handler) }
    }
  }

  /// `te: trailers` is not asked for, as grpc-go does not; a different `te` nghttp2 has refused already.
  private func refusal(of headers: IncomingHeaders) -> GRPCStatus? {
    if headers.isTooLarge {
      return GRPCStatus(.resourceExhausted, "the request's metadata is too large")
    }
    if !headers.method.elementsEqual("POST".utf8) {
      return GRPCStatus(
        .internal, "http2Server.operateHeaders parsed a :method field which should be POST")
    }
    if case .some(.none) = headers.timeout { return GRPCStatus(.internal, "malformed grpc-timeout") }
    return nil
  }

  // MARK: Stream events

  override func receive(_ bytes: ByteBuffer) {
    guard !isOver, let connection else { return }
    deframer.append(bytes)
    do throws(GRPCStatus) {
      while !isOver,
        let message = try deframer.next(
          limit: connection.limits.maxMessageBytes, encoding: { self.metadataBlock["grpc-encoding"] })
      {
        deliver(message, connection)
      }
    } catch {
      return abort(error)
    }
    if !isOver, !holdsRequestBytes(deframer.heldBytes) {
      abort(GRPCStatus(.resourceExhausted, "too many unfinished requests on this connection"))
    }
  }

  private func deliver(_ message: ByteBuffer, _ connection: HTTP2Connection) {
    receivedMessages += 1
    receivedBytes += message.readableBytes
    connection.noteMessage(receivedBytes: message.readableBytes)
    switch delegate {
    case .none: break
    case .handler(let handler): handler.receive(message)
    case .unary(let answer):
      // A unary call has one message; what follows it is nobody's.
      delegate = .none
      answer(message, self)
    }
  }

  override func remoteEnded() {
    guard !isOver else { return }
    guard deframer.heldBytes == 0 else { return abort(GRPCStatus(.internal, "unexpected EOF")) }
    switch delegate {
    case .none: break
    case .handler(let handler): handler.halfClosed()
    case .unary: abort(GRPCStatus(.internal, "the request message is missing"))
    }
  }

  override func drained() {
    if !isOver, case .handler(let handler) = delegate { handler.writable() }
  }

  override func expired() { abort(Self.deadlineStatus) }

  override func closed(_ connection: HTTP2Connection) {
    guard !isOver else { return }
    isOver = true
    report(.cancelled, connection)
    let delegate = delegate
    self.delegate = .none
    deframer.reset()
    if case .handler(let handler) = delegate { handler.cancelled() }
  }

  // MARK: The end

  static let deadlineStatus = GRPCStatus(.deadlineExceeded, "context deadline exceeded")

  /// Ends the call on the wire's own initiative; the handler learns it as a cancellation.
  private func abort(_ status: GRPCStatus) {
    guard !isOver else { return }
    let delegate = delegate
    finish(status)
    if case .handler(let handler) = delegate { handler.cancelled() }
  }

  private func report(_ code: GRPCCode, _ connection: HTTP2Connection) {
    guard let route, let startedAt, let observer = connection.observer else { return }
    observer.callFinished(
      route.method,
      GRPCCallSummary(
        code: code, receivedMessages: receivedMessages, receivedBytes: receivedBytes, sentMessages: sentMessages,
        sentBytes: sentBytes, durationNanoseconds: (eventLoop.now - startedAt).nanoseconds))
  }

  private func sendTrailersOnly(_ connection: HTTP2Connection) {
    var headers = OutgoingHeaders()
    headers.add(":status", "200".utf8)
    headers.add("content-type", "application/grpc".utf8)
    addStatus(to: &headers)
    headers.withFields { connection.submitResponse(self, $0, $1, hasBody: false) }
  }

  override func submitTrailers(_ session: OpaquePointer) -> Bool {
    if status == .ok {
      let trailers = StaticHeaders.grpcOK
      return nghttp2_submit_trailer(session, id, trailers.fields, trailers.count) == 0
    }
    var trailers = OutgoingHeaders()
    addStatus(to: &trailers)
    return trailers.withFields { nghttp2_submit_trailer(session, id, $0, $1) } == 0
  }

  private func addStatus(to headers: inout OutgoingHeaders) {
    headers.add("grpc-status", String(status.code.rawValue).utf8)
    headers.add("grpc-message", status.encodedMessage)
  }
}
