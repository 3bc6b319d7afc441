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
  let peerCommonName: String?
  var limits: WireLimits { services.limits }
  private(set) var eventLoop: any EventLoop

  private var context: ChannelHandlerContext?
  private var session: OpaquePointer?
  /// Calls into nghttp2 that are on the stack.
  private var sessionDepth = 0
  private var isClosed = false

  // Input
  private var isReading = false
  private var currentRead: ByteBuffer?
  private var currentReadStart: UnsafeRawPointer?
  private var headers = IncomingHeaders()
  private var lastBlock = HeaderBlock()
  private var routeCache = GRPCRouteCache()
  /// Bytes of unfinished requests that the streams hold.
  var bufferedRequestBytes = 0

  // Output
  private var isFlushNeeded = false
  private var isFlushScheduled = false
  private var isFlushing = false
  private var outgoing = ByteBuffer()
  private var drainedStreams: [HTTP2Stream] = []
  private var receivedMessageBytes = 0
  private var sentMessageBytes = 0

  // Streams
  private var streams: [HTTP2Stream?] = []
  private var freeSlots: [Int] = []
  private var openStreamCount: Int { streams.count - freeSlots.count }
  private var deadlines = StreamDeadlines()

  // Connection upkeep
  private var hasReadSinceProbe = false
  private var pingPolicy = PingPolicy()
  private var timer: Scheduled<Void>?
  private var isQuiescing = false

  init(eventLoop: any EventLoop, services: WireServices, peerCommonName: String?) {
    self.eventLoop = eventLoop
    self.services = services
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
    deadlines.cancel()
    let open = streams
    streams = []
    freeSlots = []
    drainedStreams = []
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
    services.observer?.transferred(receivedBytes: receivedMessageBytes, sentBytes: sentMessageBytes)
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

  func submitContinue(_ stream: HTTP2Stream) {
    guard let session else { return }
    let headers = StaticHeaders.continueResponse
    _ = nghttp2_submit_headers(session, 0, stream.id, nil, headers.fields, headers.count, nil)
    setNeedsFlush()
  }

  // MARK: Callbacks of nghttp2

  func headersBegin(_ streamID: Int32, isRequest: Bool) -> Int32 {
    guard !isClosed else { return HTTP2Callbacks.failure }
    // Trailers of a request are checked by nghttp2 and of no use to us.
    headers.begin(isRequest ? streamID : 0)
    return 0
  }

  func header(_ streamID: Int32, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Int32 {
    if headers.streamID == streamID { headers.add(name, value, limit: limits.maxHeaderBytes) }
    return 0
  }

  func frameReceived(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    guard !isClosed else { return HTTP2Callbacks.failure }
    let header = frame.pointee.hd
    switch UInt32(header.type) {
    case NGHTTP2_HEADERS.rawValue:
      if frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST { openStream(header.stream_id) }
      fallthrough
    case NGHTTP2_DATA.rawValue:
      if header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 { stream(header.stream_id)?.remoteEnded() }
    case NGHTTP2_PING.rawValue:
      if header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) == 0 {
        pingReceived()
      } else if isQuiescing {
        announceLastStream()
      }
    default: break
    }
    return isClosed ? HTTP2Callbacks.failure : 0
  }

  func dataReceived(_ streamID: Int32, _ data: UnsafeRawBufferPointer) -> Int32 {
    guard !isClosed else { return HTTP2Callbacks.failure }
    guard let stream = stream(streamID), let bytes = sliceOfCurrentRead(data) else { return 0 }
    stream.receive(bytes)
    return isClosed ? HTTP2Callbacks.failure : 0
  }

  /// nghttp2 hands out payload where it lies in the read, so it can be shared instead of copied.
  private func sliceOfCurrentRead(_ data: UnsafeRawBufferPointer) -> ByteBuffer? {
    guard let currentRead, let currentReadStart, let start = data.baseAddress else { return nil }
    let offset = UnsafeRawPointer(start) - currentReadStart
    guard offset >= 0, offset + data.count <= currentRead.readableBytes else { return ByteBuffer(bytes: data) }
    return currentRead.getSlice(at: currentRead.readerIndex + offset, length: data.count)
  }

  func frameSent(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    let header = frame.pointee.hd
    guard header.type == UInt8(NGHTTP2_HEADERS.rawValue) || header.type == UInt8(NGHTTP2_DATA.rawValue) else {
      return 0
    }
    pingPolicy.sentStreamFrame()
    if header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0, let session,
      nghttp2_session_get_stream_remote_close(session, header.stream_id) == 0
    {
      // We are done before the client is: tell it to stop (RFC 9113, 8.1).
      _ = nghttp2_submit_rst_stream(session, 0, header.stream_id, UInt32(NGHTTP2_NO_ERROR.rawValue))
    }
    return 0
  }

  func sendData(_ stream: HTTP2Stream, frameHeader: UnsafeRawBufferPointer, count: Int) -> Int32 {
    guard outgoing.readableBytes < limits.socketHighWaterBytes else { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
    outgoing.writeBytes(frameHeader)
    stream.takeOutput(count, into: &outgoing)
    return 0
  }

  func streamClosed(_ streamID: Int32) -> Int32 {
    guard let stream = stream(streamID) else { return 0 }
    streams[stream.slot] = nil
    freeSlots.append(stream.slot)
    stream.close()
    return 0
  }

  // MARK: Streams

  private func stream(_ id: Int32) -> HTTP2Stream? {
    guard !isClosed, let session, let pointer = nghttp2_session_get_stream_user_data(session, id) else { return nil }
    return http2Stream(pointer)
  }

  private func openStream(_ id: Int32) {
    guard let session, headers.streamID == id else { return }
    let metadata = internedBlock()
    if headers.isGRPC, let registry = services.grpc {
      let route = routeCache.route(headers.path, registry)
      let call = GRPCServerCall(id: id, connection: self, metadata: metadata, route: route)
      keep(call, session)
      call.start(headers)
    } else {
      let exchange = HTTP2Exchange(id: id, connection: self, headers: headers)
      keep(exchange, session)
      exchange.start(headersTooLarge: headers.isTooLarge)
    }
  }

  private func keep(_ stream: HTTP2Stream, _ session: OpaquePointer) {
    if let slot = freeSlots.popLast() {
      stream.slot = slot
      streams[slot] = stream
    } else {
      stream.slot = streams.count
      streams.append(stream)
    }
    _ = nghttp2_session_set_stream_user_data(session, stream.id, Unmanaged.passUnretained(stream).toOpaque())
  }

  /// Clients repeat the same headers with every request: equal blocks share their memory.
  private func internedBlock() -> HeaderBlock {
    if !(headers.block == lastBlock) { lastBlock = headers.block }
    return lastBlock
  }

  /// Has `stream.expired()` called when its deadline has passed.
  func watchDeadline(of stream: HTTP2Stream, _ deadline: NIODeadline) {
    stream.deadline = deadline
    deadlines.add(deadline, on: eventLoop) { [weak self] in self?.expireStreams() }
  }

  private func expireStreams() {
    let now = NIODeadline.now()
    let open = streams
    var next: NIODeadline?
    for case let stream? in open {
      guard let deadline = stream.deadline else { continue }
      if deadline <= now {
        stream.deadline = nil
        stream.expired()
      } else {
        next = min(next ?? deadline, deadline)
      }
    }
    if let next, !isClosed { deadlines.add(next, on: eventLoop) { [weak self] in self?.expireStreams() } }
  }

  // MARK: Upkeep

  private func pingReceived() {
    let verdict = pingPolicy.received(
      at: .now(), hasOpenStreams: openStreamCount > 0, minimum: limits.keepaliveMinimum)
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
  private func scheduleProbe() {
    hasReadSinceProbe = false
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: limits.keepaliveInterval) {
      [weak self] in
      guard let self, !isClosed, let session else { return }
      guard !hasReadSinceProbe else { return scheduleProbe() }
      _ = nghttp2_submit_ping(session, 0, nil)
      setNeedsFlush()
      timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: limits.keepaliveTimeout) {
        [weak self] in
        guard let self, !isClosed else { return }
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

  private func announceLastStream() {
    guard let session else { return }
    _ = nghttp2_submit_goaway(
      session, 0, nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_NO_ERROR.rawValue, nil, 0)
    setNeedsFlush()
  }
}
