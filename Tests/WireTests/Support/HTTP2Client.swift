import CNghttp2
import NIOCore
import NIOEmbedded
import Wire

/// An HTTP/2 client without a network: nghttp2's client side, joined to a server connection in an `EmbeddedChannel`.
/// `exchange` carries bytes to and fro until both are silent.
final class HTTP2Client {
  /// What has come back on a stream.
  struct Answer {
    var headers: [String: String] = [:]
    var trailers: [String: String] = [:]
    var body: [UInt8] = []
    var isClosed = false
    var errorCode: UInt32 = 0
    var headerFrames = 0

    var grpcStatus: String? { trailers["grpc-status"] ?? headers["grpc-status"] }
    var grpcMessage: String? { trailers["grpc-message"] ?? headers["grpc-message"] }
    /// gRPC messages of the body.
    var messages: [[UInt8]] {
      var messages: [[UInt8]] = []
      var rest = body[...]
      while rest.count >= 5 {
        let length = rest.dropFirst().prefix(4).reduce(0) { $0 << 8 | Int($1) }
        messages.append(Array(rest.dropFirst(5).prefix(length)))
        rest = rest.dropFirst(5 + length)
      }
      return messages
    }
  }

  private final class Upload {
    var bytes: [UInt8]
    var ends: Bool
    init(_ bytes: [UInt8], _ ends: Bool) {
      self.bytes = bytes
      self.ends = ends
    }
  }

  let channel: EmbeddedChannel
  var answers: [Int32: Answer] = [:]
  var goAwayCode: UInt32?
  /// Writes that reached the socket.
  var serverWrites = 0
  private var uploads: [Int32: Upload] = [:]
  private(set) var session: OpaquePointer

