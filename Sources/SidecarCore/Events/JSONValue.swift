import Primitives

/// A JSON text in memory (RFC 8259), for lines of the event stream and other small inputs.
package indirect enum JSONValue: Hashable, Sendable {
  case null
  case bool(Bool)
  /// A number without fraction and exponent that fits 64 bits.
  case integer(Int64)
  case number(Double)
  case text(String)
  case array([JSONValue])
  /// Members in the order of the text; names are unique.
  case object([JSONMember])

  /// A member of an object by its name; nil for an absent one and for values that are no objects.
  package subscript(name: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.name == name }?.value
  }
}

package struct JSONMember: Hashable, Sendable {
  package var name: String
  package var value: JSONValue

  package init(_ name: String, _ value: JSONValue) {
    self.name = name
    self.value = value
  }
}

/// What is wrong with a JSON text, and where: `offset` in bytes from its start.
package struct JSONFailure: Error, Hashable, CustomStringConvertible {
  package var offset: Int
  package var reason: String

  package var description: String { "\(reason) at byte \(offset)" }
}

extension JSONValue {
  /// Reads exactly one value. Strict: no comments, no trailing commas, no duplicate names, valid UTF-8, at most
  /// `maxDepth` nested arrays and objects and `maxBytes` bytes.
  package init(
    parsing bytes: some Collection<UInt8>, maxDepth: Int = 16, maxBytes: Int = Limits.maxEventLineBytes
  ) throws(JSONFailure) {
    guard bytes.count <= maxBytes else {
      throw JSONFailure(offset: maxBytes, reason: "more than \(maxBytes) bytes")
    }
    var reader = JSONReader(bytes: Array(bytes), maxDepth: maxDepth)
    self = try reader.readDocument()
  }
}

private struct JSONReader {
  let bytes: [UInt8]
  let maxDepth: Int
  var position = 0

  init(bytes: [UInt8], maxDepth: Int) {
    self.bytes = bytes
    self.maxDepth = maxDepth
  }

  func failure(_ reason: String) -> JSONFailure { JSONFailure(offset: position, reason: reason) }

  var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d { position += 1 }
  }

  mutating func take(_ byte: UInt8) -> Bool {
    guard next == byte else { return false }
    position += 1
    return true
  }

  mutating func readDocument() throws(JSONFailure) -> JSONValue {
    skipSpace()
    let value = try readValue(depth: 0)
    skipSpace()
    guard next == nil else { throw failure("unexpected text behind the value") }
    return value
  }

  mutating func readValue(depth: Int) throws(JSONFailure) -> JSONValue {
    switch next {
    case nil: throw failure("the text ends too early")
    case UInt8(ascii: "{"): return try readObject(depth: depth + 1)
    case UInt8(ascii: "["): return try readArray(depth: depth + 1)
    case UInt8(ascii: "\""): return .text(try readText())
    case UInt8(ascii: "t"): return try readWord("true", .bool(true))
    case UInt8(ascii: "f"): return try readWord("false", .bool(false))
    case UInt8(ascii: "n"): return try readWord("null", .null)
    case UInt8(ascii: "-"), (UInt8(ascii: "0")...UInt8(ascii: "9"))?: return try readNumber()
    default: throw failure("no JSON value")
    }
  }

  mutating func readWord(_ word: StaticString, _ value: JSONValue) throws(JSONFailure) -> JSONValue {
    let matches = word.withUTF8Buffer { bytes[position...].starts(with: $0) }
    guard matches else { throw failure("no JSON value") }
    position += word.utf8CodeUnitCount
    return value
  }

  mutating func readObject(depth: Int) throws(JSONFailure) -> JSONValue {
    guard depth <= maxDepth else { throw failure("nested deeper than \(maxDepth)") }
    position += 1
    var members: [JSONMember] = []
    var names: Set<String> = []
    skipSpace()
    if take(UInt8(ascii: "}")) { return .object([]) }
    while true {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw failure("a member's name is missing") }
      let name = try readText()
      guard names.insert(name).inserted else { throw failure("the name \"\(name)\" twice in one object") }
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw failure("a colon is missing") }
      skipSpace()
      members.append(JSONMember(name, try readValue(depth: depth)))
      skipSpace()
      if take(UInt8(ascii: "}")) { return .object(members) }
      guard take(UInt8(ascii: ",")) else { throw failure("a comma or } is missing") }
    }
  }

  mutating func readArray(depth: Int) throws(JSONFailure) -> JSONValue {
    guard depth <= maxDepth else { throw failure("nested deeper than \(maxDepth)") }
    position += 1
    var elements: [JSONValue] = []
    skipSpace()
    if take(UInt8(ascii: "]")) { return .array([]) }
    while true {
      skipSpace()
      elements.append(try readValue(depth: depth))
      skipSpace()
      if take(UInt8(ascii: "]")) { return .array(elements) }
      guard take(UInt8(ascii: ",")) else { throw failure("a comma or ] is missing") }
    }
  }

  mutating func skipDigits() -> Int {
    let start = position
    while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
    return position - start
  }

  mutating func readNumber() throws(JSONFailure) -> JSONValue {
    let start = position
    _ = take(UInt8(ascii: "-"))
    let leadsWithZero = next == UInt8(ascii: "0")
    let digits = skipDigits()
    guard digits > 0 else { throw failure("a digit is missing") }
    guard !leadsWithZero || digits == 1 else { throw failure("a number with a leading zero") }
    var isInteger = true
    if take(UInt8(ascii: ".")) {
      isInteger = false
      guard skipDigits() > 0 else { throw failure("a digit is missing") }
    }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      isInteger = false
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      guard skipDigits() > 0 else { throw failure("a digit is missing") }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let value = Int64(text) { return .integer(value) }
    guard let value = Double(text), value.isFinite else { throw failure("a number out of range") }
    return .number(value)
  }

  /// A string, from its opening quote to behind its closing one.
  mutating func readText() throws(JSONFailure) -> String {
    position += 1
    var text: [UInt8] = []
    while true {
      guard let byte = next else { throw failure("a string without end") }
      switch byte {
      case UInt8(ascii: "\""):
        guard let result = String(validating: text, as: UTF8.self) else {
          throw failure("a string that is not UTF-8")
        }
        position += 1
        return result
      case UInt8(ascii: "\\"):
        position += 1
        try readEscape(into: &text)
      case 0..<0x20: throw failure("a control character in a string")
      default:
        text.append(byte)
        position += 1
      }
    }
  }

  mutating func readEscape(into text: inout [UInt8]) throws(JSONFailure) {
    guard let byte = next else { throw failure("a string without end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0c)
    case UInt8(ascii: "n"): text.append(0x0a)
    case UInt8(ascii: "r"): text.append(0x0d)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"): text.append(contentsOf: String(Character(try readEscapedScalar())).utf8)
    default: throw failure("an unknown escape")
    }
  }

  mutating func readEscapedScalar() throws(JSONFailure) -> Unicode.Scalar {
    let first = try readFourDigits()
    if let scalar = Unicode.Scalar(first) { return scalar }
    // A high surrogate needs its low one right behind it.
    guard (0xd800..<0xdc00).contains(first), take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
      throw failure("half of a surrogate pair")
    }
    let second = try readFourDigits()
    guard (0xdc00..<0xe000).contains(second),
      let scalar = Unicode.Scalar(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    else { throw failure("half of a surrogate pair") }
    return scalar
  }

  mutating func readFourDigits() throws(JSONFailure) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw failure("four hex digits are missing")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
