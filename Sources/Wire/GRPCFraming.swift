import NIOCore

/// Cuts a stream of bytes into gRPC messages: one compression flag, four bytes of length (big-endian), the message.
///
/// A message that arrives whole within one read is handed on as a slice of that read, without a copy.
package struct GRPCDeframer {
  package static let prefixBytes = 5

  /// Bytes not yet handed on.
  private var unread = ByteBuffer()

  package init() {}

  /// Bytes held back because their message is not complete.
  package var heldBytes: Int { unread.readableBytes }

  package mutating func append(_ bytes: ByteBuffer) {
    if unread.readableBytes == 0 {
      unread = bytes
    } else {
      unread.discardReadBytes()
      unread.writeImmutableBuffer(bytes)
    }
  }

  /// The next whole message, nil when more bytes are needed. The refusals are grpc-go's. `encoding` gives the
  /// call's `grpc-encoding`, asked for only to word a refusal.
  package mutating func next(limit: Int, encoding: () -> String?) throws(GRPCStatus) -> ByteBuffer? {
    guard
      let flag = unread.getInteger(at: unread.readerIndex, as: UInt8.self),
      let length = unread.getInteger(at: unread.readerIndex + 1, as: UInt32.self)
    else { return nil }
    guard flag == 0 else { throw Self.refusal(flag: flag, encoding: encoding()) }
    guard length <= limit else {
      throw GRPCStatus(
        .resourceExhausted, "grpc: received message larger than max (\(length) vs. \(limit))")
    }
    guard unread.readableBytes >= Self.prefixBytes + Int(length) else { return nil }
    unread.moveReaderIndex(forwardBy: Self.prefixBytes)
    return unread.readSlice(length: Int(length))
  }

  package mutating func reset() { unread = ByteBuffer() }

  private static func refusal(flag: UInt8, encoding: String?) -> GRPCStatus {
    guard flag == 1 else {
      return GRPCStatus(.internal, "grpc: received unexpected payload format \(flag)")
    }
    guard let encoding, encoding != "identity" else {
      return GRPCStatus(.internal, "grpc: compressed flag set with identity or empty encoding")
    }
    return GRPCStatus(
      .unimplemented, "grpc: Decompressor is not installed for grpc-encoding \"\(encoding)\"")
  }
}

/// `grpc-timeout`: up to eight digits and a unit (H, M, S, m, u, n); nil when malformed.
package func grpcTimeout(_ text: UnsafeRawBufferPointer) -> TimeAmount? {
  guard text.count >= 2, text.count <= 9 else { return nil }
  var value: Int64 = 0
  for digit in text.dropLast() {
    guard digit >= 0x30, digit <= 0x39 else { return nil }
    value = value * 10 + Int64(digit - 0x30)
  }
  // 99,999,999 hours still fit 63 bits of nanoseconds only when cut to about 290 years.
  switch text[text.count - 1] {
  case UInt8(ascii: "H"): return .hours(min(value, 2_000_000))
  case UInt8(ascii: "M"): return .minutes(value)
  case UInt8(ascii: "S"): return .seconds(value)
  case UInt8(ascii: "m"): return .milliseconds(value)
  case UInt8(ascii: "u"): return .microseconds(value)
  case UInt8(ascii: "n"): return .nanoseconds(value)
  default: return nil
  }
}
