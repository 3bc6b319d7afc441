import Primitives

/// One line of a cache's access log, as far as the sidecar cares.
package struct AccessLogLine: Hashable, Sendable {
  package enum Method: Hashable, Sendable { case get, head, put, delete, other }

  package var method: Method
  package var status: Int
  /// Bytes of the blob where the format tells them, nil otherwise.
  package var sizeBytes: Int64?
  /// The path, decoded, without scheme, host, query and fragment.
  package var path: Bytes

  package init(method: Method, status: Int, sizeBytes: Int64? = nil, path: Bytes) {
    self.method = method
    self.status = status
    self.sizeBytes = sizeBytes
    self.path = path
  }
}

/// How to read a line.
///
/// | name | line |
/// |---|---|
/// | `leasehold` | `$request_method $status $content_length $uri`, the format recommended for nginx's `log_format` |
/// | `combined` | nginx's and Apache's default; also `common`. No sizes of uploads in it |
/// | `bazel-remote` | its access log, HTTP and gRPC lines |
/// | `auto` | `leasehold` or `combined`, told apart line by line |
/// | any text with braces | a pattern of one's own: `{method} {status} {size} {uri}`, `{_}` for what does not matter |
package enum AccessLogFormat: Hashable, Sendable {
  case leasehold
  case combined
  case bazelRemote
  case auto
  case pattern(AccessLogPattern)

  /// Nil for an unknown name or a pattern without `{method}`, `{status}` and `{uri}`.
  package init?(_ text: String) {
    switch text {
    case "leasehold": self = .leasehold
    case "combined", "common": self = .combined
    case "bazel-remote": self = .bazelRemote
    case "auto": self = .auto
    default:
      guard let pattern = AccessLogPattern(text) else { return nil }
      self = .pattern(pattern)
    }
  }

  /// The `log_format` line that makes nginx write `leasehold` lines.
  package static let nginxLogFormat = "log_format leasehold '$request_method $status $content_length $uri';"

  /// Nil for a line that does not have this format.
  package func parse(_ line: ArraySlice<UInt8>) -> AccessLogLine? {
    switch self {
    case .leasehold: AccessLogPattern.leasehold.parse(line)
    case .combined: AccessLogPattern.combined.parse(line)
    case .bazelRemote: BazelRemoteLog.parse(line)
    case .auto: AccessLogPattern.leasehold.parse(line) ?? AccessLogPattern.combined.parse(line)
    case .pattern(let pattern): pattern.parse(line)
    }
  }
}

extension AccessLogLine.Method {
  package init(_ name: ArraySlice<UInt8>) {
    if name.elementsEqual("GET".utf8) {
      self = .get
    } else if name.elementsEqual("HEAD".utf8) {
      self = .head
    } else if name.elementsEqual("PUT".utf8) {
      self = .put
    } else if name.elementsEqual("DELETE".utf8) {
      self = .delete
    } else {
      self = .other
    }
  }

  /// Whether this is how a method looks: upper-case letters, 1 to 20 of them (WebDAV's are long).
  static func isPlausible(_ name: ArraySlice<UInt8>) -> Bool {
    (1...20).contains(name.count)
      && name.allSatisfy { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) || $0 == UInt8(ascii: "-") }
  }
}

