import Primitives

/// Writes one JSON object after another in the order of the calls, without spaces: the form of the event stream's
/// lines.
package struct JSONWriter: Sendable {
  package private(set) var bytes: [UInt8] = []
  private var needsComma = false

  package init(reserving capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  private mutating func separate() {
    if needsComma { bytes.append(UInt8(ascii: ",")) }
    needsComma = true
  }

  private mutating func open(_ bracket: UInt8) {
    bytes.append(bracket)
    needsComma = false
  }

  private mutating func close(_ bracket: UInt8) {
    bytes.append(bracket)
    needsComma = true
  }

  /// An object where a value may stand: at the top or in an array.
  package mutating func object(_ body: (inout JSONWriter) -> Void) {
    separate()
    open(UInt8(ascii: "{"))
    body(&self)
    close(UInt8(ascii: "}"))
  }

  private mutating func name(_ name: StaticString) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    name.withUTF8Buffer { bytes.append(contentsOf: $0) }
    bytes.append(UInt8(ascii: "\""))
    bytes.append(UInt8(ascii: ":"))
  }

  package mutating func member(_ name: StaticString, _ value: String) {
    self.name(name)
    quote(value)
  }

  package mutating func member(_ name: StaticString, _ value: some FixedWidthInteger) {
    self.name(name)
    bytes.append(contentsOf: String(value).utf8)
  }

  package mutating func member(_ name: StaticString, _ value: Bool) {
    self.name(name)
    bytes.append(contentsOf: (value ? "true" : "false").utf8)
  }

  /// Milliseconds as seconds with a fraction: `12.5`.
  package mutating func member(_ name: StaticString, secondsOfMilliseconds milliseconds: Int64) {
    self.name(name)
    let magnitude = milliseconds.magnitude
    var fraction = String(magnitude % 1_000)
    fraction = String(repeating: "0", count: 3 - fraction.count) + fraction
    while fraction.count > 1, fraction.last == "0" { fraction.removeLast() }
    bytes.append(contentsOf: "\(milliseconds < 0 ? "-" : "")\(magnitude / 1_000).\(fraction)".utf8)
  }

  /// An object of texts, by name.
  package mutating func member(_ name: StaticString, texts: [String: String]) {
    object(name) { writer in
      for (name, text) in texts.sorted(by: { $0.key < $1.key }) {
        writer.separate()
        writer.quote(name)
        writer.bytes.append(UInt8(ascii: ":"))
        writer.quote(text)
      }
    }
  }

  /// An object as a member.
  package mutating func object(_ name: StaticString, _ body: (inout JSONWriter) -> Void) {
    self.name(name)
    open(UInt8(ascii: "{"))
    body(&self)
    close(UInt8(ascii: "}"))
  }

  package mutating func member(_ name: StaticString, texts: [String]) {
    array(name) { writer in
      for text in texts {
        writer.separate()
        writer.quote(text)
      }
    }
  }

  package mutating func member(_ name: StaticString, integers: some Sequence<UInt64>) {
    array(name) { writer in
      for integer in integers {
        writer.separate()
        writer.bytes.append(contentsOf: String(integer).utf8)
      }
    }
  }

  /// An array whose elements `body` writes with `object`.
  package mutating func array(_ name: StaticString, _ body: (inout JSONWriter) -> Void) {
    self.name(name)
    open(UInt8(ascii: "["))
    body(&self)
    close(UInt8(ascii: "]"))
  }

  /// A cache key: `key` as text where it is UTF-8, else `key64`.
  package mutating func key(_ key: Bytes) {
    if let text = key.text {
      member("key", text)
    } else {
      member("key64", Base64.text(of: key))
    }
  }

  /// Ends a line and starts afresh behind it.
  package mutating func endLine() {
    bytes.append(UInt8(ascii: "\n"))
    needsComma = false
  }

  private mutating func quote(_ text: String) {
    bytes.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        bytes.append(UInt8(ascii: "\\"))
        bytes.append(byte)
      case 0x0a: bytes.append(contentsOf: #"\n"#.utf8)
      case 0x0d: bytes.append(contentsOf: #"\r"#.utf8)
      case 0x09: bytes.append(contentsOf: #"\t"#.utf8)
      case 0..<0x20, 0x7f:
        let digits = String(byte, radix: 16)
        bytes.append(contentsOf: "\\u00".utf8)
        if digits.count == 1 { bytes.append(UInt8(ascii: "0")) }
        bytes.append(contentsOf: digits.utf8)
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}

/// Base64 for keys that are not text: written URL-safe and without padding (RFC 4648 §5), as `?key64=` takes it.
package enum Base64 {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

  package static func text(of bytes: Bytes) -> String {
    var text: [UInt8] = []
    var index = 0
    while index < bytes.count {
      let rest = bytes.count - index
      let group =
        UInt32(bytes[index]) << 16 | (rest > 1 ? UInt32(bytes[index + 1]) << 8 : 0)
        | (rest > 2 ? UInt32(bytes[index + 2]) : 0)
      for place in 0...min(rest, 3) { text.append(alphabet[Int(group >> UInt32(18 - 6 * place)) & 63]) }
      index += 3
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Both alphabets (§4 and the URL-safe §5), padded or not; nil for anything else.
  package static func bytes(of text: some StringProtocol) -> Bytes? {
    var result: [UInt8] = []
    var bits: UInt32 = 0
    var bitCount = 0
    var isPadding = false
    for byte in text.utf8 {
      if byte == UInt8(ascii: "=") {
        isPadding = true
        continue
      }
      guard !isPadding, let value = value(of: byte) else { return nil }
      bits = (bits << 6 | value) & 0xffff
      bitCount += 6
      if bitCount >= 8 {
        bitCount -= 8
        result.append(UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)))
      }
    }
    guard bitCount < 6 else { return nil }
    return Bytes(result)
  }

  private static func value(of byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"), UInt8(ascii: "-"): 62
    case UInt8(ascii: "/"), UInt8(ascii: "_"): 63
    default: nil
    }
  }
}
