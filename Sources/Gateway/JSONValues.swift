/// The JSON values of a body, one behind the other with or without blanks between them: what Go's decoder takes from a
/// stream. Finds their ends; what is in them is the decoder's matter.
struct JSONValues {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The next value, nil behind the last one.
  mutating func next() throws(GatewayRefusal) -> ArraySlice<UInt8>? {
    while position < bytes.count, Self.isBlank(bytes[position]) { position += 1 }
    guard position < bytes.count else { return nil }
    let start = position
    switch bytes[start] {
    case UInt8(ascii: "{"), UInt8(ascii: "["): try skipNested()
    case UInt8(ascii: "\""): try skipString()
    default: skipWord()
    }
    return bytes[start..<position]
  }

  private mutating func skipNested() throws(GatewayRefusal) {
    var depth = 0
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
      case UInt8(ascii: "\""):
        try skipString()
        continue
      default: break
      }
      position += 1
      if depth == 0 { return }
    }
    throw .malformed("unexpected EOF")
  }

  private mutating func skipString() throws(GatewayRefusal) {
    position += 1
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "\\"): position += 2
      case UInt8(ascii: "\""):
        position += 1
        return
      default: position += 1
      }
    }
    throw .malformed("unexpected EOF")
  }

  private mutating func skipWord() {
    position += 1
    while position < bytes.count, Self.isOfWord(bytes[position]) { position += 1 }
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d
  }

  private static func isOfWord(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "."), UInt8(ascii: "+"), UInt8(ascii: "-"): true
    default: false
    }
  }
}
