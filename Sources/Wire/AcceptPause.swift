import Logging
import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// On a listening channel: when the system refuses another connection (no descriptor, no memory), accepting pauses, and
/// who wants in waits in the kernel's queue. Without it the event loop would ask again at once, and cost a core.
///
/// NIO's AcceptBackoffHandler holds reads back, but a refused accept leaves the last read pending and the socket
/// registered, so nothing is won by it; this one takes the socket off the poll.
///
/// Bound to its channel's event loop.
final class AcceptPause: ChannelInboundHandler {
  typealias InboundIn = any Channel
  typealias InboundOut = any Channel

  private static let pause = TimeAmount.milliseconds(200)

  private let logger: Logger
  /// One line for each stretch of refusals.
  private var isRefused = false

  init(logger: Logger) { self.logger = logger }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    isRefused = false
    context.fireChannelRead(data)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // What closes the channel is told by the closing; a client that gave up before it was accepted is no reason to wait.
    guard let refusal = error as? IOError, Self.isShortage(refusal) else {
      context.fireErrorCaught(error)
      return
    }
    if !isRefused {
      isRefused = true
      logger.warning(
        "no more connections can be accepted; new ones wait", metadata: ["reason": "\(refusal)"])
    }
    let channel = context.channel
    channel.setOption(.autoRead, value: false).whenFailure { channel.pipeline.fireErrorCaught($0) }
    channel.eventLoop.scheduleTask(in: Self.pause) {
      // A channel that was closed meanwhile refuses the option, and needs it no more.
      _ = channel.setOption(.autoRead, value: true)
    }
  }

  private static func isShortage(_ error: IOError) -> Bool {
    [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.errnoCode)
  }
}
