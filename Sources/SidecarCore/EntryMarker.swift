import Primitives

/// The value of `StoreLayout.marker`, the key that hangs on the entry's lease. The deadline is the lease's; what was
/// granted stands here, so that the last renewal can be told from the remaining time alone.
package struct EntryMarker: Hashable, Sendable {
  /// The life of the key that this lease guards.
  package var generation: UInt64
  /// TTL + window + jitter.
  package var grantedMilliseconds: Int64

  package init(generation: UInt64, grantedMilliseconds: Int64) {
    self.generation = generation
    self.grantedMilliseconds = grantedMilliseconds
  }

  private static let formatVersion: UInt8 = 1

  package func encoded() -> Bytes {
    var writer = ByteWriter(reserving: 16)
    writer.writeByte(Self.formatVersion)
    writer.writeVarint(generation)
    writer.writeSigned(grantedMilliseconds)
    return Bytes(writer.bytes)
  }

  package init(decoding bytes: Bytes) throws(DecodingFailure) {
    var reader = ByteReader(bytes.array)
    let version = try reader.readByte()
    guard version == Self.formatVersion else { throw .unknownVersion(UInt64(version)) }
    generation = try reader.readVarint()
    grantedMilliseconds = try reader.readSigned()
    try reader.finish()
  }
}
