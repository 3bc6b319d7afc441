import Primitives

// A snapshot's transfer, on a connection of its own. S sends, R receives:
//
//   S  offer         transfer u64 · has a size u8 · size varint · mark
//   R  resume        offset varint: R has that much of this transfer already
//   S  chunk         offset varint · bytes: from there, or from 0 when S cannot go on from there
//   R  acknowledged  offset varint: all before it is R's; S stays within a window ahead of it
//   S  end           size varint · crc32c u32 of the whole stream
//   R  verdict       code u8 · text; instead of any other answer, too
//
// Either side sends pings while it works. A connection that is cut is dialled again, and the transfer goes on where R
// is. A chunk that arrives damaged ends its connection, with the same effect.

package struct SnapshotOffer: Hashable, Sendable {
  /// Drawn at random for each transfer; its connections share it.
  package var transferID: UInt64
  /// What the snapshot is of; opaque here.
  package var mark: [UInt8]
  package var byteCount: UInt64?

  package init(transferID: UInt64, mark: [UInt8], byteCount: UInt64?) {
    self.transferID = transferID
    self.mark = mark
    self.byteCount = byteCount
  }
}

package enum SnapshotFrame: Hashable, Sendable {
  case offer(SnapshotOffer)
  case resume(offset: UInt64)
  case chunk(offset: UInt64, bytes: [UInt8])
  case acknowledged(offset: UInt64)
  case end(byteCount: UInt64, checksum: UInt32)
  case verdict(SnapshotVerdict)
}

package enum SnapshotVerdict: Hashable, Sendable {
  case accepted
  case refused(SnapshotRefusal)
}

/// Why a receiver wants no (more) bytes of a transfer. Final: whoever sent it may only begin another.
package enum SnapshotRefusal: Error, Hashable, Sendable, CustomStringConvertible {
  /// The receiver has no use for it.
  case unwanted(String)
  /// The whole is not what the sender says it is.
  case corrupt
  /// Another transfer has taken its place.
  case superseded
  /// The receiver could not keep it.
  case failed(String)

  package var description: String {
    switch self {
    case .unwanted(let reason): "the snapshot is not wanted: \(reason)"
    case .corrupt: "the snapshot arrived with a wrong checksum"
    case .superseded: "another snapshot has taken its place"
    case .failed(let reason): "the snapshot could not be kept: \(reason)"
    }
  }
}

extension SnapshotFrame {
  func encoded() throws(PeerProtocolError) -> EncodedFrame {
    var writer = EncodedFrame.begin()
    switch self {
    case .offer(let offer):
      writer.writeFixed(offer.transferID)
      writer.writeBool(offer.byteCount != nil)
      if let byteCount = offer.byteCount { writer.writeVarint(byteCount) }
      return try EncodedFrame(.snapshotOffer, writer, bodies: [offer.mark])
    case .resume(let offset):
      writer.writeVarint(offset)
      return try EncodedFrame(.snapshotResume, writer)
    case .chunk(let offset, let bytes):
      writer.writeVarint(offset)
      return try EncodedFrame(.snapshotChunk, writer, bodies: [bytes])
    case .acknowledged(let offset):
      writer.writeVarint(offset)
      return try EncodedFrame(.snapshotAcknowledged, writer)
    case .end(let byteCount, let checksum):
      writer.writeVarint(byteCount)
      writer.writeFixed(checksum)
      return try EncodedFrame(.snapshotEnd, writer)
    case .verdict(let verdict):
      writer.write(verdict)
      return try EncodedFrame(.snapshotVerdict, writer)
    }
  }
}

extension ByteWriter {
  fileprivate mutating func write(_ verdict: SnapshotVerdict) {
    let (code, text): (UInt8, String) =
      switch verdict {
      case .accepted: (0, "")
      case .refused(.unwanted(let reason)): (1, reason)
      case .refused(.corrupt): (2, "")
      case .refused(.superseded): (3, "")
      case .refused(.failed(let reason)): (4, reason)
      }
    writeByte(code)
    writeText(text)
  }
}

extension ByteReader {
  mutating func readSnapshotFrame(_ type: PeerFrameType) throws(DecodingFailure) -> SnapshotFrame {
    switch type {
    case .snapshotOffer:
      let transferID = try readFixed(UInt64.self)
      let byteCount = try readBool() ? try readVarint() : nil
      return .offer(SnapshotOffer(transferID: transferID, mark: Array(readRest()), byteCount: byteCount))
    case .snapshotResume: return .resume(offset: try readVarint())
    case .snapshotChunk:
      let offset = try readVarint()
      return .chunk(offset: offset, bytes: Array(readRest()))
    case .snapshotAcknowledged: return .acknowledged(offset: try readVarint())
    case .snapshotEnd:
      let byteCount = try readVarint()
      return .end(byteCount: byteCount, checksum: try readFixed())
    case .snapshotVerdict: return .verdict(try readVerdict())
    default: throw .malformed(offset: 0, "a \(type) frame in a snapshot's transfer")
    }
  }

  private mutating func readVerdict() throws(DecodingFailure) -> SnapshotVerdict {
    let offset = offset
    let code = try readByte()
    let text = try readText()
    switch code {
    case 0: return .accepted
    case 1: return .refused(.unwanted(text))
    case 2: return .refused(.corrupt)
    case 3: return .refused(.superseded)
    case 4: return .refused(.failed(text))
    default: throw .malformed(offset: offset, "an unknown verdict")
    }
  }
}
