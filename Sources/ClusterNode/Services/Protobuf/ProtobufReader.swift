import NIOCore
import Primitives

/// Why bytes are not the message they should be. The names are SwiftProtobuf's: clients see them.
package enum ProtobufError: Error, Hashable, Sendable {
  case truncated
  case malformedProtobuf
  case messageDepthLimit
}

/// A field's number and how its value is written, as they stand before every field.
struct ProtobufTag: Hashable {
  enum WireType: UInt32 {
    case varint = 0
    case fixed64, lengthDelimited, startGroup, endGroup, fixed32
  }

  let rawValue: UInt32

  @inline(__always)
  static func varint(_ number: UInt32) -> ProtobufTag { ProtobufTag(rawValue: number << 3) }
  @inline(__always)
  static func bytes(_ number: UInt32) -> ProtobufTag {
    ProtobufTag(rawValue: number << 3 | WireType.lengthDelimited.rawValue)
  }

  var number: UInt32 { rawValue >> 3 }
  var wireType: WireType? { WireType(rawValue: rawValue & 7) }
}

/// Walks over the fields of one message where it lies. Accepts and refuses exactly what the generated messages do.
///
/// The bytes must outlive the reader.
struct ProtobufReader {
  /// As the generated messages are decoded (`EtcdAPI`): a transaction inside a transaction costs two levels.
  private static let maxDepth = 300
  /// What protobuf lets one value have.
  private static let maxValueBytes: UInt64 = 0x7fff_fffe

  private let bytes: UnsafeRawBufferPointer
  private var offset = 0
  private var depthLeft: Int

  private init(_ bytes: UnsafeRawBufferPointer, depthLeft: Int) {
    self.bytes = bytes
    self.depthLeft = depthLeft
  }

