import Primitives

// What members exchange over a connection, in either direction:
//
//   payload length u32 · type u8 · payload · crc32c u32
//
// Fixed integers are little-endian. The checksum covers all before it, so that a damaged length is noticed, too. The
// first frame of whoever dialled is a hello; nothing else is read before it (`Handshake`).

/// Everything that may stand in a frame.
package enum PeerFrame: Hashable, Sendable {
  case hello(PeerHello)
  case welcome(PeerWelcome)
  case refusal(PeerRefusal)
  /// Asks for a pong that repeats the number: a sign of life, and the measure of the round trip.
  case ping(UInt64)
  case pong(UInt64)
  /// The answer to a hello with the purpose `describe`; opaque here.
  case description([UInt8])
  case message(PeerMessage)
  case snapshot(SnapshotFrame)
}

package enum PeerFrameType: UInt8, Hashable, Sendable, CaseIterable {
  case hello = 1
  case welcome = 2
  case refusal = 3
  case ping = 4
  case pong = 5
  case description = 6

  case raft = 16
  case beat = 17
  case forward = 18
  case forwardRefused = 19

  case snapshotOffer = 32
  case snapshotResume = 33
  case snapshotChunk = 34
  case snapshotAcknowledged = 35
  case snapshotEnd = 36
  case snapshotVerdict = 37
}

package enum PeerProtocolError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Also what anything that is not a member's frame looks like: four bytes of HTTP are a large number.
  case frameTooLarge(byteCount: Int, limit: Int)
  case badChecksum
  case unknownFrame(type: UInt8)
  case malformed(PeerFrameType, DecodingFailure)

  package var description: String {
    switch self {
    case .frameTooLarge(let count, let limit): "a frame of \(count) bytes, where \(limit) are allowed"
    case .badChecksum: "a frame with a wrong checksum"
    case .unknownFrame(let type): "a frame of the unknown type \(type)"
    case .malformed(let type, let failure): "a damaged \(type) frame: \(failure)"
    }
  }
}

/// A frame as bytes. Large payloads are not copied but kept as they are: write `head`, then each of `bodies`, then the
/// checksum as four bytes, little-endian.
package struct EncodedFrame: Sendable {
  /// Length, type and the payload up to the bodies.
  package private(set) var head: [UInt8]
  package let bodies: [[UInt8]]
  /// Bytes on the wire.
  package let byteCount: Int

  package static let overheadBytes = headerBytes + checksumBytes
  static let headerBytes = 5
  static let checksumBytes = 4

  /// - Parameter fields: begun by `begin`; its bytes are the payload's beginning.
  init(_ type: PeerFrameType, _ fields: ByteWriter, bodies: [[UInt8]] = []) throws(PeerProtocolError) {
    head = fields.bytes
    self.bodies = bodies
    byteCount = bodies.reduce(head.count) { $0 + $1.count } + Self.checksumBytes
    let payloadBytes = byteCount - Self.overheadBytes
    guard payloadBytes <= Limits.maxPeerFrameBytes else {
      throw .frameTooLarge(byteCount: payloadBytes, limit: Limits.maxPeerFrameBytes)
    }
    let length = UInt32(payloadBytes)
    for place in 0..<4 { head[place] = UInt8(truncatingIfNeeded: length >> (8 * UInt32(place))) }
    head[4] = type.rawValue
  }

  /// A writer with room for the header, which is filled in when the length is known.
  static func begin(reserving capacity: Int = 64) -> ByteWriter {
    var writer = ByteWriter(reserving: headerBytes + capacity)
    for _ in 0..<headerBytes { writer.writeByte(0) }
    return writer
  }

  /// Reads every byte: some time per megabyte, to be spent where it stops nobody.
  package func checksum() -> UInt32 {
    bodies.reduce(CRC32C.checksum(head)) { CRC32C.checksum($1, seed: $0) }
  }

  /// All in one piece.
  package var bytes: [UInt8] {
    var writer = ByteWriter(reserving: byteCount)
    writer.bytes.append(contentsOf: head)
    for body in bodies { writer.bytes.append(contentsOf: body) }
    writer.writeFixed(checksum())
    return writer.bytes
  }
}

extension PeerFrame {
  /// Throws `frameTooLarge` and nothing else.
  package func encoded() throws(PeerProtocolError) -> EncodedFrame {
    var writer = EncodedFrame.begin()
    switch self {
    case .hello(let hello):
      writer.write(hello)
      return try EncodedFrame(.hello, writer)
    case .welcome(let welcome):
      writer.write(welcome)
      return try EncodedFrame(.welcome, writer)
    case .refusal(let refusal):
      writer.write(refusal)
      return try EncodedFrame(.refusal, writer)
    case .ping(let token):
      writer.writeFixed(token)
      return try EncodedFrame(.ping, writer)
    case .pong(let token):
      writer.writeFixed(token)
      return try EncodedFrame(.pong, writer)
    case .description(let bytes):
      return try EncodedFrame(.description, writer, bodies: [bytes])
    case .message(let message):
      return try message.encoded()
    case .snapshot(let frame):
      return try frame.encoded()
    }
  }

  package init(type code: UInt8, payload: ArraySlice<UInt8>) throws(PeerProtocolError) {
    guard let type = PeerFrameType(rawValue: code) else { throw .unknownFrame(type: code) }
    do throws(DecodingFailure) {
      self = try PeerFrame.decode(type, payload)
    } catch {
      throw .malformed(type, error)
    }
  }

  private static func decode(_ type: PeerFrameType, _ payload: ArraySlice<UInt8>) throws(DecodingFailure) -> PeerFrame {
    var reader = ByteReader(payload)
    switch type {
    // Members of other versions may say more in these three than this one understands.
    case .hello: return .hello(try reader.readHello())
    case .welcome: return .welcome(try reader.readWelcome())
    case .refusal: return .refusal(try reader.readRefusal())
    case .description: return .description(Array(payload))
    default: break
    }
    let frame: PeerFrame =
      switch type {
      case .ping: .ping(try reader.readFixed())
      case .pong: .pong(try reader.readFixed())
      case .raft: .message(.raft(try reader.readRaftMessage()))
      case .beat: .message(.beat(try reader.readBeat()))
      case .forward: .message(.forward(try reader.readForwardedProposal()))
      case .forwardRefused: .message(try reader.readForwardRefused())
      default: .snapshot(try reader.readSnapshotFrame(type))
      }
    try reader.finish()
    return frame
  }
}
