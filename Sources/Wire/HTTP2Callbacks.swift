import CNghttp2
import NIOCore

/// The C side of a connection: nghttp2's callbacks as thunks into `HTTP2Connection`, made once for the process.
enum HTTP2Callbacks {
  /// Read-only after it is made; sessions copy it.
  nonisolated(unsafe) static let table: OpaquePointer = makeTable()
  nonisolated(unsafe) static let options: OpaquePointer = makeOptions()

  static let failure = NGHTTP2_ERR_CALLBACK_FAILURE.rawValue

  private static func makeTable() -> OpaquePointer {
    var pointer: OpaquePointer?
    precondition(nghttp2_session_callbacks_new(&pointer) == 0, "out of memory")
    let table = pointer!
    nghttp2_session_callbacks_set_on_begin_headers_callback(table) { _, frame, user in
      connection(user).headersBegin(frame!.pointee.hd.stream_id, isRequest: isRequest(frame!))
    }
    nghttp2_session_callbacks_set_on_header_callback(table) { _, frame, name, nameCount, value, valueCount, _, user in
      connection(user).header(
        frame!.pointee.hd.stream_id, UnsafeRawBufferPointer(start: name, count: nameCount),
        UnsafeRawBufferPointer(start: value, count: valueCount))
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(table) { _, frame, user in
      connection(user).frameReceived(frame!)
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(table) { session, _, streamID, data, count, user in
      connection(user).dataReceived(streamID, UnsafeRawBufferPointer(start: data, count: count))
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(table) { _, frame, user in
      connection(user).frameSent(frame!)
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(table) { _, streamID, _, user in
      connection(user).streamClosed(streamID)
    }
    nghttp2_session_callbacks_set_send_data_callback(table) { _, _, frameHeader, count, source, user in
      connection(user).sendData(
        http2Stream(source!.pointee.ptr), frameHeader: UnsafeRawBufferPointer(start: frameHeader, count: 9),
        count: count)
    }
    return table
  }

  private static func makeOptions() -> OpaquePointer {
    var pointer: OpaquePointer?
    precondition(nghttp2_option_new(&pointer) == 0, "out of memory")
    // Closed streams are kept only for the priority tree of RFC 7540, which nobody uses any more.
    nghttp2_option_set_no_closed_streams(pointer, 1)
    // `HeaderRules` takes the place of nghttp2's own rules for requests: those demand a host in `:authority`, and
    // etcdctl 3.4 puts its whole endpoint there ("http://127.0.0.1:2379"), which etcd does not mind.
    nghttp2_option_set_no_http_messaging(pointer, 1)
    return pointer!
  }

  /// Where DATA frames of a stream come from.
  static func dataProvider(_ stream: HTTP2Stream) -> nghttp2_data_provider {
    var provider = nghttp2_data_provider()
    provider.source.ptr = Unmanaged.passUnretained(stream).toOpaque()
    provider.read_callback = { session, _, _, limit, flags, source, _ in
      http2Stream(source!.pointee.ptr).offerOutput(session!, limit: limit, flags: flags!)
    }
    return provider
  }
}

// Free functions: the thunks must not capture anything, not even a type.

/// The connection outlives its session, so an unretained pointer suffices.
@inline(__always)
private func connection(_ user: UnsafeMutableRawPointer?) -> HTTP2Connection {
  Unmanaged<HTTP2Connection>.fromOpaque(user!).takeUnretainedValue()
}

/// The connection keeps every stream until nghttp2 has reported it closed.
@inline(__always)
func http2Stream(_ pointer: UnsafeMutableRawPointer) -> HTTP2Stream {
  Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
}

private func isRequest(_ frame: UnsafePointer<nghttp2_frame>) -> Bool {
  frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST
}
