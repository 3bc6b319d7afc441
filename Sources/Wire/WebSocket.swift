import NIOCore
import NIOWebSocket

/// A connection that has become a WebSocket (RFC 6455): whole messages in, text messages out. Event-loop bound; what is
/// sent after the end is dropped. A peer that does not read is not read from either.
package final class WebSocket: ChannelDuplexHandler {
  package typealias InboundIn = WebSocketFrame
  package typealias OutboundIn = Never
  package typealias OutboundOut = WebSocketFrame

  package let eventLoop: any EventLoop
  /// A whole message, text or binary.
  package var onMessage: ((ByteBuffer) -> Void)?
  /// The peer has gone. Not called after `close`.
  package var onClose: (() -> Void)?
  /// Pending bytes have drained below the low-water mark.
  package var onWritable: (() -> Void)?
  /// Bytes accepted by `send` that the peer has not yet taken.
  package private(set) var pendingBytes = 0

  private let limits: WireLimits
  private var context: ChannelHandlerContext?
  /// The parts so far of a message that comes in several frames.
  private var parts: ByteBuffer?
  private var isAboveHighWater = false
  private var isReadHeldBack = false
  private var isOver = false
  private var isFlushScheduled = false

  /// How long the peer may take to read what is on its way and answer our close frame.
  private static let closeTime = TimeAmount.seconds(30)

  init(limits: WireLimits, eventLoop: any EventLoop) {
    self.limits = limits
    self.eventLoop = eventLoop
  }

  // MARK: What the user does

  package func send(_ text: ByteBuffer) {
    guard !isOver, let context else { return }
    let count = text.readableBytes
    pendingBytes += count
    if pendingBytes > limits.streamHighWaterBytes { isAboveHighWater = true }
    let written = eventLoop.makePromise(of: Void.self)
    written.futureResult.assumeIsolatedUnsafeUnchecked().whenComplete { _ in self.taken(count) }
    context.write(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .text, data: text)), promise: written)
    scheduleFlush()
  }

  package func notifyWhenDrained() {
    if pendingBytes > 0 { isAboveHighWater = true }
  }

  package func close() { close(.normalClosure) }

  private func close(_ code: WebSocketErrorCode) {
    guard !isOver, let context else { return }
    end()
    var reason = ByteBuffer()
    reason.write(webSocketErrorCode: code)
    context.writeAndFlush(
      wrapOutboundOut(WebSocketFrame(fin: true, opcode: .connectionClose, data: reason)), promise: nil)
    eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: Self.closeTime) {
      self.context?.close(promise: nil)
    }
  }

  /// Nothing is told to the user any more.
  private func end() {
    isOver = true
    parts = nil
    onMessage = nil
    onClose = nil
    onWritable = nil
  }

  /// One flush at the end of the event-loop turn.
  private func scheduleFlush() {
    guard !isFlushScheduled else { return }
    isFlushScheduled = true
    eventLoop.assumeIsolatedUnsafeUnchecked().execute {
      self.isFlushScheduled = false
      self.context?.flush()
    }
  }

  private func taken(_ count: Int) {
    pendingBytes -= count
    guard pendingBytes < limits.streamLowWaterBytes else { return }
    if isReadHeldBack {
      isReadHeldBack = false
      context?.read()
    }
    guard isAboveHighWater else { return }
    isAboveHighWater = false
    onWritable?()
  }

  // MARK: Channel events

  package func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  package func handlerRemoved(context: ChannelHandlerContext) { lose() }

  package func channelInactive(context: ChannelHandlerContext) {
    lose()
    context.fireChannelInactive()
  }

  private func lose() {
    context = nil
    let onClose = onClose
    end()
    onClose?()
  }

  package func read(context: ChannelHandlerContext) {
    if pendingBytes > limits.streamHighWaterBytes { isReadHeldBack = true } else { context.read() }
  }

  package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let frame = unwrapInboundIn(data)
    if isOver {
      // The peer's answer to our close frame.
      if frame.opcode == .connectionClose { context.close(promise: nil) }
      return
    }
    // A client masks what it sends (section 5.1).
    guard frame.maskKey != nil else { return fail(.protocolError) }
    switch frame.opcode {
    case .text, .binary:
      guard parts == nil else { return fail(.protocolError) }
      receive(frame.unmaskedData, isLast: frame.fin)
    case .continuation:
      guard parts != nil else { return fail(.protocolError) }
      receive(frame.unmaskedData, isLast: frame.fin)
    case .ping:
      context.writeAndFlush(
        wrapOutboundOut(WebSocketFrame(fin: true, opcode: .pong, data: frame.unmaskedData)), promise: nil)
    case .connectionClose: leave(context)
    default: break
    }
  }

  private func receive(_ data: ByteBuffer, isLast: Bool) {
    let held = parts?.readableBytes ?? 0
    guard held + data.readableBytes <= limits.maxBodyBytes else { return fail(.messageTooLarge) }
    var whole = parts ?? ByteBuffer()
    whole.writeImmutableBuffer(data)
    parts = isLast ? nil : whole
    if isLast { onMessage?(whole) }
  }

  /// The peer closes: its close frame is answered by ours, and the connection ends.
  private func leave(_ context: ChannelHandlerContext) {
    let onClose = onClose
    end()
    var reason = ByteBuffer()
    reason.write(webSocketErrorCode: .normalClosure)
    let written = eventLoop.makePromise(of: Void.self)
    written.futureResult.assumeIsolatedUnsafeUnchecked().whenComplete { _ in self.context?.close(promise: nil) }
    context.writeAndFlush(
      wrapOutboundOut(WebSocketFrame(fin: true, opcode: .connectionClose, data: reason)), promise: written)
    onClose?()
  }

  package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case ChannelEvent.inputClosed: context.close(promise: nil)
    case is ChannelShouldQuiesceEvent:
      fail(.goingAway)
    default: context.fireUserInboundEventTriggered(event)
    }
  }

  package func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case NIOWebSocketError.invalidFrameLength: fail(.messageTooLarge)
    case is NIOWebSocketError: fail(.protocolError)
    default: context.close(promise: nil)
    }
  }

  /// Closes for a reason that is not the user's.
  private func fail(_ code: WebSocketErrorCode) {
    let onClose = onClose
    close(code)
    onClose?()
  }
}
