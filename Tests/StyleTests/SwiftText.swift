/// Just enough of a Swift scanner to measure code: comments and the contents of string literals become spaces, line
/// breaks stay where they are.
struct SwiftText {
  private(set) var code: [UInt8]
  private var position = 0

  init(_ text: String) {
    code = Array(text.utf8)
    while position < code.count { skipOne() }
  }

  var lines: [String] {
    code.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
  }

  private func at(_ offset: Int, _ text: StaticString) -> Bool {
    let length = text.utf8CodeUnitCount
    guard offset + length <= code.count else { return false }
    return (0..<length).allSatisfy { code[offset + $0] == text.utf8Start[$0] }
  }

  private mutating func blank(_ count: Int) {
    for index in position..<min(position + count, code.count) where code[index] != UInt8(ascii: "\n") {
      code[index] = UInt8(ascii: " ")
    }
    position += count
  }

  private mutating func skipOne() {
    if at(position, "//") {
      while position < code.count, code[position] != UInt8(ascii: "\n") { blank(1) }
    } else if at(position, "/*") {
      while position < code.count, !at(position, "*/") { blank(1) }
      blank(2)
    } else if let hashes = literalHashes() {
      skipLiteral(hashes)
    } else {
      position += 1
    }
  }

  /// How many `#` stand before the quote of a literal that begins here; nil when none begins.
  private func literalHashes() -> Int? {
    var end = position
    while end < code.count, code[end] == UInt8(ascii: "#") { end += 1 }
    return at(end, "\"") ? end - position : nil
  }

  private mutating func skipLiteral(_ hashes: Int) {
    blank(hashes)
    let quotes = at(position, "\"\"\"") ? 3 : 1
    blank(quotes)
    while position < code.count {
      if at(position, "\\"), hasHashes(hashes, at: position + 1) {
        blank(1 + hashes)
        if at(position, "(") { skipInterpolation() } else { blank(1) }
      } else if at(position, quotes == 3 ? "\"\"\"" : "\""), hasHashes(hashes, at: position + quotes) {
        return blank(quotes + hashes)
      } else if quotes == 1, at(position, "\n") {
        return  // a regex literal with a lone quote: it ends with its line
      } else {
        blank(1)
      }
    }
  }

  private func hasHashes(_ count: Int, at offset: Int) -> Bool {
    offset + count <= code.count && (0..<count).allSatisfy { code[offset + $0] == UInt8(ascii: "#") }
  }

  /// From the parenthesis to its partner. What stands inside is an expression, perhaps with literals; it is blanked too.
  private mutating func skipInterpolation() {
    var depth = 0
    repeat {
      if let hashes = literalHashes() {
        skipLiteral(hashes)
        continue
      }
      if at(position, "(") { depth += 1 }
      if at(position, ")") { depth -= 1 }
      blank(1)
    } while depth > 0 && position < code.count
  }
}

/// A function with its body, as lines from 1.
struct FunctionSpan {
  var name: String
  var firstLine: Int
  var lineCount: Int

  /// Functions and initializers of a file, nested ones included.
  static func all(in file: SourceTree.File) -> [FunctionSpan] {
    let lines = SwiftText(file.text).lines
    let declaration = /^\s*[a-z@ ()_]*\b(func\s+[^\s(<]+|init\b[?]?|deinit)\s*[(<{]/
    return lines.indices.compactMap { start in
      guard lines[start].contains("func ") || lines[start].contains("init") else { return nil }
      guard let match = lines[start].firstMatch(of: declaration) else { return nil }
      guard let end = endOfBody(lines, from: start) else { return nil }
      return FunctionSpan(name: String(match.output.1), firstLine: start + 1, lineCount: end - start + 1)
    }
  }

  /// The line of the brace that closes the body; nil for a requirement without one.
  private static func endOfBody(_ lines: [String], from start: Int) -> Int? {
    var parentheses = 0
    var braces = 0
    for index in start..<lines.count {
      for character in lines[index].utf8 {
        switch character {
        case UInt8(ascii: "("), UInt8(ascii: "["): parentheses += 1
        case UInt8(ascii: ")"), UInt8(ascii: "]"): parentheses -= 1
        case UInt8(ascii: "{") where parentheses == 0 || braces > 0: braces += 1
        case UInt8(ascii: "}") where braces > 0:
          braces -= 1
          if braces == 0 { return index }
        case UInt8(ascii: "}") where parentheses == 0: return nil
        default: break
        }
      }
      let next = index + 1 < lines.count ? lines[index + 1].drop { $0 == " " } : ""
      let goesOn = ["{", ")", "->", "where", "async", "throws"].contains { next.hasPrefix($0) }
      if braces == 0, parentheses == 0, !goesOn { return nil }
    }
    return nil
  }
}
