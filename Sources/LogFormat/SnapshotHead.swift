import Primitives

/// The first 48 bytes of a snapshot's file; the state's bytes follow.
///
///     magic 8 · version 4 · crc32c of all that follows 4 · index 8 · term 8 · body length 8 · zero 8
package struct SnapshotHead: Hashable, Sendable {
  /// The last entry that the snapshot contains.
  package var index: UInt64
  package var term: UInt64
  package var bodyBytes: UInt64

  package init(index: UInt64, term: UInt64, bodyBytes: UInt64) {
    self.index = index
    self.term = term
    self.bodyBytes = bodyBytes
  }

  package func encoded(body: [UInt8]) -> [UInt8] {
    let fields = encodedFields()
    var writer = ByteWriter(reserving: LogLayout.snapshotHeadBytes)
    writer.bytes.append(contentsOf: LogLayout.snapshotMagic)
    writer.writeFixed(LogLayout.version)
    writer.writeFixed(CRC32C.checksum(body, seed: CRC32C.checksum(fields)))
    writer.bytes.append(contentsOf: fields)
    return writer.bytes
  }

  private func encodedFields() -> [UInt8] {
    var writer = ByteWriter(reserving: 32)
    writer.writeFixed(index)
    writer.writeFixed(term)
    writer.writeFixed(bodyBytes)
    writer.writeFixed(UInt64(0))
    return writer.bytes
  }

  /// The head of a whole file, checked against every byte of it.
  package static func decode(file bytes: [UInt8]) throws(DecodingFailure) -> SnapshotHead {
    guard bytes.starts(with: LogLayout.snapshotMagic) else { throw .malformed(offset: 0, "not a snapshot") }
    var reader = ByteReader(bytes)
    _ = try reader.readFixed(UInt64.self)
    let version = try reader.readFixed(UInt32.self)
    guard version == LogLayout.version else { throw .unknownVersion(UInt64(version)) }
    let checksum = try reader.readFixed(UInt32.self)
    let covered = reader.offset
    let head = SnapshotHead(
      index: try reader.readFixed(), term: try reader.readFixed(), bodyBytes: try reader.readFixed())
    _ = try reader.readFixed(UInt64.self)
    guard head.bodyBytes == UInt64(reader.remaining) else {
      throw .malformed(offset: 0, "a body of \(reader.remaining) bytes where \(head.bodyBytes) are stated")
    }
    guard checksum == CRC32C.checksum(bytes[covered...]) else {
      throw .malformed(offset: 0, "a snapshot that fails its checksum")
    }
    return head
  }

  /// `snap-<index>-<term>`, in hexadecimal.
  package var fileName: String { "snap-\(SegmentHead.hex(index))-\(SegmentHead.hex(term))" }

  /// The index and term that a snapshot's file name states; nil when the name is no snapshot's.
  package static func parse(fileName: String) -> (index: UInt64, term: UInt64)? {
    let parts = fileName.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == "snap", parts.dropFirst().allSatisfy({ $0.utf8.count == 16 }),
      let index = UInt64(parts[1], radix: 16), let term = UInt64(parts[2], radix: 16)
    else { return nil }
    return (index, term)
  }
}
