import Keyspace
import Primitives

/// One version as stored in `versions`:
///
///     crc32c u32 of the ordinal (u64) and all that follows
///     tag u8: 1 put · 2 + cause for a deletion; with bit 0x80 a lease follows
///     main varint · sub varint · key length varint · key
///     of a put: main less create revision varint · version varint · lease i64 when tagged · value to the end
///
/// Fixed integers are little-endian. The checksum covers the ordinal, so that a record found in another's place is
/// damage too.
package enum VersionRecord {
  static let checksumBytes = 4
  private static let putTag: UInt8 = 1
  private static let deleteTag: UInt8 = 2
  private static let leaseFlag: UInt8 = 0x80

  /// What can be read without touching the value, which may be long and cold.
  package struct Head {
    package var checksum: UInt32
    package var kind: KeyspaceEvent.Kind
    package var main: Int64
    package var sub: Int64
    package var key: UnsafeRawBufferPointer
    package var createRevision: Int64 = 0
    package var version: Int64 = 0
    package var lease: LeaseID = 0
    package var value = UnsafeRawBufferPointer(start: nil, count: 0)

    package var isTombstone: Bool { kind != .put }
    /// As `StoredVersion.sizeInBytes`.
    package var sizeInBytes: Int { key.count + value.count + VersionRecord.bookkeepingBytes }
  }

  /// The fixed share of `StoredVersion.sizeInBytes`.
  static let bookkeepingBytes = StoredVersion(
    KeyRecord(key: [], value: [], createRevision: 0, modRevision: 0, version: 0), sub: 0, kind: .put
  ).sizeInBytes

  /// Replaces the writer's content by the record.
  package static func encode(_ version: StoredVersion, at ordinal: UInt64, into writer: inout ByteWriter) {
    writer.bytes.removeAll(keepingCapacity: true)
    writer.writeFixed(UInt32(0))
    let lease = version.lease == 0 ? 0 : leaseFlag
    switch version.kind {
    case .put: writer.writeByte(putTag | lease)
    case .delete(let cause): writer.writeByte(deleteTag + cause.rawValue)
    }
    writer.writeVarint(UInt64(bitPattern: version.revision.main))
    writer.writeVarint(UInt64(bitPattern: version.revision.sub))
    writer.writeBytes(version.key)
    if version.kind == .put {
      writer.writeVarint(UInt64(bitPattern: version.revision.main &- version.createRevision))
      writer.writeVarint(UInt64(bitPattern: version.version))
      if lease != 0 { writer.writeFixed(version.lease) }
      writer.bytes.append(contentsOf: version.value.array)
    }
    writer.bytes.withUnsafeMutableBytes { bytes in
      let sum = checksum(of: UnsafeRawBufferPointer(rebasing: bytes[checksumBytes...]), at: ordinal)
      bytes.storeBytes(of: sum.littleEndian, as: UInt32.self)
    }
  }

  /// nil when the bytes are no record. The checksum is not looked at.
  package static func head(of record: UnsafeRawBufferPointer) -> Head? {
    var reader = RecordReader(record)
    guard let checksum = reader.fixed(UInt32.self), let tag = reader.byte(),
      let main = reader.varint(), let sub = reader.varint(),
      let keyCount = reader.varint(), let key = reader.bytes(keyCount)
    else { return nil }
    let hasLease = tag & leaseFlag != 0
    var head = Head(
      checksum: checksum, kind: .put, main: Int64(bitPattern: main), sub: Int64(bitPattern: sub), key: key)
    if tag & ~leaseFlag != putTag {
      guard !hasLease, tag >= deleteTag, let cause = DeletionCause(rawValue: tag - deleteTag), reader.rest.isEmpty
      else { return nil }
      head.kind = .delete(cause)
      return head
    }
    guard let distance = reader.varint(), let version = reader.varint() else { return nil }
    head.createRevision = head.main &- Int64(bitPattern: distance)
    head.version = Int64(bitPattern: version)
    if hasLease {
      guard let lease = reader.fixed(Int64.self) else { return nil }
      head.lease = lease
    }
    head.value = reader.rest
    return head
  }

  /// The whole record, checked; nil when it is damaged or that of another ordinal.
  package static func decode(_ record: UnsafeRawBufferPointer, at ordinal: UInt64) -> StoredVersion? {
    guard isIntact(record, at: ordinal), let head = head(of: record) else { return nil }
    return StoredVersion(
      KeyRecord(
        key: Bytes([UInt8](head.key)), value: Bytes([UInt8](head.value)), createRevision: head.createRevision,
        modRevision: head.main, version: head.version, lease: head.lease),
      sub: head.sub, kind: head.kind)
  }

  /// The share of a stored record in the sums of its block and of `versions`; nil when it is none.
  static func hash(of record: UnsafeRawBufferPointer, at ordinal: UInt64) -> UInt64? {
    guard record.count > checksumBytes else { return nil }
    return hash(checksum: UInt32(littleEndian: record.loadUnaligned(as: UInt32.self)), at: ordinal)
  }

  static func isIntact(_ record: UnsafeRawBufferPointer, at ordinal: UInt64) -> Bool {
    guard record.count > checksumBytes else { return false }
    let stored = UInt32(littleEndian: record.loadUnaligned(as: UInt32.self))
    return stored == checksum(of: UnsafeRawBufferPointer(rebasing: record[checksumBytes...]), at: ordinal)
  }

  /// The record's share in sums: of its ordinal and its checksum, so that no value needs to be read.
  static func hash(checksum: UInt32, at ordinal: UInt64) -> UInt64 {
    var hash = WordHash(seed: UInt64(Database.versions.rawValue))
    hash.mix(ordinal)
    hash.mix(UInt64(checksum))
    return hash.value
  }

  private static func checksum(of payload: UnsafeRawBufferPointer, at ordinal: UInt64) -> UInt32 {
    let seed = withUnsafeBytes(of: ordinal.littleEndian) { CRC32C.checksum($0) }
    return CRC32C.checksum(payload, seed: seed)
  }
}

/// Reads a record where it lies, in the map. Every read checks its bounds and answers nil beyond them.
struct RecordReader {
  private(set) var rest: UnsafeRawBufferPointer

  @inline(__always)
  init(_ record: UnsafeRawBufferPointer) { rest = record }

  @inline(__always)
  mutating func byte() -> UInt8? {
    guard let byte = rest.first else { return nil }
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst())
    return byte
  }

  @inline(__always)
  mutating func fixed<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type) -> T? {
    guard rest.count >= MemoryLayout<T>.size else { return nil }
    let value = T(littleEndian: rest.loadUnaligned(as: T.self))
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(MemoryLayout<T>.size))
    return value
  }

  @inline(__always)
  mutating func varint() -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while let byte = byte() {
      if shift == 63, byte > 1 { return nil }
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
      if shift > 63 { return nil }
    }
    return nil
  }

  @inline(__always)
  mutating func bytes(_ count: UInt64) -> UnsafeRawBufferPointer? {
    guard count <= UInt64(rest.count) else { return nil }
    let bytes = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(count)))
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(Int(count)))
    return bytes
  }
}
