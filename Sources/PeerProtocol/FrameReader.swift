import Primitives

/// Gathers what a connection brings and cuts it into frames. Holds no more than one unfinished frame and what came with
/// its last piece; makes no room for bytes that were only announced.
package struct FrameReader: Sendable {
  /// The largest payload that is accepted. Small until the other side has been let in.
  package var maxPayloadBytes: Int
  private var bytes: [UInt8] = []
  /// Bytes before it have been handed out.
  private var start = 0

  /// Beyond it, the room that a large frame took is given back.
  private static let keptCapacityBytes = 256 * 1024

  package init(maxPayloadBytes: Int) { self.maxPayloadBytes = maxPayloadBytes }

  /// Bytes that wait for more.
  package var unfinishedBytes: Int { bytes.count - start }

  package mutating func append(_ piece: UnsafeRawBufferPointer) {
    if start == bytes.count {
      bytes.removeAll(keepingCapacity: bytes.capacity <= Self.keptCapacityBytes)
    } else if start > 0 {
      bytes.removeFirst(start)
    }
    start = 0
    bytes.append(contentsOf: piece)
  }

  /// The next frame; nil when more bytes are needed. After an error the connection is of no further use: where the next
  /// frame begins is not known.
  package mutating func next() throws(PeerProtocolError) -> PeerFrame? {
    guard unfinishedBytes >= EncodedFrame.headerBytes else { return nil }
    let length = Int(fixed(at: start))
    guard length <= maxPayloadBytes else { throw .frameTooLarge(byteCount: length, limit: maxPayloadBytes) }
    guard unfinishedBytes >= length + EncodedFrame.overheadBytes else { return nil }
    let payload = start + EncodedFrame.headerBytes
    let end = payload + length
    guard CRC32C.checksum(bytes[start..<end]) == fixed(at: end) else { throw .badChecksum }
    let frame = try PeerFrame(type: bytes[start + 4], payload: bytes[payload..<end])
    start = end + EncodedFrame.checksumBytes
    return frame
  }

  private func fixed(at index: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(bytes[index + $1]) << (8 * UInt32($1)) }
  }
}
