import NIOCore

/// Who has made a `LocalCall`. Told on the call's event loop, also from within `send` and `end`.
package protocol LocalCaller: AnyObject {
  /// One message of the answer.
  func received(_ message: ByteBuffer)
  /// The call is over; nothing follows.
  func finished(_ status: GRPCStatus)
  /// Bytes of the answer that have not been passed on yet: what holds a server back that has more to say.
  var pendingBytes: Int { get }
  /// Whether there is room for a message of this size, before it is made.
  func admits(bytes: Int) -> Bool
  /// Wants `LocalCall.drained` called once pending bytes have become few.
  func notifyWhenDrained()
}

extension LocalCaller {
  package var pendingBytes: Int { 0 }
  package func notifyWhenDrained() {}
  package func admits(bytes: Int) -> Bool { true }
}

/// A call that this process makes to a method of its own: for a client that speaks JSON, or by one service to another.
/// The handler is the same as for a call off the wire, and so are its checks. Event-loop bound.
package final class LocalCall: GRPCCall {
  /// What the call is given along.
  package struct Context: Sendable {
    /// By lower-case names.
    package var metadata: [String: String]
    package var peerCommonName: String?
    /// Counts the call; nil for a part of another call, which is counted itself.
    package var observer: (any GRPCObserver)?
    /// The largest request, as on the wire.
    package var maxMessageBytes = Int.max
    /// The largest message of the answer: it is held as a whole.
    package var maxAnswerBytes = Int.max

    package init(
      metadata: [String: String] = [:], peerCommonName: String? = nil, observer: (any GRPCObserver)? = nil
    ) {
      self.metadata = metadata
      self.peerCommonName = peerCommonName
      self.observer = observer
    }
  }

  /// Of a large answer, gathered in one turn of the event loop.
  private static let gatheredBytesPerTurn = 256 * 1024

  /// etcd's words for a server that has too much to do.
  package static let noRoom = GRPCStatus(.resourceExhausted, "etcdserver: too many requests")

  package let path: String
  package let eventLoop: any EventLoop
  package private(set) var isOver = false

  private let context: Context
  private let method: GRPCMethod?
  private let startedAt: NIODeadline
  private var caller: (any LocalCaller)?
  private var handler: (any GRPCHandler)?
  private var deadline: Scheduled<Void>?
  private var receivedMessages = 0
  private var receivedBytes = 0
  private var sentMessages = 0
  private var sentBytes = 0

  /// Starts the call. A method that is not there ends it in a later turn.
  /// - Parameter caller: Held until the call is over.
  package init(
    _ path: String, of registry: GRPCRegistry, _ context: Context, on eventLoop: any EventLoop,
    timeout: TimeAmount? = nil, caller: any LocalCaller
  ) {
    self.path = path
    self.eventLoop = eventLoop
    self.context = context
    self.caller = caller
    method = registry.route(path)?.method
    startedAt = eventLoop.now
    if let method { context.observer?.callStarted(method) }
    handler = registry.handler(for: self)
    if handler == nil, !isOver {
      let refusal = registry.refusal(path)
      eventLoop.assumeIsolatedUnsafeUnchecked().execute { self.finish(refusal) }
    }
    if let timeout, !isOver {
      deadline = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: timeout) {
        self.abort(GRPCServerCall.deadlineStatus)
      }
    }
  }

  // MARK: What the caller does

  package func send(request: ByteBuffer) {
    guard !isOver else { return }
    guard request.readableBytes <= context.maxMessageBytes else {
      let refusal = "grpc: received message larger than max (\(request.readableBytes) vs. \(context.maxMessageBytes))"
      return abort(GRPCStatus(.resourceExhausted, refusal))
    }
    receivedMessages += 1
    receivedBytes += request.readableBytes
    context.observer?.transferred(receivedBytes: request.readableBytes, sentBytes: 0)
    handler?.receive(request)
  }

  /// No further request follows.
  package func end() {
    if !isOver { handler?.halfClosed() }
  }

  /// Nobody waits for the answer any more.
  package func cancel() {
    guard !isOver else { return }
    caller = nil
    abort(GRPCStatus(.cancelled, "context canceled"))
  }

  /// What the caller held of the answer has been passed on.
  package func drained() {
    if !isOver { handler?.writable() }
  }

  // MARK: GRPCCall

  package func metadata(_ name: String) -> String? { context.metadata[name] }
  package var peerCommonName: String? { context.peerCommonName }
  package var pendingBytes: Int { caller?.pendingBytes ?? 0 }
  package func notifyWhenDrained() { caller?.notifyWhenDrained() }

  package func send(_ message: ByteBuffer) {
    guard !isOver else { return }
    guard message.readableBytes <= context.maxAnswerBytes else { return abort(tooLarge(message.readableBytes)) }
    sentMessages += 1
    sentBytes += message.readableBytes
    context.observer?.transferred(receivedBytes: 0, sentBytes: message.readableBytes)
    caller?.received(message)
  }

  /// A message that is made while it is taken is made here, part by part, so that other connections go on meanwhile.
  package func reply(_ message: any GRPCMessageSource) {
    guard message.byteCount <= context.maxAnswerBytes else { return finish(tooLarge(message.byteCount)) }
    guard caller?.admits(bytes: message.byteCount) ?? true else { return finish(Self.noRoom) }
    gather(message, ByteBufferAllocator().buffer(capacity: message.byteCount))
  }

  private func tooLarge(_ bytes: Int) -> GRPCStatus {
    let text = "the answer has \(bytes) bytes, more than \(context.maxAnswerBytes): ask for less"
    return GRPCStatus(.resourceExhausted, text)
  }

  private func gather(_ source: any GRPCMessageSource, _ gathered: ByteBuffer) {
    guard !isOver else { return }
    var whole = gathered
    let end = min(source.byteCount, whole.readableBytes + Self.gatheredBytesPerTurn)
    while whole.readableBytes < end { whole.writeImmutableBuffer(source.nextPart()) }
    guard whole.readableBytes < source.byteCount else {
      send(whole)
      return finish(.ok)
    }
    let rest = whole
    eventLoop.assumeIsolatedUnsafeUnchecked().execute { self.gather(source, rest) }
  }

  package func finish(_ status: GRPCStatus) {
    guard !isOver else { return }
    isOver = true
    deadline?.cancel()
    deadline = nil
    // Handler and caller refer to this call.
    handler = nil
    report(status.code)
    let caller = caller
    self.caller = nil
    caller?.finished(status)
  }

  /// Ends the call without its handler, which learns it as a cancellation.
  private func abort(_ status: GRPCStatus) {
    guard !isOver else { return }
    let handler = handler
    finish(status)
    handler?.cancelled()
  }

  private func report(_ code: GRPCCode) {
    guard let method, let observer = context.observer else { return }
    observer.callFinished(
      method,
      GRPCCallSummary(
        code: code, receivedMessages: receivedMessages, receivedBytes: receivedBytes, sentMessages: sentMessages,
        sentBytes: sentBytes, durationNanoseconds: (eventLoop.now - startedAt).nanoseconds))
  }
}
