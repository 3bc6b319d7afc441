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
  private var large: HTTP2LargeMessage?

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

  /// The length of the body as its headers announce it; nil when they do not.
  var announcedBytes: Int?
  private var bodyBytes = 0
  /// The body was not what was announced: the stream is being reset, and nothing of it counts any more.
  var isRefused = false

  /// Counts bytes of the body; false when they are more than was announced.
  func counts(_ bytes: Int) -> Bool {
    bodyBytes += bytes
    return bodyBytes <= announcedBytes ?? .max
  }

  var isBodyComplete: Bool { bodyBytes == announcedBytes ?? bodyBytes }

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
  var queuedBytes: Int { output.count + (large?.bytesLeft ?? 0) }

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

  /// The stream's last message. The stream is reset when the peer takes nothing of it for too long.
  func enqueueMessage(_ source: any GRPCMessageSource) {
    guard let connection, !outputEnded else { return }
    precondition(large == nil, "a stream has one large message, its last")
    let message = HTTP2LargeMessage(source, at: eventLoop.now)
    large = message
    output.appendPrefix(messageBytes: message.bytesLeft)
    message.watch(eventLoop, timeout: connection.limits.largeMessageStallTimeout) { self.abandon() }
    resume(connection)
  }

  private func abandon() {
    guard let connection else { return }
    large?.stop()
    output.removeAll()
    connection.reset(self)
  }

  /// The next turn of the event loop has come, and with it leave to go on with a large message.
  func resumePaused() {
    if let connection { resume(connection) }
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
    if large != nil { makeOutput(limit) }
    let isComplete = outputEnded && (large?.bytesLeft ?? 0) == 0
    guard !output.isEmpty || isComplete else {
      isWaitingForOutput = true
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    let count = min(limit, output.count)
    if count > 0 { flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue }
    if isComplete, count == output.count {
      flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
      if submitTrailers(session) { flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue }
    }
    return count
  }

  /// Makes parts of the large message until `limit` bytes are there, it ends, or the turn's budget is spent.
  private func makeOutput(_ limit: Int) {
    guard let large, let connection else { return }
    while output.count < limit, large.bytesLeft > 0, connection.mayMake(for: self) {
      let part = large.nextPart()
      output.append(part)
      connection.noteMade(part.readableBytes)
    }
  }

  /// Moves bytes that were offered into the connection's buffer.
  func takeOutput(_ count: Int, into buffer: inout ByteBuffer) {
    output.move(min(count, output.count), to: &buffer)
    large?.noteTaken(at: eventLoop.now)
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
    large?.stop()
    large = nil
    connection.bufferedRequestBytes -= heldBytes
    heldBytes = 0
    closed(connection)
  }
}
