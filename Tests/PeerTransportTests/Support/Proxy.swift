import NIOCore
import NIOPosix

/// A TCP proxy on loopback that ruins what passes from the dialling side, as planned for each connection in turn;
/// those behind the plan pass untouched.
final class Proxy: Sendable {
  enum Fault: Sendable {
    case cut(after: Int)
    case flip(at: Int)
  }

  let port: Int
  private let listener: any Channel
  let connections = Watched(0)

  init(to target: Int, plan: [Fault]) async throws {
    let connections = connections
    listener = try await ServerBootstrap(group: TestMember.group)
      .childChannelOption(.autoRead, value: false)
      .childChannelInitializer { channel in
        let number = connections.now
        connections.change { $0 += 1 }
        let fault = number < plan.count ? plan[number] : nil
        return ClientBootstrap(group: channel.eventLoop)
          .channelOption(.autoRead, value: false)
          .connect(host: "127.0.0.1", port: target)
          .flatMap { other in
            channel.eventLoop.makeCompletedFuture {
              try channel.pipeline.syncOperations.addHandler(Relay(to: other, fault))
              try other.pipeline.syncOperations.addHandler(Relay(to: channel, nil))
            }
            .flatMap { channel.setOption(.autoRead, value: true) }
            .flatMap { other.setOption(.autoRead, value: true) }
          }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = listener.localAddress!.port!
  }

  func stop() async throws { try await listener.close().get() }
}

private final class Relay: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let other: any Channel
  private let fault: Proxy.Fault?
  private var passed = 0

  init(to other: any Channel, _ fault: Proxy.Fault?) {
    self.other = other
    self.fault = fault
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    defer { passed += bytes.readableBytes }
    switch fault {
    case .cut(let limit) where passed + bytes.readableBytes >= limit:
      let rest = bytes.getSlice(at: bytes.readerIndex, length: max(0, limit - passed)) ?? ByteBuffer()
      other.writeAndFlush(rest, promise: nil)
      context.close(promise: nil)
      return
    case .flip(let place) where (passed..<passed + bytes.readableBytes).contains(place):
      let index = bytes.readerIndex + place - passed
      bytes.setInteger(bytes.getInteger(at: index, as: UInt8.self)! ^ 0x10, at: index)
    default:
      break
    }
    other.writeAndFlush(bytes, promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
