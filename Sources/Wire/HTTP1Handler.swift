import NIOCore
import NIOHTTP1

/// The requests of one HTTP/1.1 connection, one at a time (`HTTPServerPipelineHandler` in front holds the next one back
/// until the answer is complete, and ends the connection on a graceful stop). Collects bodies, enforces the limits and
/// time-outs, and asks the router.
final class HTTP1Handler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private enum State {
    case waitingForHead
    case receiving(HTTP1Exchange)
    /// With the handler, or streaming.
    case answering(HTTP1Exchange)
    /// The answer is out and the connection ends; the rest of the request is read and dropped, so that closing does not
    /// reset the answer away.
    case draining
  }

  let services: WireServices
  private let peerCommonName: String?
  private(set) var context: ChannelHandlerContext?
  private var state = State.waitingForHead
  private var isReading = false
  private var isFlushNeeded = false
  private var isFlushScheduled = false
  private var endsOnStack = 0
  private var timeout = MovingTimeout()
  /// No request body may take longer, however steadily it drips.
  private var bodyDeadline = NIODeadline.distantFuture

  private static let drainTime = TimeAmount.seconds(5)
  private static let maxEndsOnStack = 16

  init(services: WireServices, peerCommonName: String?) {
    self.services = services
    self.peerCommonName = peerCommonName
  }

  // MARK: Channel events

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    setTimeout(services.limits.headerTimeout)
  }

  func handlerRemoved(context: ChannelHandlerContext) { tearDown() }

  func channelInactive(context: ChannelHandlerContext) {
    tearDown()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    isReading = true
    switch unwrapInboundIn(data) {
    case .head(let head): receiveHead(head, context)
    case .body(let bytes): receiveBody(bytes)
    case .end: receiveEnd(context)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    isReading = false
    if isFlushNeeded { flush() }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable, case .answering(let exchange) = state { exchange.flushStream() }
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case ChannelEvent.inputClosed:
      // A client that has closed its side may still wait for an answer, but not for a stream.
      if case .answering(let exchange) = state, !exchange.isStreaming {
        exchange.keepsAlive = false
        exchange.abandon()
      } else {
        context.close(promise: nil)
      }
    default: context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? HTTPParserError else {
      context.close(promise: nil)
      return
    }
    let refusal: HTTPResponse =
      error == .headerOverflow
      ? .problem(431, "the headers are too large") : .problem(400, "not a valid HTTP/1.1 request: \(error)")
    switch state {
    case .waitingForHead, .receiving:
      let exchange = HTTP1Exchange(handler: self, method: "GET", keepsAlive: false, version: .http1_1)
      state = .answering(exchange)
      exchange.respond(refusal)
    case .answering, .draining:
      context.close(promise: nil)
    }
  }

  private func tearDown() {
    timeout.cancel()
    context = nil
    if case .answering(let exchange) = state { exchange.connectionLost() }
    state = .draining
  }

  // MARK: Request

  private func receiveHead(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    guard case .waitingForHead = state else { return }
    let (path, query) = splitTarget(head.uri)
    // The decoder reads nothing behind a request that offers to change the protocol.
    let keepsAlive = head.isKeepAlive && !head.headers.contains(name: "upgrade")
    let exchange = HTTP1Exchange(
      handler: self, method: head.method.rawValue, keepsAlive: keepsAlive, version: head.version)
    exchange.request = HTTPRequest(
      method: head.method.rawValue, path: path, query: query, headers: head.headers.map { ($0.name, $0.value) },
      peerCommonName: peerCommonName)
    state = .receiving(exchange)
    bodyDeadline = context.eventLoop.now + services.limits.bodyTimeout
    setTimeout(services.limits.bodyIdleTimeout)

    switch services.http.match(method: exchange.method, path: path) {
    case .handler(let handler): exchange.routed = handler
    case let miss: exchange.refusal = HTTPRouter.response(to: miss, method: exchange.method, path: path)
    }
    let limit = services.limits.maxBodyBytes
    if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }), length > limit {
      return refuseNow(exchange, bodyTooLarge(limit))
    }
    if head.headers.first(name: "expect")?.lowercased() == "100-continue" {
      if let refusal = exchange.refusal { return refuseNow(exchange, refusal) }
      context.writeAndFlush(
        wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .continue))), promise: nil)
    }
  }

  private func receiveBody(_ bytes: ByteBuffer) {
    guard case .receiving(let exchange) = state else { return }
    setTimeout(min(services.limits.bodyIdleTimeout, bodyDeadline - exchange.eventLoop.now))
    let limit = services.limits.maxBodyBytes
    guard exchange.receivedBytes + bytes.readableBytes <= limit else { return refuseNow(exchange, bodyTooLarge(limit)) }
    exchange.receivedBytes += bytes.readableBytes
    guard exchange.refusal == nil else { return }
    if exchange.request.body.readableBytes == 0 {
      exchange.request.body = bytes
    } else {
      exchange.request.body.writeImmutableBuffer(bytes)
    }
  }

  private func receiveEnd(_ context: ChannelHandlerContext) {
    switch state {
    case .waitingForHead, .answering: break
    case .draining: context.close(promise: nil)
    case .receiving(let exchange):
      state = .answering(exchange)
      timeout.cancel()
      if let refusal = exchange.refusal {
        exchange.respond(refusal)
      } else if let handler = exchange.routed {
        let request = exchange.request
        exchange.request.body = ByteBuffer()
        handler(request, exchange)
      }
    }
  }

  /// Answers before the body is there; the connection cannot go on after it.
  private func refuseNow(_ exchange: HTTP1Exchange, _ refusal: HTTPResponse) {
    exchange.keepsAlive = false
    exchange.isDraining = true
    state = .answering(exchange)
    exchange.respond(refusal)
  }

  // MARK: Response, called by the exchange

  var isWritable: Bool { context?.channel.isWritable ?? false }
  var eventLoop: (any EventLoop)? { context?.eventLoop }

  func write(_ part: HTTPServerResponsePart, promise: EventLoopPromise<Void>? = nil) {
    guard let context else {
      promise?.fail(ChannelError.ioOnClosedChannel)
      return
    }
    context.write(wrapOutboundOut(part), promise: promise)
    setNeedsFlush()
  }

  /// The answer is complete.
  func finish(_ exchange: HTTP1Exchange) {
    guard let context else { return }
    isFlushNeeded = false
    if exchange.keepsAlive {
      guard endsOnStack < Self.maxEndsOnStack else {
        context.eventLoop.assumeIsolatedUnsafeUnchecked().execute { self.endResponse() }
        return
      }
      endResponse()
    } else if exchange.isDraining {
      state = .draining
      setTimeout(Self.drainTime)
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    } else {
      state = .draining
      let written = context.eventLoop.makePromise(of: Void.self)
      written.futureResult.assumeIsolated().whenComplete { [weak self] _ in self?.context?.close(promise: nil) }
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: written)
    }
  }

  /// The write delivers the next pipelined request, whose answer may end in here again: hence a bound on the depth.
  private func endResponse() {
    state = .waitingForHead
    setTimeout(services.limits.idleTimeout)
    endsOnStack += 1
    write(.end(nil))
    endsOnStack -= 1
  }

  /// One flush at the end of the event-loop turn.
  private func setNeedsFlush() {
    isFlushNeeded = true
    guard !isReading, !isFlushScheduled, let context else { return }
    isFlushScheduled = true
    context.eventLoop.assumeIsolatedUnsafeUnchecked().execute {
      self.isFlushScheduled = false
      if self.isFlushNeeded { self.flush() }
    }
  }

  private func flush() {
    isFlushNeeded = false
    if case .answering(let exchange) = state { exchange.flushStream() }
    isFlushNeeded = false
    context?.flush()
  }

  func abort() { context?.close(promise: nil) }

  /// The connection speaks another protocol from here on, by other handlers.
  func leave() {
    timeout.cancel()
    state = .draining
  }

  /// Has `flush` look at a stream's bytes at the end of the turn.
  func streamGrew() { setNeedsFlush() }

  // MARK: Time-outs

  /// Holds the handler until `tearDown`; a weak reference would make every retain and release of it dearer.
  private func setTimeout(_ time: TimeAmount) {
    guard let context else { return }
    timeout.set(context.eventLoop.now + time, on: context.eventLoop) { self.timedOut() }
  }

  private func timedOut() {
    guard let context else { return }
    switch state {
    case .receiving(let exchange): refuseNow(exchange, .problem(408, "the body did not arrive in time"))
    case .waitingForHead, .draining: context.close(promise: nil)
    case .answering: break
    }
  }
}