  static func read<Message>(
    _ buffer: ByteBuffer, _ body: (inout ProtobufReader) throws(ProtobufError) -> Message
  ) throws(ProtobufError) -> Message {
    let result = buffer.withUnsafeReadableBytes { bytes -> Result<Message, ProtobufError> in
      var reader = ProtobufReader(bytes, depthLeft: maxDepth - 1)
      do throws(ProtobufError) { return .success(try body(&reader)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  /// Bytes not read yet.
  var remaining: Int { bytes.count - offset }

  /// The next field's tag, nil at the end of the message. Its value must then be read, or skipped.
  @inline(__always)
  mutating func nextTag() throws(ProtobufError) -> ProtobufTag? {
    guard offset < bytes.count else { return nil }
    let first = bytes[offset]
    // One byte, not field 0, and no group's end or a wire type that does not exist.
    if first & 0x80 == 0, first >= 8, first & 7 <= 5, first & 7 != 4 {
      offset += 1
      return ProtobufTag(rawValue: UInt32(first))
    }
    return try longTag()
  }

  /// At most five bytes, of which the last one may use only its low four bits.
  private mutating func longTag() throws(ProtobufError) -> ProtobufTag {
    var raw: UInt32 = 0
    var shift: UInt32 = 0
    while true {
      guard offset < bytes.count else { throw .malformedProtobuf }
      let byte = bytes[offset]
      if shift == 28, byte > 15 { throw .malformedProtobuf }
      offset += 1
      raw |= UInt32(byte & 0x7f) << shift
      if byte & 0x80 == 0 { break }
      shift += 7
    }
    let tag = ProtobufTag(rawValue: raw)
    guard tag.number != 0, let type = tag.wireType, type != .endGroup else { throw .malformedProtobuf }
    return tag
  }

  /// Up to ten bytes; bits beyond the 64th are dropped.
  @inline(__always)
  mutating func varint() throws(ProtobufError) -> UInt64 {
    guard offset < bytes.count else { throw .truncated }
    let first = bytes[offset]
    offset += 1
    if first & 0x80 == 0 { return UInt64(first) }
    return try longVarint(first)
  }

  private mutating func longVarint(_ first: UInt8) throws(ProtobufError) -> UInt64 {
    var value = UInt64(first & 0x7f)
    var shift: UInt64 = 7
    while shift <= 63, offset < bytes.count {
      let byte = bytes[offset]
      offset += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte & 0x80 == 0 { return value }
      shift += 7
    }
    throw .malformedProtobuf
  }

  @inline(__always)
  mutating func int64() throws(ProtobufError) -> Int64 { Int64(bitPattern: try varint()) }

  @inline(__always)
  mutating func bool() throws(ProtobufError) -> Bool { try varint() != 0 }

  /// An enum's number: 32 bits, the others are dropped.
  @inline(__always)
  mutating func choice() throws(ProtobufError) -> Int32 { Int32(truncatingIfNeeded: try varint()) }

  mutating func value() throws(ProtobufError) -> Bytes {
    let slice = try lengthDelimited()
    guard slice.count > 0 else { return Bytes() }
    return Bytes(
      [UInt8](unsafeUninitializedCapacity: slice.count) { target, initialized in
        UnsafeMutableRawBufferPointer(target).copyMemory(from: slice)
        initialized = slice.count
      })
  }

  /// A reader of the message that is the next value.
  mutating func message() throws(ProtobufError) -> ProtobufReader {
    let slice = try lengthDelimited()
    guard depthLeft > 0 else { throw .messageDepthLimit }
    return ProtobufReader(slice, depthLeft: depthLeft - 1)
  }

  private mutating func lengthDelimited() throws(ProtobufError) -> UnsafeRawBufferPointer {
    let count = try varint()
    guard count <= Self.maxValueBytes else { throw .malformedProtobuf }
    guard count <= UInt64(remaining) else { throw .truncated }
    defer { offset += Int(count) }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(count)])
  }

  /// Passes over the value of a field that nobody knows, or that is not written as its type demands.
  mutating func skip(_ tag: ProtobufTag) throws(ProtobufError) {
    switch tag.wireType {
    case .varint: _ = try varint()
    case .fixed64: try advance(8)
    case .fixed32: try advance(4)
    case .lengthDelimited: try advance(try varint())
    case .startGroup: try skipGroup(tag.number)
    case .endGroup, nil: throw .malformedProtobuf
    }
  }

  private mutating func advance(_ count: UInt64) throws(ProtobufError) {
    guard count <= UInt64(remaining) else { throw .truncated }
    offset += Int(count)
  }

  /// Groups nest, and count as deep as messages.
  private mutating func skipGroup(_ number: UInt32) throws(ProtobufError) {
    guard depthLeft > 0 else { throw .messageDepthLimit }
    depthLeft -= 1
    while true {
      guard remaining > 0 else { throw .truncated }
      let raw = try varint()
      guard raw < UInt32.max else { throw .malformedProtobuf }
      let tag = ProtobufTag(rawValue: UInt32(raw))
      guard tag.number != 0, tag.wireType != nil else { throw .malformedProtobuf }
      guard tag.wireType == .endGroup else {
        try skip(tag)
        continue
      }
      guard tag.number == number else { throw .malformedProtobuf }
      depthLeft += 1
      return
    }
  }
}

/// A request in the making, field by field. A message that comes twice where one may stand is merged: the second one's
/// fields replace or extend the first one's, as protobuf demands.
protocol ProtobufFields {
  init()
  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError)
}

extension ProtobufFields {
  init(wire: ByteBuffer) throws(ProtobufError) {
    self = try ProtobufReader.read(wire) { reader throws(ProtobufError) in
      var fields = Self()
      try fields.merge(&reader)
      return fields
    }
  }

  /// Reads the message that is the next value.
  mutating func mergeMessage(_ reader: inout ProtobufReader) throws(ProtobufError) {
    var inner = try reader.message()
    try merge(&inner)
  }
}
