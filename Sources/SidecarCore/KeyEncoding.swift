import Primitives

/// How a key travels in a URL: percent-encoded UTF-8 in the path, or base64 (either alphabet, padding optional) in
/// `?key64=` for any other bytes.
package enum KeyEncoding {
  package enum Problem: Error, Hashable, Sendable, CustomStringConvertible {
    case empty
    /// Longer than `Limits.maxCacheKeyBytes` once decoded.
    case tooLong
    case badPercentEncoding
    case notUTF8
    case badBase64

    package var description: String {
      switch self {
      case .empty: "the key is empty: put it behind the last / of the path, or in ?key64="
      case .tooLong: "the key is longer than \(Limits.maxCacheKeyBytes) bytes: use a digest of it"
      case .badPercentEncoding: "the key has a % that two hex digits do not follow: write %25 for a percent sign"
      case .notUTF8: "the key is not UTF-8: send it as ?key64= in base64"
      case .badBase64: "key64 is not base64"
      }
    }
  }

  package static func key(fromPath text: Substring) throws(Problem) -> Bytes {
    guard let bytes = percentDecoded(Array(text.utf8)[...]) else { throw .badPercentEncoding }
    let key = try checked(Bytes(bytes))
    guard isUTF8(key) else { throw .notUTF8 }
    return key
  }

  package static func isUTF8(_ key: Bytes) -> Bool {
    key.array.allSatisfy { $0 < 0x80 } || key.text != nil
  }

  package static func key(fromBase64 text: String) throws(Problem) -> Bytes {
    // A + that nobody percent-encoded arrives as a space.
    guard let key = Base64.bytes(of: String(text.map { $0 == " " ? "+" : $0 })) else { throw .badBase64 }
    return try checked(key)
  }

  package static func checked(_ key: Bytes) throws(Problem) -> Bytes {
    guard !key.isEmpty else { throw .empty }
    guard key.count <= Limits.maxCacheKeyBytes else { throw .tooLong }
    return key
  }

  /// Nil when a `%` is not followed by two hex digits.
  package static func percentDecoded(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    guard text.contains(UInt8(ascii: "%")) else { return Array(text) }
    var decoded: [UInt8] = []
    decoded.reserveCapacity(text.count)
    var index = text.startIndex
    while index < text.endIndex {
      if text[index] != UInt8(ascii: "%") {
        decoded.append(text[index])
        index += 1
        continue
      }
      guard index + 2 < text.endIndex, let high = hexValue(text[index + 1]), let low = hexValue(text[index + 2]) else {
        return nil
      }
      decoded.append(high << 4 | low)
      index += 3
    }
    return decoded
  }

  package static func hexValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
