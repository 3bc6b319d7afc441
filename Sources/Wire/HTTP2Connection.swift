import CNghttp2
import NIOCore

/// One HTTP/2 server connection: feeds what the socket delivers to nghttp2, and writes what nghttp2 has to say once at
/// the end of each event-loop turn. Flow control, HPACK and the flood defences are nghttp2's.
///
/// nghttp2 calls back from within `mem_recv` and `mem_send`; the callbacks may submit frames but must not enter the
/// session again, and the session must not be freed under them (`sessionDepth`).
final class HTTP2Connection: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private static let keptBufferBytes = 16 * 1024

  let services: WireServices
  // Parts of `services` that every call needs: reading them there would copy all of it.
  let servesGRPC: Bool
  let observer: (any GRPCObserver)?
  let limits: WireLimits
  let peerCommonName: String?
  private(set) var eventLoop: any EventLoop

  private var context: ChannelHandlerContext?
  var session: OpaquePointer?
  /// Calls into nghttp2 that are on the stack.
  private var sessionDepth = 0
  var isClosed = false

  // Input
  private var isReading = false
  var currentRead: ByteBuffer?
  var currentReadStart: UnsafeRawPointer?
  var headers = IncomingHeaders()
  var lastBlock = HeaderBlock()
  var routeCache = GRPCRouteCache()
  /// Bytes of unfinished requests that the streams hold.
  var bufferedRequestBytes = 0

  // Output
  private var isFlushNeeded = false
  private var isFlushScheduled = false
  private var isFlushing = false
  var outgoing = ByteBuffer()
  private var drainedStreams: [HTTP2Stream] = []
  private var receivedMessageBytes = 0
  private var sentMessageBytes = 0
  var making = HTTP2MakingBudget()

  // Streams
  var streams: [HTTP2Stream?] = []
  var freeSlots: [Int] = []
  private var openStreamCount: Int { streams.count - freeSlots.count }
  var deadlines = StreamDeadlines()
  var owed = OwedInput()

  // Connection upkeep
  private var hasReadSinceProbe = false
  var pingPolicy = PingPolicy()
  private var timer: Scheduled<Void>?
  var isQuiescing = false

  init(eventLoop: any EventLoop, services: WireServices, peerCommonName: String?) {
    self.eventLoop = eventLoop
    self.services = services
    servesGRPC = services.grpc != nil
    observer = services.observer
    limits = services.limits
    self.peerCommonName = peerCommonName
  }

  deinit {
    if let session { nghttp2_session_del(session) }
  }

  // MARK: Channel events

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    eventLoop = context.eventLoop
    startSession()
    waitForOwed()
    scheduleProbe()
    setNeedsFlush()
  }

  func handlerRemoved(context: ChannelHandlerContext) { tearDown() }

  func channelInactive(context: ChannelHandlerContext) {
    tearDown()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isClosed else { return }
    isReading = true
    hasReadSinceProbe = true
    feed(unwrapInboundIn(data))
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    isReading = false
    if owed.isOwed { waitForOwed() }
    reportTransferred()
    flushOutput()
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { flushOutput() }
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case is ChannelShouldQuiesceEvent: quiesce()
    case ChannelEvent.inputClosed: context.close(promise: nil)
    default: context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // The transport is broken: there is nobody to tell.
    context.close(promise: nil)
  }

  // MARK: Session

  private func startSession() {
    var pointer: OpaquePointer?
    let user = Unmanaged.passUnretained(self).toOpaque()
    precondition(
      nghttp2_session_server_new2(&pointer, HTTP2Callbacks.table, user, HTTP2Callbacks.options) == 0,
      "out of memory for an HTTP/2 session")
    let session = pointer!
    self.session = session
    let settings = [
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue), value: limits.maxConcurrentStreams),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue), value: UInt32(limits.streamWindowBytes)),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue), value: UInt32(limits.maxHeaderBytes)),
    ]
    let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
    precondition(nghttp2_submit_settings(session, flags, settings, settings.count) == 0, "settings out of range")
    precondition(
      nghttp2_session_set_local_window_size(session, flags, 0, limits.connectionWindowBytes) == 0,
      "connection window out of range")
  }

  private func feed(_ bytes: ByteBuffer) {
    guard let session else { return }
    let result = bytes.withUnsafeReadableBytes { raw -> Int in
      currentRead = bytes
      currentReadStart = raw.baseAddress
      sessionDepth += 1
      defer {
        sessionDepth -= 1
        currentRead = nil
        currentReadStart = nil
      }
      return nghttp2_session_mem_recv(session, raw.bindMemory(to: UInt8.self).baseAddress, raw.count)
    }
    if isClosed {
      releaseSession()
    } else if result < 0 {
      // Not HTTP/2, a flood, or out of memory. What nghttp2 wants to say (GOAWAY) still goes out.
      flushOutput()
      context?.close(promise: nil)
    }
  }

  /// Ends every stream and frees the session, now or when the last call into it returns.
  private func tearDown() {
    guard !isClosed else { return }
    isClosed = true
    timer?.cancel()
    owed.cancel()
    deadlines.cancel()
    let open = streams
    streams = []
    freeSlots = []
    drainedStreams = []
    making = HTTP2MakingBudget()
    for stream in open { stream?.close() }
    reportTransferred()
    context = nil
    releaseSession()
  }

  private func releaseSession() {
    guard sessionDepth == 0, let session else { return }
    self.session = nil
    nghttp2_session_del(session)
  }

  // MARK: Output

  /// Asks for a flush at the end of this event-loop turn.
  func setNeedsFlush() {
    isFlushNeeded = true
    guard !isReading, !isFlushScheduled, !isClosed else { return }
    isFlushScheduled = true
    eventLoop.assumeIsolatedUnsafeUnchecked().execute {
      self.isFlushScheduled = false
      self.reportTransferred()
      self.flushOutput()
    }
  }

  /// Writes what nghttp2 has to send, as far as the socket takes it.
  private func flushOutput() {
    guard let context, let session, sessionDepth == 0, !isClosed else { return }
    guard isFlushNeeded || nghttp2_session_want_write(session) != 0 else {
      if nghttp2_session_want_read(session) == 0 { context.close(promise: nil) }
      return
    }
    isFlushNeeded = false
    // A write can report a change of writability, which leads back here.
    guard !isFlushing else { return }
    isFlushing = true
    defer { isFlushing = false }
    while context.channel.isWritable {
      guard collectOutput(session) else {
        context.close(promise: nil)
        return
      }
      guard !isClosed else { return }
      guard outgoing.readableBytes > 0 else { break }
      context.writeAndFlush(wrapOutboundOut(outgoing), promise: nil)
      guard !isClosed else { return }
      // Reused when the socket has taken everything; an idle connection keeps only a small buffer.
      outgoing.clear(minimumCapacity: Self.keptBufferBytes)
    }
    if outgoing.capacity > 4 * Self.keptBufferBytes { outgoing = ByteBuffer() }
    notifyDrained()
    if !isClosed, nghttp2_session_want_read(session) == 0, nghttp2_session_want_write(session) == 0 {
      context.close(promise: nil)
    }
  }

  /// Fills `outgoing` up to the socket's high-water mark; false when the session is broken.
  private func collectOutput(_ session: OpaquePointer) -> Bool {
    sessionDepth += 1
    defer {
      sessionDepth -= 1
      if isClosed { releaseSession() }
    }
    while outgoing.readableBytes < limits.socketHighWaterBytes {
      var bytes: UnsafePointer<UInt8>?
      let count = nghttp2_session_mem_send(session, &bytes)
      guard count >= 0 else { return false }
      guard count > 0 else { break }
      outgoing.writeBytes(UnsafeRawBufferPointer(start: bytes, count: count))
    }
    return true
  }

  func resumeOutput(of stream: HTTP2Stream) {
    guard let session else { return }
    // Fails only for a stream that is closing, whose output nobody wants.
    _ = nghttp2_session_resume_data(session, stream.id)
  }

  /// Remembered, and told after the session has been left.
  func noteDrained(_ stream: HTTP2Stream) { drainedStreams.append(stream) }

  private func notifyDrained() {
    guard !drainedStreams.isEmpty else { return }
    let drained = drainedStreams
    drainedStreams = []
    for stream in drained where stream.connection != nil { stream.drained() }
  }

  func noteMessage(receivedBytes: Int) { receivedMessageBytes += receivedBytes }
  func noteMessage(sentBytes: Int) { sentMessageBytes += sentBytes }

  private func reportTransferred() {
    guard receivedMessageBytes | sentMessageBytes != 0 else { return }
    observer?.transferred(receivedBytes: receivedMessageBytes, sentBytes: sentMessageBytes)
    receivedMessageBytes = 0
    sentMessageBytes = 0
  }

  /// Sends response headers; without a body they end the stream.
  func submitResponse(
    _ stream: HTTP2Stream, _ fields: UnsafePointer<nghttp2_nv>, _ count: Int, hasBody: Bool
  ) {
    guard let session else { return }
    // Fails only when the stream is closing already, which is reported by `streamClosed`.
    if hasBody {
      var provider = HTTP2Callbacks.dataProvider(stream)
      _ = nghttp2_submit_response(session, stream.id, fields, count, &provider)
    } else {
      _ = nghttp2_submit_response(session, stream.id, fields, count, nil)
    }
    setNeedsFlush()
  }

  /// Gives up on a stream whose peer does not read, or breaks the rules.
  func reset(_ stream: HTTP2Stream, _ code: nghttp2_error_code = NGHTTP2_ENHANCE_YOUR_CALM) {
    guard let session else { return }
    _ = nghttp2_submit_rst_stream(session, 0, stream.id, code.rawValue)
    setNeedsFlush()
  }

  func submitContinue(_ stream: HTTP2Stream) {
    guard let session else { return }
    let headers = StaticHeaders.continueResponse
    _ = nghttp2_submit_headers(session, 0, stream.id, nil, headers.fields, headers.count, nil)
    setNeedsFlush()
  }

  // MARK: Upkeep

  /// Of a client that does not go on with what it has begun.
  func giveUp() {
    guard let session, !isClosed else { return }
    _ = nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM.rawValue)
    setNeedsFlush()
    eventLoop.assumeIsolatedUnsafeUnchecked().execute { self.context?.close(promise: nil) }
  }

  func pingReceived() {
    let verdict = pingPolicy.received(
      at: eventLoop.now, hasOpenStreams: openStreamCount > 0, minimum: limits.keepaliveMinimum)
    guard verdict == .tooMany, let session else { return }
    // The debug data that grpc-go clients know: they slow their keepalive down.
    let reason: StaticString = "too_many_pings"
    _ = nghttp2_submit_goaway(
      session, 0, nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_ENHANCE_YOUR_CALM.rawValue,
      reason.utf8Start, reason.utf8CodeUnitCount)
    setNeedsFlush()
    eventLoop.assumeIsolatedUnsafeUnchecked().execute { self.context?.close(promise: nil) }
  }

  /// After `keepaliveInterval` without a byte from the peer a PING asks whether it still lives.
  ///
  /// The timers hold the connection strongly and end in `tearDown`: an object that was ever referred to weakly pays for
  /// it at every retain and release.
  private func scheduleProbe() {
    hasReadSinceProbe = false
    guard let interval = limits.keepaliveInterval else { return }
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: interval) { [self] in
      guard !isClosed, let session else { return }
      guard !hasReadSinceProbe else { return scheduleProbe() }
      _ = nghttp2_submit_ping(session, 0, nil)
      setNeedsFlush()
      timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: limits.keepaliveTimeout) { [self] in
        guard !isClosed else { return }
        if hasReadSinceProbe { scheduleProbe() } else { context?.close(promise: nil) }
      }
    }
  }

  /// Graceful stop: says that no further streams are welcome, waits one round trip for those on their way, then names
  /// the last one. The connection closes itself when its streams are done.
  private func quiesce() {
    guard !isQuiescing, let session else { return }
    isQuiescing = true
    _ = nghttp2_submit_shutdown_notice(session)
    _ = nghttp2_submit_ping(session, 0, nil)
    setNeedsFlush()
  }

  func announceLastStream() {
    guard let session else { return }
    _ = nghttp2_submit_goaway(
      session, 0, nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_NO_ERROR.rawValue, nil, 0)
    setNeedsFlush()
  }
}
