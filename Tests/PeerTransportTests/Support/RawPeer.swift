import NIOCore
import NIOPosix
import PeerProtocol
import Primitives

/// A peer without manners: says what the test wants on a cleartext connection, and reads only as long as it likes.
final class RawPeer: Sendable {
  struct Seen: Sendable {
    var frames: [PeerFrame] = []
    var connections = 0
    var closed = 0
  }

  enum Answer: Sendable {
    case nothing
    case welcome
    /// And read nothing more.
    case welcomeAndStop
  }

  let seen = Watched(Seen())
  private let listener = Watched<(any Channel)?>(nil)
  let port: Int

  /// Listens, and answers hellos.
  init(_ id: UInt64, answer: @escaping @Sendable (PeerPurpose) -> Answer) async throws {
    let seen = seen
    let channel = try await ServerBootstrap(group: TestMember.group)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          seen.change { $0.connections += 1 }
          channel.closeFuture.whenComplete { _ in seen.change { $0.closed += 1 } }
          try channel.pipeline.syncOperations.addHandler(RawHandler(seen, id: id, answer: answer))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress!.port!
    listener.change { $0 = channel }
  }

  func stop() async throws { try await listener.now?.close().get() }

  /// Dials and sends these bytes.
  static func dial(_ port: Int, _ bytes: [UInt8]) async throws -> (channel: any Channel, seen: Watched<Seen>) {
    let seen = Watched(Seen())
    let channel = try await ClientBootstrap(group: TestMember.group)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          channel.closeFuture.whenComplete { _ in seen.change { $0.closed += 1 } }
          try channel.pipeline.syncOperations.addHandler(RawHandler(seen, id: 0) { _ in .nothing })
        }
      }
      .connect(host: "127.0.0.1", port: port)
      .flatMap { channel in
        // At once, on the event loop: tasks may have to wait for longer than a handshake may take. Whoever is cut off all
        // the same is seen to be closed.
        if !bytes.isEmpty { channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }
        return channel.eventLoop.makeSucceededFuture(channel)
      }.get()
    return (channel, seen)
  }
}

private final class RawHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let seen: Watched<RawPeer.Seen>
  private let id: UInt64
  private let answer: @Sendable (PeerPurpose) -> RawPeer.Answer
  private var reader = FrameReader(maxPayloadBytes: Limits.maxPeerFrameBytes)

  init(_ seen: Watched<RawPeer.Seen>, id: UInt64, answer: @escaping @Sendable (PeerPurpose) -> RawPeer.Answer) {
    self.seen = seen
    self.id = id
    self.answer = answer
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    unwrapInboundIn(data).withUnsafeReadableBytes { reader.append($0) }
    do {
      while let frame = try reader.next() {
        seen.change { $0.frames.append(frame) }
        if case .hello(let hello) = frame { try greet(hello, context) }
        if case .ping(let token) = frame { try write(.pong(token), context) }
      }
    } catch {
      context.close(promise: nil)
    }
  }

  private func greet(_ hello: PeerHello, _ context: ChannelHandlerContext) throws {
    let answer = answer(hello.purpose)
    if case .nothing = answer { return }
    try write(.welcome(PeerWelcome(version: 1, clusterID: hello.clusterID, memberID: id)), context)
    if case .welcomeAndStop = answer { _ = context.channel.setOption(.autoRead, value: false) }
  }

  private func write(_ frame: PeerFrame, _ context: ChannelHandlerContext) throws {
    context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: try frame.encoded().bytes)), promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
