import Member
import PeerProtocol
import PeerTransport
import Primitives
import Raft
import StateMachine

/// Names a state that goes from a leader to a member that lags behind the leader's log.
package struct StateMark: Hashable, Sendable {
  /// The leader's.
  package var term: Term
  package var mark: SnapshotMark

  package init(term: Term, mark: SnapshotMark) {
    self.term = term
    self.mark = mark
  }

  // version u8 · term varint · index varint · entry's term varint · membership

  private static let codingVersion: UInt8 = 1

  var encoded: [UInt8] {
    var writer = ByteWriter(reserving: 128)
    writer.writeByte(Self.codingVersion)
    writer.writeVarint(term)
    writer.writeVarint(mark.last.index)
    writer.writeVarint(mark.last.term)
    mark.membership.encode(into: &writer)
    return writer.bytes
  }

  init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    var reader = ByteReader(bytes[...])
    let version = try reader.readByte()
    guard version == Self.codingVersion else { throw .unknownVersion(UInt64(version)) }
    term = try reader.readVarint()
    let last = EntryID(index: try reader.readVarint(), term: try reader.readVarint())
    mark = SnapshotMark(last: last, membership: try Membership(decoding: &reader))
    try reader.finish()
  }
}

/// A state as the bytes of its snapshot. It shares the living state's storage and stays as it was; the bytes are made
/// as they are asked for, the same each time.
struct StateSource: SnapshotSource {
  let mark: [UInt8]
  /// Not known before the end.
  let byteCount: UInt64? = nil
  private let state: StateMachine

  init(_ state: StateMachine, _ mark: StateMark) {
    self.state = state
    self.mark = mark.encoded
  }

  func open(at offset: UInt64) throws -> any SnapshotStream { Stream(state, from: offset) }

  private final class Stream: SnapshotStream, @unchecked Sendable {
    private static let skippedAtOnceBytes = 1 << 20
    private var writer: StateSnapshotWriter

    init(_ state: StateMachine, from offset: UInt64) {
      writer = StateSnapshotWriter(state)
      var rest = offset
      while rest > 0, let piece = writer.next(maxBytes: Int(min(rest, UInt64(Self.skippedAtOnceBytes)))) {
        rest -= UInt64(piece.count)
      }
    }

    func read(upTo limit: Int) throws -> [UInt8] { writer.next(maxBytes: limit) ?? [] }
  }
}
