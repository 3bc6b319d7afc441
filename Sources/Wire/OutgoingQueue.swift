import NIOCore

/// Bytes that one stream has to send, in order. The first chunk lives inline: a unary answer allocates nothing here.
package struct OutgoingQueue {
  /// A gRPC prefix, perhaps partly taken, and the bytes behind it.
  private struct Chunk {
    /// The five prefix bytes, the next one in the lowest byte.
    var prefix: UInt64
    var prefixCount: Int
    var body: ByteBuffer

    var count: Int { prefixCount + body.readableBytes }
  }

  private var first: Chunk?
  private var rest: [Chunk] = []
  private var restStart = 0

  /// Prefixes included.
  package private(set) var count = 0

  package var isEmpty: Bool { count == 0 }

  package init() {}

  package mutating func append(_ bytes: ByteBuffer) {
    guard bytes.readableBytes > 0 else { return }
    append(Chunk(prefix: 0, prefixCount: 0, body: bytes))
  }

  /// Appends a gRPC message and, before it, its prefix: uncompressed, `message.readableBytes` long.
  package mutating func appendMessage(_ message: ByteBuffer) {
    appendPrefix(messageBytes: message.readableBytes, message)
  }

  /// Appends the prefix of a message of `messageBytes`, and of its bytes those that are there already.
  package mutating func appendPrefix(messageBytes: Int, _ beginning: ByteBuffer = ByteBuffer()) {
    let length = UInt64(UInt32(messageBytes).byteSwapped)
    append(Chunk(prefix: length << 8, prefixCount: GRPCDeframer.prefixBytes, body: beginning))
  }

  private mutating func append(_ chunk: Chunk) {
    count += chunk.count
    if first == nil {
      first = chunk
    } else {
      rest.append(chunk)
    }
  }

  /// Moves the next `count` bytes (at most `self.count`) to the end of `buffer`.
  package mutating func move(_ count: Int, to buffer: inout ByteBuffer) {
    precondition(count <= self.count, "more bytes asked for than are queued")
    self.count -= count
    var left = count
    while left > 0 {
      left -= Self.move(left, of: &first!, to: &buffer)
      if first!.count == 0 { advance() }
    }
    if self.count == 0 {
      // Only empty chunks can remain.
      first = nil
      rest.removeAll()
      restStart = 0
    }
  }

  private static func move(_ limit: Int, of chunk: inout Chunk, to buffer: inout ByteBuffer) -> Int {
    var moved = 0
    while chunk.prefixCount > 0, moved < limit {
      buffer.writeInteger(UInt8(truncatingIfNeeded: chunk.prefix))
      chunk.prefix >>= 8
      chunk.prefixCount -= 1
      moved += 1
    }
    let bytes = min(limit - moved, chunk.body.readableBytes)
    if bytes > 0 {
      chunk.body.withUnsafeReadableBytes { body in
        _ = buffer.writeBytes(UnsafeRawBufferPointer(rebasing: body[..<bytes]))
      }
      chunk.body.moveReaderIndex(forwardBy: bytes)
    }
    return moved + bytes
  }

  private mutating func advance() {
    guard restStart < rest.count else {
      first = nil
      return
    }
    first = rest[restStart]
    rest[restStart].body = ByteBuffer()
    restStart += 1
    if restStart == rest.count {
      rest.removeAll(keepingCapacity: true)
      restStart = 0
    } else if restStart >= 64, restStart * 2 >= rest.count {
      rest.removeFirst(restStart)
      restStart = 0
    }
  }

  package mutating func removeAll() { self = OutgoingQueue() }
}
