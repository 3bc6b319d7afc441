import NIOCore

/// A gRPC message that is made as it is taken: the rest of it, while a stream sends it. Lives on the stream's event loop.
final class HTTP2LargeMessage {
  private var source: (any GRPCMessageSource)?
  /// Bytes not made yet.
  private(set) var bytesLeft: Int
  private var lastTaken: NIODeadline
  private var timer: Scheduled<Void>?

  init(_ source: any GRPCMessageSource, at now: NIODeadline) {
    self.source = source
    bytesLeft = source.byteCount
    lastTaken = now
  }

  func nextPart() -> ByteBuffer {
    guard let source else { preconditionFailure("a message has been made to its end") }
    let part = source.nextPart()
    precondition(part.readableBytes > 0 && part.readableBytes <= bytesLeft, "a message's parts are not its length")
    bytesLeft -= part.readableBytes
    if bytesLeft == 0 { self.source = nil }
    return part
  }

  func noteTaken(at now: NIODeadline) { lastTaken = now }

  /// Calls `stalled` when nothing has been taken for `timeout`.
  func watch(_ eventLoop: any EventLoop, timeout: TimeAmount, _ stalled: @escaping () -> Void) {
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(deadline: lastTaken + timeout) { [self] in
      if eventLoop.now - lastTaken >= timeout {
        stalled()
      } else {
        watch(eventLoop, timeout: timeout, stalled)
      }
    }
  }

  func stop() {
    timer?.cancel()
    timer = nil
    source = nil
  }
}

/// How much of large messages one connection makes in one turn of its event loop; what is more waits for the next turn,
/// so that others have theirs.
struct HTTP2MakingBudget {
  /// A moment in the future, however short, ends the turn: NIO looks at its sockets first.
  static let pause = TimeAmount.microseconds(100)

  private(set) var paused: [HTTP2Stream] = []
  private var madeBytes = 0

  /// True when this begins a turn, whose end has to be scheduled.
  mutating func spend(_ bytes: Int) -> Bool {
    defer { madeBytes += bytes }
    return madeBytes == 0
  }

  func isSpent(limit: Int) -> Bool { madeBytes >= limit }

  mutating func pause(_ stream: HTTP2Stream) { paused.append(stream) }

  /// Begins a new turn; returns who waits for it.
  mutating func renew() -> [HTTP2Stream] {
    defer { self = HTTP2MakingBudget() }
    return paused
  }
}

extension HTTP2Connection {
  /// Whether more of large messages may be made in this turn. Otherwise the stream will be resumed in the next.
  func mayMake(for stream: HTTP2Stream) -> Bool {
    guard making.isSpent(limit: limits.madeBytesPerTurn) else { return true }
    making.pause(stream)
    return false
  }

  func noteMade(_ bytes: Int) {
    guard making.spend(bytes) else { return }
    eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: HTTP2MakingBudget.pause) { self.renewMaking() }
  }

  private func renewMaking() {
    let waiting = making.renew()
    guard !isClosed else { return }
    for stream in waiting { stream.resumePaused() }
  }
}
