import NIOCore

/// Looks at the first bytes of a connection and installs what they ask for: HTTP/2 with prior knowledge, HTTP/1.1, or,
/// where it is offered, a line protocol.
package final class ProtocolSniffer: ChannelInboundHandler, RemovableChannelHandler {
  package typealias InboundIn = ByteBuffer
  package typealias InboundOut = ByteBuffer

  package enum Verdict: Hashable, Sendable {
    case http1
    case http2
    /// Not HTTP. Only where lines are accepted.
    case lines
  }

  static let http2Preface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
  private static let methods: [StaticString] = [
    "GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ",
  ]

  private let acceptsLines: Bool
  private let timeout: TimeAmount?
  private let install: (any Channel, Verdict) throws -> Void
  private var seen = ByteBuffer()
  private var isDecided = false
  private var timer: Scheduled<Void>?

  /// - Parameters:
  ///   - acceptsLines: Whether something other than HTTP may come; without it everything that is not HTTP/2 is taken
  ///     for HTTP/1.1, whose parser words the refusal.
  ///   - timeout: How long the first bytes may take; nil for ever.
  ///   - install: Adds the handlers for the verdict at the end of the pipeline, on the event loop. The bytes seen are
  ///     replayed to them.
  package init(
    acceptsLines: Bool, timeout: TimeAmount?, install: @escaping (any Channel, Verdict) throws -> Void
  ) {
    self.acceptsLines = acceptsLines
    self.timeout = timeout
    self.install = install
  }

  /// What these first bytes begin; nil while that is open. HTTP methods are upper case and followed by a space; lines
  /// begin with a lower-case word.
  package static func verdict(_ bytes: ByteBuffer, acceptsLines: Bool) -> Verdict? {
    let view = bytes.readableBytesView
    guard !view.isEmpty else { return nil }
    switch matches(view, http2Preface) {
    case .whole: return .http2
    case .beginning: return nil
    case .not: break
    }
    guard acceptsLines else { return .http1 }
    for method in methods {
      switch matches(view, method) {
      case .whole: return .http1
      case .beginning: return nil
      case .not: break
      }
    }
    return .lines
  }

  private enum Match { case not, beginning, whole }

  private static func matches(_ bytes: ByteBufferView, _ text: StaticString) -> Match {
    let text = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    guard zip(bytes, text).allSatisfy({ $0 == $1 }) else { return .not }
    return bytes.count >= text.count ? .whole : .beginning
  }

  package func handlerAdded(context: ChannelHandlerContext) {
    guard let timeout else { return }
    timer = context.eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: timeout) {
      context.close(promise: nil)
    }
  }

  package func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  package func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    context.fireChannelInactive()
  }

  package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isDecided else { return context.fireChannelRead(data) }
    var bytes = unwrapInboundIn(data)
    seen.writeBuffer(&bytes)
    if let verdict = Self.verdict(seen, acceptsLines: acceptsLines) { decide(verdict, context) }
  }

  package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if !isDecided {
      switch event {
      case is ChannelShouldQuiesceEvent:
        context.close(promise: nil)
        return
      case ChannelEvent.inputClosed:
        // No more bytes will settle it.
        guard seen.readableBytes > 0 else {
          context.close(promise: nil)
          return
        }
        decide(acceptsLines ? .lines : .http1, context)
        context.fireChannelReadComplete()
      default: break
      }
    }
    context.fireUserInboundEventTriggered(event)
  }

  package func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard isDecided else {
      context.close(promise: nil)
      return
    }
    context.fireErrorCaught(error)
  }

  private func decide(_ verdict: Verdict, _ context: ChannelHandlerContext) {
    isDecided = true
    timer?.cancel()
    do {
      try install(context.channel, verdict)
    } catch {
      context.close(promise: nil)
      return
    }
    let bytes = seen
    seen = ByteBuffer()
    context.fireChannelRead(wrapInboundOut(bytes))
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }
}