/// A line as fields between literal text. A field ends where the literal behind it begins; the last field takes the rest.
package struct AccessLogPattern: Hashable, Sendable {
  package enum Field: Hashable, Sendable { case method, status, size, path, encodedURI, ignored }

  private enum Part: Hashable, Sendable {
    case literal([UInt8])
    case field(Field)
  }

  private var parts: [Part]

  /// `{uri}` is as requested (percent-encoded, perhaps with host and query), `{path}` already decoded (nginx's `$uri`,
  /// with `\xHH` for what nginx escapes). Two fields must be separated by text.
  package init?(_ text: String) {
    let names: [String: Field] = [
      "method": .method, "status": .status, "size": .size, "path": .path, "uri": .encodedURI, "_": .ignored,
    ]
    parts = []
    var rest = Substring(text)
    while !rest.isEmpty {
      let literal = rest.prefix { $0 != "{" }
      if !literal.isEmpty { parts.append(.literal(Array(literal.utf8))) }
      rest = rest.dropFirst(literal.count)
      guard !rest.isEmpty else { break }
      guard let close = rest.firstIndex(of: "}"), let field = names[String(rest[rest.startIndex..<close].dropFirst())]
      else { return nil }
      if case .field = parts.last { return nil }
      parts.append(.field(field))
      rest = rest[rest.index(after: close)...]
    }
    let fields = parts.compactMap { if case .field(let field) = $0 { field } else { nil } }
    guard fields.contains(.method), fields.contains(.status), fields.contains(.path) || fields.contains(.encodedURI)
    else { return nil }
  }

  private init(known text: String) {
    guard let pattern = AccessLogPattern(text) else { preconditionFailure("a built-in pattern is wrong: \(text)") }
    self = pattern
  }

  static let leasehold = AccessLogPattern(known: "{method} {status} {size} {path}")
  static let combined = AccessLogPattern(known: "{_} [{_}] \"{method} {uri} {_}\" {status} {_}")

  package func parse(_ line: ArraySlice<UInt8>) -> AccessLogLine? {
    var parsed = AccessLogLine(method: .other, status: 0, path: Bytes())
    var rest = line
    for (index, part) in parts.enumerated() {
      switch part {
      case .literal(let literal):
        guard rest.starts(with: literal) else { return nil }
        rest = rest.dropFirst(literal.count)
      case .field(let field):
        let end = Self.end(of: rest, before: index + 1 < parts.count ? parts[index + 1] : nil)
        guard let end, Self.take(field, rest[rest.startIndex..<end], into: &parsed) else { return nil }
        rest = rest[end...]
      }
    }
    return rest.isEmpty && !parsed.path.isEmpty ? parsed : nil
  }

  /// Where the field at the start of `rest` ends: before the next occurrence of the literal.
  private static func end(of rest: ArraySlice<UInt8>, before next: Part?) -> Int? {
    guard case .literal(let literal) = next, let first = literal.first else { return rest.endIndex }
    var index = rest.startIndex
    while index + literal.count <= rest.endIndex {
      if rest[index] == first, rest[index...].starts(with: literal) { return index }
      index += 1
    }
    return nil
  }

  private static func take(_ field: Field, _ text: ArraySlice<UInt8>, into line: inout AccessLogLine) -> Bool {
    switch field {
    case .ignored: return true
    case .method:
      line.method = AccessLogLine.Method(text)
      return AccessLogLine.Method.isPlausible(text)
    case .status:
      guard let status = decimal(text), (100...999).contains(status) else { return false }
      line.status = Int(status)
      return true
    case .size:
      if text.isEmpty || text.elementsEqual("-".utf8) { return true }
      guard let size = decimal(text) else { return false }
      line.sizeBytes = size
      return true
    case .path:
      line.path = Bytes(unescaped(text))
      return true
    case .encodedURI:
      guard let path = KeyEncoding.percentDecoded(pathOnly(unescaped(text)[...])) else { return false }
      line.path = Bytes(path)
      return true
    }
  }

  static func decimal(_ text: ArraySlice<UInt8>) -> Int64? {
    guard (1...18).contains(text.count) else { return nil }
    var value: Int64 = 0
    for digit in text {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
      value = value * 10 + Int64(digit - UInt8(ascii: "0"))
    }
    return value
  }

  /// nginx writes `"`, `\` and bytes outside printable ASCII as `\xHH`.
  private static func unescaped(_ text: ArraySlice<UInt8>) -> [UInt8] {
    guard text.contains(UInt8(ascii: "\\")) else { return Array(text) }
    var plain: [UInt8] = []
    var index = text.startIndex
    while index < text.endIndex {
      if text[index] == UInt8(ascii: "\\"), index + 3 < text.endIndex, text[index + 1] == UInt8(ascii: "x"),
        let high = KeyEncoding.hexValue(text[index + 2]), let low = KeyEncoding.hexValue(text[index + 3])
      {
        plain.append(high << 4 | low)
        index += 4
      } else {
        plain.append(text[index])
        index += 1
      }
    }
    return plain
  }

  /// Drops `scheme://host` in front and query and fragment behind.
  private static func pathOnly(_ uri: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var path = uri
    if path.first != UInt8(ascii: "/"), let colon = path.firstIndex(of: UInt8(ascii: ":")),
      path[colon...].starts(with: "://".utf8)
    {
      path = path[(colon + 3)...]
      path = path[(path.firstIndex(of: UInt8(ascii: "/")) ?? path.endIndex)...]
    }
    return path.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
  }
}
