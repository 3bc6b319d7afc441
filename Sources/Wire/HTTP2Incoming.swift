import CNghttp2
import NIOCore

/// What nghttp2 reports from within a session: requests are opened, fed and closed here.
extension HTTP2Connection {
  // MARK: Callbacks of nghttp2

  func headersBegin(_ streamID: Int32, isRequest: Bool) -> Int32 {
    guard !isClosed else { return HTTP2Callbacks.failure }
    // Trailers of a request are of no use to us.
    headers.begin(isRequest ? streamID : 0)
    owed.blockBegan()
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
      owed.blockEnded()
      if frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST { openStream(header.stream_id) }
      fallthrough
    case NGHTTP2_DATA.rawValue:
      if header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 { bodyEnded(header.stream_id) }
    case NGHTTP2_SETTINGS.rawValue:
      owed.settingsCame()
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
    guard !stream.isRefused else { return 0 }
    if stream.counts(data.count) { stream.receive(bytes) } else { refuseBody(of: stream) }
    return isClosed ? HTTP2Callbacks.failure : 0
  }

  private func bodyEnded(_ streamID: Int32) {
    guard let stream = stream(streamID), !stream.isRefused else { return }
    if stream.isBodyComplete { stream.remoteEnded() } else { refuseBody(of: stream) }
  }

  /// The body is not as long as its `content-length` (RFC 9113, 8.1.1).
  private func refuseBody(of stream: HTTP2Stream) {
    stream.isRefused = true
    reset(stream, NGHTTP2_PROTOCOL_ERROR)
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
    if headers.isMalformed, !headers.isTooLarge {
      _ = nghttp2_submit_rst_stream(session, 0, id, UInt32(NGHTTP2_PROTOCOL_ERROR.rawValue))
      return
    }
    let metadata = internedBlock()
    if headers.isGRPC, servesGRPC {
      let route = routeCache.route(headers.path, in: services.grpc!)
      let call = GRPCServerCall(id: id, connection: self, metadata: metadata, route: route)
      call.announcedBytes = headers.contentLength
      keep(call, session)
      call.start(headers)
    } else {
      let exchange = HTTP2Exchange(id: id, connection: self, headers: headers)
      exchange.announcedBytes = headers.contentLength
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
    guard !isClosed else { return }
    stream.deadline = deadline
    deadlines.add(deadline, on: eventLoop) { self.expireStreams() }
  }

  private func expireStreams() {
    let now = eventLoop.now
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
    if let next, !isClosed { deadlines.add(next, on: eventLoop) { self.expireStreams() } }
  }
}
