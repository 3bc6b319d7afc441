import Primitives

/// The sender's side of one transfer, over as many connections as it takes.
package struct SnapshotSending: Sendable {
  package let offer: SnapshotOffer
  /// Where the next chunk begins.
  package private(set) var offset: UInt64 = 0
  /// All before it is the receiver's.
  package private(set) var acknowledged: UInt64 = 0
  /// The end has been sent on the connection that stands.
  package private(set) var isEndSent = false
  private var checksum: UInt32 = 0
  /// Of the stream up to the end of each chunk that was ever sent: at one of them a cut transfer goes on.
  private var checksums: [UInt64: UInt32] = [:]

  package init(_ offer: SnapshotOffer) { self.offer = offer }

  /// A new connection: the receiver has `held` bytes.
  /// - Returns: where to open the stream; 0 when the receiver's place is not one of ours.
  package mutating func resume(held: UInt64) -> UInt64 {
    isEndSent = false
    if held > 0, let known = checksums[held] {
      (offset, checksum) = (held, known)
    } else {
      (offset, checksum) = (0, 0)
    }
    acknowledged = offset
    return offset
  }

  /// Whether the next chunk may be read and sent.
  package var hasWindow: Bool { !isEndSent && offset - acknowledged < UInt64(Limits.snapshotWindowBytes) }

  /// The frame for the next bytes of the stream; none left: for its end.
  package mutating func frame(_ bytes: [UInt8]) -> SnapshotFrame {
    guard !bytes.isEmpty else {
      isEndSent = true
      return .end(byteCount: offset, checksum: checksum)
    }
    defer {
      checksum = CRC32C.checksum(bytes, seed: checksum)
      offset += UInt64(bytes.count)
      checksums[offset] = checksum
    }
    return .chunk(offset: offset, bytes: bytes)
  }

  /// False: the receiver claims bytes that were never sent.
  package mutating func acknowledge(_ offset: UInt64) -> Bool {
    guard offset <= self.offset else { return false }
    acknowledged = max(acknowledged, offset)
    return true
  }
}

/// The receiver's side of one transfer.
package struct SnapshotReceiving: Sendable {
  package enum Step: Hashable, Sendable {
    case append
    /// The sender begins anew: forget what was kept, then append.
    case restart
  }

  package let offer: SnapshotOffer
  /// Bytes kept.
  package private(set) var offset: UInt64 = 0
  private var checksum: UInt32 = 0

  package init(_ offer: SnapshotOffer) { self.offer = offer }

  /// What to do with a chunk that begins at `start`; nil: it belongs nowhere.
  package func step(start: UInt64) -> Step? {
    if start == offset { return .append }
    return start == 0 ? .restart : nil
  }

  package mutating func restart() { (offset, checksum) = (0, 0) }

  /// The bytes have been kept.
  package mutating func append(_ bytes: [UInt8]) {
    checksum = CRC32C.checksum(bytes, seed: checksum)
    offset += UInt64(bytes.count)
  }

  /// Whether what was kept is the whole stream.
  package func isComplete(byteCount: UInt64, checksum: UInt32) -> Bool {
    byteCount == offset && checksum == self.checksum && (offer.byteCount ?? byteCount) == byteCount
  }
}
