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

  package static func key(fromPath text: some Sequence<UInt8>) throws(Problem) -> Bytes {
    guard let bytes = percentDecoded(text) else { throw .badPercentEncoding }
    let key = try checked(Bytes(bytes))
    guard key.array.allSatisfy({ $0 < 0x80 }) || key.text != nil else { throw .notUTF8 }
    return key
  }

  package static func key(fromBase64 text: String) throws(Problem) -> Bytes {
    guard let bytes = base64Decoded(text.utf8) else { throw .badBase64 }
    return try checked(Bytes(bytes))
  }

  package static func checked(_ key: Bytes) throws(Problem) -> Bytes {
    guard !key.isEmpty else { throw .empty }
    guard key.count <= Limits.maxCacheKeyBytes else { throw .tooLong }
    return key
  }

  /// Nil when a `%` is not followed by two hex digits.
  package static func percentDecoded(_ text: some Sequence<UInt8>) -> [UInt8]? {
    var decoded: [UInt8] = []
    decoded.reserveCapacity(text.underestimatedCount)
    var iterator = text.makeIterator()
    while let byte = iterator.next() {
      guard byte == UInt8(ascii: "%") else {
        decoded.append(byte)
        continue
      }
      guard let high = iterator.next().flatMap(hexValue), let low = iterator.next().flatMap(hexValue) else {
        return nil
      }
      decoded.append(high << 4 | low)
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

  /// Base64url without padding: fits a query without further encoding.
  package static func base64(_ key: Bytes) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    var text: [UInt8] = []
    var pending: UInt32 = 0
    var pendingBits = 0
    for byte in key.array {
      pending = pending << 8 | UInt32(byte)
      pendingBits += 8
      while pendingBits >= 6 {
        pendingBits -= 6
        text.append(alphabet[Int(pending >> UInt32(pendingBits) & 63)])
      }
      pending &= (1 << UInt32(pendingBits)) - 1
    }
    if pendingBits > 0 { text.append(alphabet[Int(pending << UInt32(6 - pendingBits) & 63)]) }
    return String(decoding: text, as: UTF8.self)
  }

  package static func base64Decoded(_ text: some Sequence<UInt8>) -> [UInt8]? {
    var decoded: [UInt8] = []
    var pending: UInt32 = 0
    var pendingBits = 0
    var sawPadding = false
    for digit in text {
      if digit == UInt8(ascii: "=") {
        sawPadding = true
        continue
      }
      guard !sawPadding, let value = sextet(digit) else { return nil }
      pending = pending << 6 | UInt32(value)
      pendingBits += 6
      if pendingBits >= 8 {
        pendingBits -= 8
        decoded.append(UInt8(truncatingIfNeeded: pending >> UInt32(pendingBits)))
        pending &= (1 << UInt32(pendingBits)) - 1
      }
    }
    return pendingBits < 6 ? decoded : nil
  }

  private static func sextet(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): digit - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"), UInt8(ascii: "-"): 62
    case UInt8(ascii: "/"), UInt8(ascii: "_"): 63
    default: nil
    }
  }
}
