import Keyspace
import Leases
import Primitives

// The whole state as bytes:
//
//   magic "LHSM" · version u8 · applied index u64 · applied term u64 · lease clock i64 (ms) · leases · keyspace · crc32c u32
//
// Fixed integers are little-endian; the checksum covers everything before it. Which key hangs on which lease is not
// written: every key names its lease.

extension StateMachine {
  private static let magic: [UInt8] = Array("LHSM".utf8)
  private static let formatVersion: UInt8 = 1
  private static let trailerBytes = 4

  package func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 64 + leases.count * 16 + keyspace.sizeInBytes)
    for byte in Self.magic { writer.writeByte(byte) }
    writer.writeByte(Self.formatVersion)
    writer.writeFixed(appliedIndex)
    writer.writeFixed(appliedTerm)
    writer.writeFixed(clock.milliseconds)
    leases.encode(into: &writer)
    keyspace.encode(into: &writer)
    writer.writeFixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  /// Throws on anything but what `encoded` wrote.
  package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    var reader = ByteReader(bytes[..<max(0, bytes.count - Self.trailerBytes)])
    for expected in Self.magic {
      guard try reader.readByte() == expected else { throw .malformed(offset: 0, "no state snapshot") }
    }
    let version = try reader.readByte()
    guard version == Self.formatVersion else { throw .unknownVersion(UInt64(version)) }
    var trailer = ByteReader(bytes[reader.bytes.endIndex...])
    guard try trailer.readFixed(UInt32.self) == CRC32C.checksum(reader.bytes) else {
      throw .malformed(offset: reader.bytes.count, "a checksum that does not match")
    }
    appliedIndex = try reader.readFixed()
    appliedTerm = try reader.readFixed()
    clock = LeaseClock(milliseconds: try reader.readFixed())
    leases = try LeaseTable(decoding: &reader, at: clock)
    keyspace = try Keyspace(decoding: &reader)
    try reader.finish()
    try attachKeys(reportingAt: reader.offset)
  }

  private mutating func attachKeys(reportingAt offset: Int) throws(DecodingFailure) {
    var query = RangeQuery(.from([]))
    query.keysOnly = true
    let alive: RangeResult
    do { alive = try keyspace.range(query) } catch { throw .malformed(offset: offset, "a keyspace without a present") }
    for record in alive.records where record.lease != 0 {
      guard let slot = leases.slot(of: record.lease) else {
        throw .malformed(offset: offset, "a key on lease \(record.lease), which is not there")
      }
      attachments.attach(record.key, at: slot)
    }
  }
}