/// A deadline that moves with every request: the timer behind it is set anew only when it strikes too early or would
/// strike too late. Requests with a short and a long deadline in turn thus leave it alone.
struct MovingTimeout {
  private final class Box {
    var deadline: NIODeadline?
    var timer: Scheduled<Void>?
    /// When the timer strikes, while there is one.
    var timerDeadline = NIODeadline.distantFuture
    var strike: (() -> Void)?
  }
  private let box = Box()

  func set(_ deadline: NIODeadline, on eventLoop: any EventLoop, _ strike: @escaping () -> Void) {
    box.deadline = deadline
    box.strike = strike
    if box.timer != nil, box.timerDeadline <= deadline { return }
    box.timer?.cancel()
    Self.schedule(box, deadline, eventLoop)
  }

  /// The timer is left to run out on its own.
  func cancel() {
    box.deadline = nil
    box.strike = nil
  }

  private static func schedule(_ box: Box, _ deadline: NIODeadline, _ eventLoop: any EventLoop) {
    box.timerDeadline = deadline
    box.timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(deadline: deadline) {
      box.timer = nil
      guard let deadline = box.deadline else { return }
      if deadline > eventLoop.now {
        schedule(box, deadline, eventLoop)
      } else {
        let strike = box.strike
        box.deadline = nil
        box.strike = nil
        strike?()
      }
    }
  }
}
