import Logging
import NIOCore
import Primitives
import SidecarCore
import Synchronization

/// The line form of the event socket on one connection: splits lines, and hands what they ask for to a session, in
/// order.
///
/// Reads from the socket stop while many lines wait for the session.
final class EventLineHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  enum Line: Sendable {
    case op(SubscriberOp)
    case failure(OpFailure)
    /// The last thing before the connection is closed.
    case fatal(OpFailure)
    /// The peer sends no more; what it subscribed to goes on.
    case end
  }

  private static let maxWaitingLines = 512

  private let hub: EventHub
  private var buffer = ByteBuffer()
  private var lines: AsyncStream<Line>.Continuation?
  private var outlet: StreamOutlet?
  private var waitingLines = 0
  private var hasFailed = false
  private var isReadOwed = false

  init(hub: EventHub) { self.hub = hub }

  func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { start(context) }
  }

  func channelActive(context: ChannelHandlerContext) {
    start(context)
    context.fireChannelActive()
  }

  private func start(_ context: ChannelHandlerContext) {
    guard outlet == nil else { return }
    let connection = hub.newConnection()
    let session = EventSession(hub: hub, connection: connection)
    let transport = ChannelTransport(context.channel)
    let outlet = StreamOutlet(
      transport, on: context.eventLoop, timing: hub.timing,
      onWritable: { Task { await session.writable() } }, onHeartbeat: { Task { await session.heartbeat() } })
    transport.onProgress = { [weak outlet] in outlet?.measure() }
    self.outlet = outlet
    let (stream, continuation) = AsyncStream.makeStream(of: Line.self)
    lines = continuation
    let loop = context.eventLoop
    let bound = NIOLoopBound((self, context), eventLoop: loop)
    Task {
      await session.run(stream, outlet) { count in
        loop.execute { bound.value.0.linesDone(count, bound.value.1) }
      }
    }
    context.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !hasFailed else { return }
    var bytes = unwrapInboundIn(data)
    buffer.writeBuffer(&bytes)
    while let length = buffer.readableBytesView.firstIndex(of: UInt8(ascii: "\n")).map({ $0 - buffer.readerIndex }) {
      guard length <= Limits.maxEventLineBytes, let line = buffer.readBytes(length: length) else {
        return failTooLong()
      }
      buffer.moveReaderIndex(forwardBy: 1)
      take(line)
    }
    guard buffer.readableBytes <= Limits.maxEventLineBytes else { return failTooLong() }
    buffer.discardReadBytes()
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    isReadOwed = true
    readIfAllowed(context)
    context.fireChannelReadComplete()
  }

  private func take(_ line: [UInt8]) {
    do throws(OpFailure) {
      guard let op = try SubscriberOp(parsingLine: line) else { return }
      waitingLines += 1
      lines?.yield(.op(op))
    } catch {
      waitingLines += 1
      lines?.yield(.failure(error))
    }
  }

  private func failTooLong() {
    hasFailed = true
    buffer.clear()
    lines?.yield(.fatal(OpFailure(.toolong, "a line is longer than \(Limits.maxEventLineBytes) bytes")))
  }

  private func linesDone(_ count: Int, _ context: ChannelHandlerContext) {
    waitingLines -= count
    readIfAllowed(context)
  }

  private func readIfAllowed(_ context: ChannelHandlerContext) {
    guard isReadOwed, waitingLines < Self.maxWaitingLines, context.channel.isActive else { return }
    isReadOwed = false
    context.read()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed = event { lines?.yield(.end) }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    outlet?.transportClosed()
    lines?.finish()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // A broken connection; the subscriber's cursor stays.
    context.close(promise: nil)
  }
}

/// Lines on a NIO channel.
private final class ChannelTransport: EventTransport {
  private let channel: any Channel
  var onProgress: (() -> Void)?

  init(_ channel: any Channel) { self.channel = channel }

  func write(_ bytes: ByteBuffer) {
    let promise = channel.eventLoop.makePromise(of: Void.self)
    let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
    promise.futureResult.whenComplete { _ in bound.value.onProgress?() }
    channel.writeAndFlush(bytes, promise: promise)
  }

  var pendingBytes: Int {
    do {
      return try channel.syncOptions?.getOption(ChannelOptions.bufferedWritableBytes) ?? 0
    } catch {
      // The channel is closed: nothing waits in it.
      return 0
    }
  }

  /// What was written goes out first when the peer takes it at once; a stalled peer gets no more.
  func close() { channel.close(promise: nil) }
}

/// What one line connection has asked for, carried out in order.
private actor EventSession {
  private let hub: EventHub
  private let connection: UInt64
  private let answers = AnswerOrder()
  private var service: SubscriberService?

  init(hub: EventHub, connection: UInt64) {
    self.hub = hub
    self.connection = connection
  }

  func writable() async { await service?.writable(connection) }

  func heartbeat() async { await service?.heartbeat(connection) }

  /// Until the connection is gone. `done` is called with the number of lines that have been worked off.
  func run(_ lines: AsyncStream<EventLineHandler.Line>, _ outlet: StreamOutlet, done: @Sendable (Int) -> Void) async {
    for await line in lines {
      switch line {
      case .op(let op):
        await perform(op, outlet)
        done(1)
      case .failure(let failure):
        answers.fill(answers.next(), .refused(failure.code, failure.message), outlet)
        done(1)
      case .fatal(let failure): outlet.close(after: Self.bytes(.refused(failure.code, failure.message)))
      case .end: if service == nil { outlet.close(after: []) }
      }
    }
    await service?.detach(connection)
  }

  private func perform(_ op: SubscriberOp, _ outlet: StreamOutlet) async {
    let place = answers.next()
    if case .subscribe(let subscription) = op, service == nil {
      do throws(OpFailure) {
        let service = try await hub.service(for: subscription)
        self.service = service
        answers.fill(place, nil, outlet)
        await service.attach(connection, subscription, .stream, outlet)
      } catch {
        answers.fill(place, .refused(error.code, error.message), outlet)
      }
      return
    }
    guard let service else { return answers.fill(place, .refused(.nosub, "subscribe first: sub NAME"), outlet) }
    let answers = answers
    await service.perform(op, connection: connection) { answers.fill(place, $0, outlet) }
  }

  private static func bytes(_ message: EventMessage) -> [UInt8] {
    var bytes: [UInt8] = []
    message.encodeLines(into: &bytes)
    return bytes
  }
}

/// Answers leave a connection in the order of its questions, so that a client can match them by counting; events come
/// between them.
private final class AnswerOrder: Sendable {
  private struct State {
    var given: UInt64 = 0
    var sent: UInt64 = 0
    var waiting: [UInt64: EventMessage?] = [:]
  }

  private let state = Mutex(State())

  func next() -> UInt64 {
    state.withLock { state in
      defer { state.given += 1 }
      return state.given
    }
  }

  /// `message` nil: nothing to say.
  func fill(_ place: UInt64, _ message: EventMessage?, _ outlet: StreamOutlet) {
    state.withLock { state in
      state.waiting[place] = .some(message)
      var bytes: [UInt8] = []
      while let message = state.waiting.removeValue(forKey: state.sent) {
        message?.encodeLines(into: &bytes)
        state.sent += 1
      }
      // Under the lock, so that two fills cannot overtake each other on their way to the outlet.
      if !bytes.isEmpty {
        outlet.send(bytes)
        outlet.flush()
      }
    }
  }
}
