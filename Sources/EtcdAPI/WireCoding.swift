package import NIOCore
package import SwiftProtobuf

// Messages to and from the wire's buffers, without a copy in between.

extension Message {
  /// Decodes one message. Fields that this release does not know are dropped.
  ///
  /// Transactions nest: a transaction inside a transaction costs two levels, and etcd bounds the nesting only by its
  /// operation limit, so the depth limit stands well above protobuf's customary 100.
  package init(wire buffer: ByteBuffer) throws {
    var options = BinaryDecodingOptions()
    options.discardUnknownFields = true
    options.messageDepthLimit = 300
    try self.init(serializedBytes: MessageBytes(buffer: buffer), options: options)
  }

  package var wireBuffer: ByteBuffer {
    do {
      let bytes: MessageBytes = try serializedBytes()
      return bytes.buffer
    } catch {
      // Proto3 messages have no required fields; what is left is a message of over 2 GiB.
      preconditionFailure("\(Self.protoMessageName) cannot be encoded: \(error)")
    }
  }
}

/// A `ByteBuffer` as SwiftProtobuf wants to see bytes.
private struct MessageBytes: SwiftProtobufContiguousBytes {
  var buffer: ByteBuffer

  init(buffer: ByteBuffer) { self.buffer = buffer }

  init(repeating byte: UInt8, count: Int) { buffer = ByteBuffer(repeating: byte, count: count) }

  init<S: Sequence>(_ sequence: S) where S.Element == UInt8 { buffer = ByteBuffer(bytes: sequence) }

  var count: Int { buffer.readableBytes }

  func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try buffer.withUnsafeReadableBytes(body)
  }

  mutating func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows -> R {
    try buffer.withUnsafeMutableReadableBytes(body)
  }
}
