import Primitives

// A membership as bytes, the same in log records, snapshots and messages:
//
//   version (1 byte) · for voters, outgoing, learners, learnersNext: count (variable), ids (8 bytes each)

extension Membership {
  private static let codingVersion: UInt8 = 1

  package func encode(into writer: inout ByteWriter) {
    writer.writeByte(Self.codingVersion)
    for ids in [voters, outgoing, learners, learnersNext] {
      writer.writeCount(ids.count)
      for id in ids { writer.writeFixed(id) }
    }
  }

  /// Throws for bytes that name an impossible membership, too.
  package init(decoding reader: inout ByteReader) throws(DecodingFailure) {
    let start = reader.offset
    let version = try reader.readByte()
    guard version == Self.codingVersion else { throw .unknownVersion(UInt64(version)) }
    self.init(
      ascendingVoters: try Self.readIDs(&reader), outgoing: try Self.readIDs(&reader),
      learners: try Self.readIDs(&reader), learnersNext: try Self.readIDs(&reader))
    if let fault { throw .malformed(offset: start, "a membership with \(fault)") }
  }

  private static func readIDs(_ reader: inout ByteReader) throws(DecodingFailure) -> [NodeID] {
    let count = try reader.readCount(minimumSize: MemoryLayout<NodeID>.size)
    var ids: [NodeID] = []
    ids.reserveCapacity(count)
    for _ in 0..<count { ids.append(try reader.readFixed()) }
    return ids
  }
}

/// The payload of a `.membership` entry as bytes: the membership, then the command to the end.
package enum MembershipPayload {
  package static func encode(_ membership: Membership, command: [UInt8]) -> [UInt8] {
    var writer = ByteWriter(reserving: membership.weightBytes + command.count)
    membership.encode(into: &writer)
    return writer.bytes + command
  }

  package static func decode(_ bytes: [UInt8]) throws(DecodingFailure) -> (membership: Membership, command: [UInt8]) {
    var reader = ByteReader(bytes)
    let membership = try Membership(decoding: &reader)
    return (membership, Array(bytes[reader.offset...]))
  }
}