  init(_ channel: EmbeddedChannel, window: UInt32? = nil) throws {
    self.channel = channel
    var callbacks: OpaquePointer?
    nghttp2_session_callbacks_new(&callbacks)
    nghttp2_session_callbacks_set_on_header_callback(callbacks) {
      _, frame, name, nameCount, value, valueCount, _, user in
      let client = Unmanaged<HTTP2Client>.fromOpaque(user!).takeUnretainedValue()
      let name = String(decoding: UnsafeBufferPointer(start: name, count: nameCount), as: UTF8.self)
      let value = String(decoding: UnsafeBufferPointer(start: value, count: valueCount), as: UTF8.self)
      let id = frame!.pointee.hd.stream_id
      if client.answers[id, default: Answer()].headerFrames == 0 || frame!.pointee.headers.cat == NGHTTP2_HCAT_RESPONSE
      {
        client.answers[id, default: Answer()].headers[name] = value
      } else {
        client.answers[id, default: Answer()].trailers[name] = value
      }
      return 0
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
      let client = Unmanaged<HTTP2Client>.fromOpaque(user!).takeUnretainedValue()
      if frame!.pointee.hd.type == UInt8(NGHTTP2_HEADERS.rawValue) {
        client.answers[frame!.pointee.hd.stream_id, default: Answer()].headerFrames += 1
      }
      if frame!.pointee.hd.type == UInt8(NGHTTP2_GOAWAY.rawValue) {
        client.goAwayCode = frame!.pointee.goaway.error_code
      }
      return 0
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, _, id, data, count, user in
      let client = Unmanaged<HTTP2Client>.fromOpaque(user!).takeUnretainedValue()
      client.answers[id, default: Answer()].body += UnsafeBufferPointer(start: data, count: count)
      return 0
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, user in
      let client = Unmanaged<HTTP2Client>.fromOpaque(user!).takeUnretainedValue()
      client.answers[id, default: Answer()].isClosed = true
      client.answers[id, default: Answer()].errorCode = code
      return 0
    }
    var pointer: OpaquePointer?
    var options: OpaquePointer?
    nghttp2_option_new(&options)
    if window != nil { nghttp2_option_set_no_auto_window_update(options, 1) }
    // The session needs `self`, which needs the session: made without user data first.
    nghttp2_session_client_new2(&pointer, callbacks, nil, options)
    nghttp2_session_callbacks_del(callbacks)
    nghttp2_option_del(options)
    session = pointer!
    nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
    let settings =
      window.map {
        [nghttp2_settings_entry(settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue), value: $0)]
      } ?? []
    nghttp2_submit_settings(session, 0, settings, settings.count)
    try exchange()
  }

  deinit { nghttp2_session_del(session) }

  /// Sends a request; `body` nil ends it with the headers, `ends` false leaves it open.
  @discardableResult
  func request(_ fields: [(String, String)], body: [UInt8]? = nil, ends: Bool = true) throws -> Int32 {
    var provider = nghttp2_data_provider()
    provider.read_callback = { session, id, buffer, limit, flags, _, user in
      let client = Unmanaged<HTTP2Client>.fromOpaque(user!).takeUnretainedValue()
      let upload = client.uploads[id]!
      guard !upload.bytes.isEmpty || upload.ends else { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
      let count = min(limit, upload.bytes.count)
      upload.bytes.withUnsafeBytes {
        UnsafeMutableRawPointer(buffer!).copyMemory(from: $0.baseAddress!, byteCount: count)
      }
      upload.bytes.removeFirst(count)
      if upload.bytes.isEmpty, upload.ends { flags!.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
      return count
    }
    let hasBody = body != nil || !ends
    let id = withHeaderFields(fields) { list, count in
      withUnsafePointer(to: &provider) { nghttp2_submit_request(session, nil, list, count, hasBody ? $0 : nil, nil) }
    }
    if hasBody { uploads[id] = Upload(body ?? [], ends) }
    answers[id] = Answer()
    try exchange()
    return id
  }

  @discardableResult
  func call(
    _ path: String, _ messages: [[UInt8]], ends: Bool = true, extra: [(String, String)] = []
  ) throws -> Int32 {
    try request(
      [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test"),
        ("content-type", "application/grpc"), ("te", "trailers"),
      ] + extra, body: messages.flatMap(grpcFramed), ends: ends)
  }

  func send(_ id: Int32, _ bytes: [UInt8], ends: Bool = false) throws {
    uploads[id]!.bytes += bytes
    uploads[id]!.ends = ends
    nghttp2_session_resume_data(session, id)
    try exchange()
  }

  func reset(_ id: Int32) throws {
    nghttp2_submit_rst_stream(session, 0, id, NGHTTP2_CANCEL.rawValue)
    try exchange()
  }

  func ping() throws {
    nghttp2_submit_ping(session, 0, nil)
    try exchange()
  }

  func exchange() throws {
    var isBusy = true
    while isBusy {
      isBusy = false
      var pointer: UnsafePointer<UInt8>?
      while true {
        let count = nghttp2_session_mem_send(session, &pointer)
        guard count > 0 else { break }
        isBusy = true
        if channel.isActive {
          try channel.writeInbound(ByteBuffer(bytes: UnsafeBufferPointer(start: pointer, count: count)))
        }
      }
      channel.embeddedEventLoop.run()
      while let bytes = try channel.readOutbound(as: ByteBuffer.self) {
        isBusy = true
        serverWrites += 1
        bytes.withUnsafeReadableBytes {
          _ = nghttp2_session_mem_recv(session, $0.bindMemory(to: UInt8.self).baseAddress, $0.count)
        }
      }
    }
  }
}

func grpcFramed(_ message: [UInt8]) -> [UInt8] {
  [0] + (0..<4).map { UInt8(truncatingIfNeeded: message.count >> (24 - 8 * $0)) } + message
}

/// A server connection in an `EmbeddedChannel` with a client joined to it.
func joinedClient(_ services: WireServices, window: UInt32? = nil) throws -> HTTP2Client {
  let channel = EmbeddedChannel()
  try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
  try WirePipeline.installHTTP(on: channel, services: services, peerCommonName: "alice")
  return try HTTP2Client(channel, window: window)
}

/// Opens the client's windows by `count` bytes.
func nghttp2Consume(_ client: HTTP2Client, _ stream: Int32, _ count: Int) {
  nghttp2_session_consume(client.session, stream, count)
}

/// The fields as nghttp2 takes them.
private func withHeaderFields<Result>(
  _ fields: [(String, String)], _ body: (UnsafePointer<nghttp2_nv>, Int) -> Result
) -> Result {
  let list = fields.map { name, value in
    let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: name.utf8.count + value.utf8.count)
    _ = bytes.initialize(fromContentsOf: Array(name.utf8) + Array(value.utf8))
    return nghttp2_nv(
      name: bytes.baseAddress, value: bytes.baseAddress! + name.utf8.count, namelen: name.utf8.count,
      valuelen: value.utf8.count, flags: 0)
  }
  defer { for field in list { field.name.deallocate() } }
  return body(list, list.count)
}
