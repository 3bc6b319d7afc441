import Primitives

/// The first 48 bytes of a segment. Immutable once the file has its name.
package struct SegmentHead: Hashable, Sendable {
  /// From 1, rising by one.
  package var number: UInt64
  /// The index that the next entry would have had when the segment was begun; what entries the older segments still
  /// contribute to the log lies below it.
  package var firstIndex: UInt64
  /// The checksum that ends the segment before; 0 in the first.
  package var previousChain: UInt32
  /// Random, known to nobody outside: seeds the check of batch marks.
  package var salt: UInt64

  package init(number: UInt64, firstIndex: UInt64, previousChain: UInt32, salt: UInt64) {
    self.number = number
    self.firstIndex = firstIndex
    self.previousChain = previousChain
    self.salt = salt
  }

  package func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: LogLayout.segmentHeadBytes)
    writer.bytes.append(contentsOf: LogLayout.segmentMagic)
    writer.writeFixed(LogLayout.version)
    writer.writeFixed(previousChain)
    writer.writeFixed(number)
    writer.writeFixed(firstIndex)
    writer.writeFixed(salt)
    writer.writeFixed(CRC32C.checksum(writer.bytes))
    writer.writeFixed(UInt32(0))
    return writer.bytes
  }

  /// Where the chain of the segment's records starts.
  package var chain: UInt32 { CRC32C.checksum(encoded().prefix(LogLayout.segmentHeadBytes - 8)) }

  package static func decode(_ bytes: [UInt8]) throws(DecodingFailure) -> SegmentHead {
    var reader = ByteReader(bytes.prefix(LogLayout.segmentHeadBytes))
    guard bytes.starts(with: LogLayout.segmentMagic) else { throw .malformed(offset: 0, "not a log segment") }
    _ = try reader.readFixed(UInt64.self)
    let version = try reader.readFixed(UInt32.self)
    guard version == LogLayout.version else { throw .unknownVersion(UInt64(version)) }
    let previousChain = try reader.readFixed(UInt32.self)
    let head = SegmentHead(
      number: try reader.readFixed(), firstIndex: try reader.readFixed(), previousChain: previousChain,
      salt: try reader.readFixed())
    let checksum = try reader.readFixed(UInt32.self)
    let padding = try reader.readFixed(UInt32.self)
    guard checksum == head.chain, padding == 0 else {
      throw .malformed(offset: 0, "a segment head that fails its checksum")
    }
    guard head.number > 0, head.firstIndex > 0 else { throw .malformed(offset: 0, "a segment head without a number") }
    return head
  }

  /// `<number>-<first index>.wal`, in hexadecimal, so that names sort as segments follow each other.
  package var fileName: String { "\(Self.hex(number))-\(Self.hex(firstIndex)).wal" }

  /// The number and first index that a segment's file name states; nil when the name is no segment's.
  package static func parse(fileName: String) -> (number: UInt64, firstIndex: UInt64)? {
    guard fileName.hasSuffix(".wal") else { return nil }
    let parts = fileName.dropLast(4).split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 2, parts.allSatisfy({ $0.utf8.count == 16 }),
      let number = UInt64(parts[0], radix: 16), let firstIndex = UInt64(parts[1], radix: 16)
    else { return nil }
    return (number, firstIndex)
  }

  /// 16 hexadecimal digits.
  package static func hex(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.utf8.count) + digits
  }

  /// The check of a batch mark: recognises it at any offset, and only in this segment.
  func markCheck(number batch: UInt64, bodyBytes: UInt32) -> UInt32 {
    withUnsafeTemporaryAllocation(byteCount: 20, alignment: 8) { scratch in
      scratch.storeBytes(of: salt.littleEndian, toByteOffset: 0, as: UInt64.self)
      scratch.storeBytes(of: batch.littleEndian, toByteOffset: 8, as: UInt64.self)
      scratch.storeBytes(of: bodyBytes.littleEndian, toByteOffset: 16, as: UInt32.self)
      return CRC32C.checksum(UnsafeRawBufferPointer(scratch))
    }
  }
}
