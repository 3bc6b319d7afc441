import NIOCore
import Primitives

/// Writes one message from its end to its front: a nested message's length is then known when it is to be written, and
/// nothing is measured twice or copied. Fields are therefore written last one first; as proto3 has it, a field that is
/// zero or empty is not written at all.
///
/// The buffer must have exactly the bytes that the message takes.
struct ProtobufWriter {
  private let start: UnsafeMutableRawPointer
  /// Bytes before this place are still to be written.
  private(set) var offset: Int

  /// A buffer of `count` bytes, filled by `body`.
  static func write(_ count: Int, _ body: (inout ProtobufWriter) -> Void) -> ByteBuffer {
    guard count > 0 else { return ByteBuffer() }
    var buffer = ByteBufferAllocator().buffer(capacity: count)
    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { target in
      var writer = ProtobufWriter(start: target.baseAddress!, offset: count)
      body(&writer)
      precondition(writer.offset == 0, "a message of \(count) bytes was measured wrong by \(writer.offset)")
      return count
    }
    return buffer
  }

  mutating func varint(_ number: UInt32, _ value: UInt64) {
    guard value != 0 else { return }
    putVarint(value)
    putVarint(UInt64(ProtobufTag.varint(number).rawValue))
  }

  mutating func int64(_ number: UInt32, _ value: Int64) { varint(number, UInt64(bitPattern: value)) }

  mutating func bool(_ number: UInt32, _ value: Bool) { varint(number, value ? 1 : 0) }

  mutating func bytes(_ number: UInt32, _ value: Bytes) {
    let count = value.count
    guard count > 0 else { return }
    reserve(count)
    value.array.withUnsafeBytes { (start + offset).copyMemory(from: $0.baseAddress!, byteCount: count) }
    prefix(number, count)
  }

  /// A nested message, also an empty one.
  mutating func message(_ number: UInt32, _ body: (inout ProtobufWriter) -> Void) {
    let end = offset
    body(&self)
    prefix(number, end - offset)
  }

  private mutating func prefix(_ number: UInt32, _ count: Int) {
    putVarint(UInt64(count))
    putVarint(UInt64(ProtobufTag.bytes(number).rawValue))
  }

  @inline(__always)
  private mutating func putVarint(_ value: UInt64) {
    if value < 0x80 {
      reserve(1)
      start.storeBytes(of: UInt8(truncatingIfNeeded: value), toByteOffset: offset, as: UInt8.self)
      return
    }
    let count = ProtobufSize.ofVarint(value)
    reserve(count)
    var rest = value
    for place in offset..<offset + count - 1 {
      start.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: place, as: UInt8.self)
      rest >>= 7
    }
    start.storeBytes(of: UInt8(truncatingIfNeeded: rest), toByteOffset: offset + count - 1, as: UInt8.self)
  }

  @inline(__always)
  private mutating func reserve(_ count: Int) {
    precondition(count <= offset, "a message was measured too small")
    offset -= count
  }
}

/// What fields take, tags of one byte (fields 1 to 15) included.
enum ProtobufSize {
  /// Seven bits to a byte.
  @inline(__always)
  static func ofVarint(_ value: UInt64) -> Int { (70 - (value | 1).leadingZeroBitCount) / 7 }

  @inline(__always)
  static func varint(_ value: UInt64) -> Int { value == 0 ? 0 : 1 + ofVarint(value) }

  @inline(__always)
  static func int64(_ value: Int64) -> Int { varint(UInt64(bitPattern: value)) }

  @inline(__always)
  static func bool(_ value: Bool) -> Int { value ? 2 : 0 }

  @inline(__always)
  static func bytes(_ value: Bytes) -> Int { value.isEmpty ? 0 : message(value.count) }

  /// A nested message of `count` bytes, also an empty one.
  @inline(__always)
  static func message(_ count: Int) -> Int { 1 + ofVarint(UInt64(count)) + count }
}
