/// Appends the project's binary formats (log records, commands, snapshots, peer frames) to a byte array.
/// Integers are little-endian when fixed, LEB128 when variable; signed variable integers are zig-zag.
@usableFromInline
package struct ByteWriter: Sendable {
  @usableFromInline package var bytes: [UInt8]

  @inlinable
  package init(reserving capacity: Int = 0) {
    bytes = []
    bytes.reserveCapacity(capacity)
  }

  @inlinable
  package var count: Int { bytes.count }

  @inlinable
  package mutating func writeFixed<T: FixedWidthInteger>(_ value: T) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  @inlinable
  package mutating func writeByte(_ value: UInt8) { bytes.append(value) }

  @inlinable
  package mutating func writeBool(_ value: Bool) { bytes.append(value ? 1 : 0) }

  @inlinable
  package mutating func writeVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  @inlinable
  package mutating func writeSigned(_ value: Int64) {
    writeVarint(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
  }

  @inlinable
  package mutating func writeCount(_ value: Int) { writeVarint(UInt64(value)) }

  @inlinable
  package mutating func writeBytes(_ value: Bytes) {
    writeCount(value.count)
    bytes.append(contentsOf: value.array)
  }

  @inlinable
  package mutating func writeText(_ value: String) { writeBytes(Bytes(value)) }
}

/// What a decoder found wrong. `offset` is where, in bytes from the start of the decoded unit.
package enum DecodingFailure: Error, Hashable, CustomStringConvertible {
  case truncated(offset: Int)
  case malformed(offset: Int, String)
  case trailingBytes(offset: Int)
  case unknownVersion(UInt64)

  package var description: String {
    switch self {
    case .truncated(let offset): "ends too early at byte \(offset)"
    case .malformed(let offset, let what): "\(what) at byte \(offset)"
    case .trailingBytes(let offset): "unexpected bytes behind byte \(offset)"
    case .unknownVersion(let version): "unknown format version \(version)"
    }
  }
}

/// Reads what `ByteWriter` wrote. Every read checks its bounds and throws; nothing is allocated for a claimed
/// length before the bytes are known to be there.
package struct ByteReader: Sendable {
  package let bytes: ArraySlice<UInt8>
  package private(set) var position: Int

  package init(_ bytes: [UInt8]) { self.init(bytes[...]) }

  package init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    self.position = bytes.startIndex
  }

  package var offset: Int { position - bytes.startIndex }
  package var remaining: Int { bytes.endIndex - position }
  package var isAtEnd: Bool { position == bytes.endIndex }

  package mutating func readByte() throws(DecodingFailure) -> UInt8 {
    guard position < bytes.endIndex else { throw .truncated(offset: offset) }
    defer { position += 1 }
    return bytes[position]
  }

  package mutating func readBool() throws(DecodingFailure) -> Bool {
    let at = offset
    switch try readByte() {
    case 0: return false
    case 1: return true
    default: throw .malformed(offset: at, "a boolean that is neither 0 nor 1")
    }
  }

  package mutating func readFixed<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(DecodingFailure) -> T {
    let size = MemoryLayout<T>.size
    guard remaining >= size else { throw .truncated(offset: offset) }
    var value: T = 0
    withUnsafeMutableBytes(of: &value) { target in
      bytes.withUnsafeBytes { source in
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[self.offset..<self.offset + size]))
      }
    }
    position += size
    return T(littleEndian: value)
  }

  package mutating func readVarint() throws(DecodingFailure) -> UInt64 {
    let start = offset
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let byte = try readByte()
      if shift == 63, byte > 1 { throw .malformed(offset: start, "a variable integer over 64 bits") }
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
      if shift > 63 { throw .malformed(offset: start, "a variable integer over 64 bits") }
    }
  }

  package mutating func readSigned() throws(DecodingFailure) -> Int64 {
    let raw = try readVarint()
    return Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1)
  }

  /// A count of elements that follow, each at least `minimumSize` bytes long, so that a forged count cannot
  /// make the caller reserve more than the input could hold.
  package mutating func readCount(minimumSize: Int = 1) throws(DecodingFailure) -> Int {
    let start = offset
    let value = try readVarint()
    guard value <= UInt64(remaining / max(1, minimumSize)) else {
      throw .malformed(offset: start, "a count of \(value) that exceeds the bytes that follow")
    }
    return Int(value)
  }

  package mutating func readSlice() throws(DecodingFailure) -> ArraySlice<UInt8> {
    let length = try readCount()
    defer { position += length }
    return bytes[position..<position + length]
  }

  /// The next `count` bytes, their number known from elsewhere.
  package mutating func readSlice(count: UInt64) throws(DecodingFailure) -> ArraySlice<UInt8> {
    guard count <= UInt64(remaining) else { throw .truncated(offset: offset) }
    defer { position += Int(count) }
    return bytes[position..<position + Int(count)]
  }

  /// Everything that is left.
  package mutating func readRest() -> ArraySlice<UInt8> {
    defer { position = bytes.endIndex }
    return bytes[position...]
  }

  package mutating func readBytes() throws(DecodingFailure) -> Bytes { Bytes(Array(try readSlice())) }

  package mutating func readText() throws(DecodingFailure) -> String {
    let start = offset
    guard let text = String(validating: try readSlice(), as: UTF8.self) else {
      throw .malformed(offset: start, "text that is not UTF-8")
    }
    return text
  }

  /// Throws unless everything was read.
  package func finish() throws(DecodingFailure) {
    guard isAtEnd else { throw .trailingBytes(offset: offset) }
  }
}
