import NIOCore
import PeerProtocol
import Primitives

/// What two members do on one connection. Lives on its event loop.
protocol PeerConversation: AnyObject {
  /// The connection stands, and this conversation has it.
  func began(_ connection: PeerConnection)
  /// A throw ends the connection.
  func received(_ frame: PeerFrame) throws(PeerConnectionEnd)
  /// One turn's frames have been delivered.
  func receivedAll()
  /// The connection takes writes again.
  func becameWritable()
  /// Called once, as the last.
  func ended(_ end: PeerConnectionEnd)
}

extension PeerConversation {
  func receivedAll() {}
  func becameWritable() {}
}

/// Why a connection ended, or never came about. Each reads as one line.
enum PeerConnectionEnd: Error, Hashable, CustomStringConvertible {
  case cannotConnect(String)
  case tls(String)
  case closedByPeer
  case failed(String)
  case refused(PeerRefusal)
  /// Hello or welcome did not come in time.
  case handshakeTimeout
  case silent
  case damaged(PeerProtocolError)
  /// A frame that makes no sense where it came.
  case misbehaved(String)
  /// A newer connection of the same kind has taken its place.
  case replaced
  /// There is no use for it any more.
  case released

  var description: String {
    switch self {
    case .cannotConnect(let reason): "cannot connect: \(reason)"
    case .tls(let reason): "TLS handshake failed: \(reason)"
    case .closedByPeer: "closed by the peer"
    case .failed(let reason): reason
    case .refused(let refusal): "refused: the member \(refusal)"
    case .handshakeTimeout: "no answer to the handshake"
    case .silent: "the peer has fallen silent"
    case .damaged(let error): "received \(error)"
    case .misbehaved(let what): "the peer sent \(what)"
    case .replaced: "replaced by a newer connection"
    case .released: "not needed any more"
    }
  }
}

