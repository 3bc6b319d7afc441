import CNghttp2
import NIOCore

/// One HTTP/2 stream of a server connection: what both gRPC calls and plain requests have in common. Lives on the
/// connection's event loop; may be kept by its user after the stream is gone, when everything sent is dropped.
class HTTP2Stream {
  let id: Int32
  let eventLoop: any EventLoop
  /// Nil once the stream is closed.
  private(set) var connection: HTTP2Connection?
  /// Where the connection keeps this stream.
  var slot = 0
  /// The time by which the stream must be over.
  var deadline: NIODeadline?

  private var output = OutgoingQueue()
  private var outputEnded = false
  private var isWaitingForOutput = false
  private var isAboveHighWater = false

  init(id: Int32, connection: HTTP2Connection) {
    self.id = id
    self.connection = connection
    self.eventLoop = connection.eventLoop
  }

  // What happens on the stream; for subclasses

  func receive(_ bytes: ByteBuffer) {}
  func remoteEnded() {}
  /// The deadline has passed.
  func expired() {}
  /// Output has drained below the low-water mark.
  func drained() {}
  /// The stream is gone from `connection`, for whatever reason; the property is nil already.
  func closed(_ connection: HTTP2Connection) {}
  /// Trailers that end the stream, submitted when the last bytes of output are taken; false when there are none.
  func submitTrailers(_ session: OpaquePointer) -> Bool { false }

  // Input

  /// Request bytes that this stream holds, as the connection has counted them.
  private var heldBytes = 0

  /// Tells the connection how many request bytes are held now; false when it holds too many.
  func holdsRequestBytes(_ count: Int) -> Bool {
    guard let connection else { return true }
    connection.bufferedRequestBytes += count - heldBytes
    heldBytes = count
    return connection.bufferedRequestBytes <= connection.limits.maxBufferedRequestBytes
  }

  // Output

  /// Bytes queued here; those on the way to the socket are bounded by the connection.
  var queuedBytes: Int { output.count }

  func enqueue(_ bytes: ByteBuffer) {
    guard let connection, !outputEnded else { return }
    output.append(bytes)
    outputGrew(connection)
  }

  func enqueueMessage(_ message: ByteBuffer) {
    guard let connection, !outputEnded else { return }
    output.appendMessage(message)
    outputGrew(connection)
  }

  /// Nothing will be enqueued any more.
  func endOutput() {
    guard let connection, !outputEnded else { return }
    outputEnded = true
    resume(connection)
  }

  /// Has `drained` called even if the high-water mark is not reached.
  func reportDrained() {
    if !output.isEmpty { isAboveHighWater = true }
  }

  private func outputGrew(_ connection: HTTP2Connection) {
    if output.count > connection.limits.streamHighWaterBytes { isAboveHighWater = true }
    resume(connection)
  }

  private func resume(_ connection: HTTP2Connection) {
    if isWaitingForOutput {
      isWaitingForOutput = false
      connection.resumeOutput(of: self)
    }
    connection.setNeedsFlush()
  }

  /// nghttp2 asks how much of the output fits into its next DATA frame. The bytes are taken by `takeOutput`.
  func offerOutput(
    _ session: OpaquePointer, limit: Int, flags: UnsafeMutablePointer<UInt32>
  ) -> Int {
    guard !output.isEmpty || outputEnded else {
      isWaitingForOutput = true
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    let count = min(limit, output.count)
    if count > 0 { flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue }
    if outputEnded, count == output.count {
      flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
      if submitTrailers(session) { flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue }
    }
    return count
  }

  /// Moves bytes that were offered into the connection's buffer.
  func takeOutput(_ count: Int, into buffer: inout ByteBuffer) {
    output.move(min(count, output.count), to: &buffer)
    if isAboveHighWater, let connection, output.count < connection.limits.streamLowWaterBytes {
      isAboveHighWater = false
      connection.noteDrained(self)
    }
  }

  /// Called by the connection when the stream is gone.
  final func close() {
    guard let connection else { return }
    self.connection = nil
    output.removeAll()
    connection.bufferedRequestBytes -= heldBytes
    heldBytes = 0
    closed(connection)
  }
}