/// Frames over one connection, and the signs of life on it. What they mean is the conversation's affair. Bound to its
/// channel's event loop.
final class PeerConnection: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  /// Who sends pings. The other side answers them; silence ends the connection on either.
  enum Side {
    case dialled
    case accepted
  }

  let eventLoop: any EventLoop
  /// Replaced when the handshake is over.
  var conversation: any PeerConversation
  /// Where bytes are counted, once the peer is known.
  var counters: PeerCounters?
  private let side: Side
  private let timing: PeerTiming
  private var reader: FrameReader
  private var context: ChannelHandlerContext?
  private var lastRead = NIODeadline.now()
  /// Nil during the handshake.
  private var silence: TimeAmount?
  private var measuresRoundTrip = false
  private var timer: Scheduled<Void>?
  private var hasBegun = false
  private var hasEnded = false

  init(_ side: Side, timing: PeerTiming, on eventLoop: any EventLoop, conversation: any PeerConversation) {
    self.side = side
    self.timing = timing
    self.eventLoop = eventLoop
    self.conversation = conversation
    reader = FrameReader(maxPayloadBytes: 0)
  }

  /// The handshake is over: larger frames, pings, and an end when the peer falls silent.
  func establish(for purpose: PeerPurpose) {
    reader.maxPayloadBytes = purpose == .bulk ? Limits.maxPeerFrameBytes : Limits.maxSmallPeerFrameBytes
    silence = timing.silence(purpose)
    measuresRoundTrip = purpose == .urgent
    timer?.cancel()
    if side == .dialled { ping() }
    scheduleCheck()
  }

  var isWritable: Bool { !hasEnded && context?.channel.isWritable == true }
  var remoteAddress: String { context?.channel.remoteAddress.map { "\($0)" } ?? "?" }

  /// Ends with `flush`.
  func write(_ frames: [EncodedFrame]) {
    guard let context, !hasEnded else { return }
    let byteCount = frames.reduce(0) { $0 + $1.byteCount }
    var buffer = context.channel.allocator.buffer(capacity: byteCount)
    for frame in frames { buffer.write(frame) }
    counters?.bytesSent.add(byteCount)
    context.write(NIOAny(buffer), promise: nil)
  }

  func flush() { if !hasEnded { context?.flush() } }

  /// For frames that are small or, as a snapshot's chunk, known to fit.
  func send(_ frame: PeerFrame) {
    do throws(PeerProtocolError) {
      write([try frame.encoded()])
      flush()
    } catch {
      close(.failed("cannot send \(error)"))
    }
  }

  /// Tells the conversation before it returns.
  func close(_ end: PeerConnectionEnd) {
    guard !hasEnded else { return }
    finish(end)
    context?.close(promise: nil)
  }

  /// Sends a last frame, and closes when it is written.
  func close(after frame: PeerFrame, _ end: PeerConnectionEnd) {
    guard let channel = context?.channel, !hasEnded else { return }
    send(frame)
    let written = eventLoop.makePromise(of: Void.self)
    channel.writeAndFlush(ByteBuffer(), promise: written)
    written.futureResult.whenComplete { _ in channel.close(promise: nil) }
    // A peer that takes nothing keeps nothing open.
    let limit = eventLoop.scheduleTask(in: timing.handshakeTimeout) { channel.close(promise: nil) }
    channel.closeFuture.whenComplete { _ in limit.cancel() }
    finish(end)
  }

  private func finish(_ end: PeerConnectionEnd) {
    hasEnded = true
    timer?.cancel()
    conversation.ended(end)
  }

  // MARK: Signs of life

  private func scheduleCheck() {
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: timing.pingInterval) { [weak self] in
      self?.check()
    }
  }

  private func check() {
    guard let silence, !hasEnded else { return }
    guard NIODeadline.now() - lastRead <= silence else { return close(.silent) }
    if side == .dialled { ping() }
    scheduleCheck()
  }

  private func ping() { send(.ping(NIODeadline.now().uptimeNanoseconds)) }

  /// True for frames that no conversation needs to see.
  private func isSignOfLife(_ frame: PeerFrame) -> Bool {
    guard silence != nil else { return false }
    switch frame {
    case .ping(let token):
      send(.pong(token))
    case .pong(let token):
      let now = NIODeadline.now().uptimeNanoseconds
      if measuresRoundTrip, token <= now, let counters {
        counters.roundTrips.withLock { $0.note(nanoseconds: now - token) }
      }
    default:
      return false
    }
    return true
  }

  // MARK: Channel events

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if context.channel.isActive { begin() }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    if !hasEnded { finish(.closedByPeer) }
    self.context = nil
  }

  func channelActive(context: ChannelHandlerContext) { begin() }

  /// A handler that is added while its channel becomes active may hear of that twice.
  private func begin() {
    guard !hasBegun else { return }
    hasBegun = true
    reader.maxPayloadBytes = side == .dialled ? Limits.maxSmallPeerFrameBytes : Limits.maxPeerHandshakeBytes
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: timing.handshakeTimeout) { [weak self] in
      self?.close(.handshakeTimeout)
    }
    conversation.began(self)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !hasEnded else { return }
    lastRead = .now()
    let buffer = unwrapInboundIn(data)
    counters?.bytesReceived.add(buffer.readableBytes)
    buffer.withUnsafeReadableBytes { reader.append($0) }
    do throws(PeerConnectionEnd) {
      while !hasEnded, let frame = try nextFrame() {
        if !isSignOfLife(frame) { try conversation.received(frame) }
      }
    } catch {
      close(error)
    }
  }

  private func nextFrame() throws(PeerConnectionEnd) -> PeerFrame? {
    do throws(PeerProtocolError) {
      return try reader.next()
    } catch {
      throw .damaged(error)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) { if !hasEnded { conversation.receivedAll() } }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if !hasEnded, context.channel.isWritable { conversation.becameWritable() }
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !hasEnded { finish(.closedByPeer) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { close(.failed("\(error)")) }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is ChannelShouldQuiesceEvent { close(.released) }
    // Nobody here speaks on when the other side has finished.
    if case .inputClosed? = event as? ChannelEvent { close(.closedByPeer) }
  }
}

extension ByteBuffer {
  fileprivate mutating func write(_ frame: EncodedFrame) {
    writeBytes(frame.head)
    for body in frame.bodies { writeBytes(body) }
    writeInteger(frame.checksum(), endianness: .little)
  }
}
