import FoundationEssentials
import Primitives
import StateMachine
import Synchronization

/// JSON web tokens (RFC 7519) with etcd's claims: `username`, `revision` and `exp`.
package final class SignedTokens: Sendable {
  private struct Header: Codable {
    var alg: String
    var typ: String?
  }

  private struct Claims: Codable {
    var exp: Double?
    var nbf: Double?
    var iat: Double?
    var revision: Double?
    var username: String?
  }

  private struct Known {
    var stamp: AuthStamp
    var notBefore: Double
    var end: Double
  }

  private let key: any TokenKey
  private let ttlSeconds: Int64
  private let known = Mutex<[String: Known]>([:])

  package init(key: any TokenKey, ttlSeconds: Int64) {
    self.key = key
    self.ttlSeconds = ttlSeconds
  }

  /// nil when this member cannot sign. Slow for some keys.
  package func make(for stamp: AuthStamp, at unixSeconds: Int64) -> String? {
    let user = String(decoding: stamp.user.array, as: UTF8.self)
    guard let name = try? JSONEncoder().encode(user) else { return nil }
    // The members in the order in which etcd has them.
    let claims =
      #"{"exp":\#(unixSeconds + ttlSeconds),"revision":\#(stamp.revision),"username":"#
      + String(decoding: name, as: UTF8.self) + "}"
    let message =
      Base64URL.encode(Array(#"{"alg":"\#(key.algorithm)","typ":"JWT"}"#.utf8)) + "."
      + Base64URL.encode(Array(claims.utf8))
    guard let signature = key.sign(Array(message.utf8)) else { return nil }
    return message + "." + Base64URL.encode(signature)
  }

  /// Whom the token names, under which revision; nil for a token that is not ours, or is not valid now.
  package func check(_ token: String, at unixSeconds: Double) -> AuthStamp? {
    guard token.utf8.count <= Limits.maxTokenBytes else { return nil }
    let entry: Known
    if let seen = known.withLock({ $0[token] }) {
      entry = seen
    } else {
      guard let fresh = verify(token) else { return nil }
      entry = fresh
      known.withLock { known in
        if known.count >= Limits.maxKnownTokens { known = [:] }
        known[token] = fresh
      }
    }
    return unixSeconds < entry.end && unixSeconds >= entry.notBefore ? entry.stamp : nil
  }

  private func verify(_ token: String) -> Known? {
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let signature = Base64URL.decode(parts[2]),
      let header: Header = Self.decode(parts[0]), header.alg == key.algorithm,
      key.isValid(signature, of: Array("\(parts[0]).\(parts[1])".utf8)),
      let claims: Claims = Self.decode(parts[1]), let user = claims.username, let number = claims.revision,
      let revision = UInt64(exactly: number.rounded(.towardZero))
    else { return nil }
    return Known(
      stamp: AuthStamp(user: Bytes(user), revision: revision),
      notBefore: max(claims.nbf ?? -.infinity, claims.iat ?? -.infinity), end: claims.exp ?? .infinity)
  }

  private static func decode<T: Decodable>(_ part: Substring) -> T? {
    Base64URL.decode(part).flatMap { try? JSONDecoder().decode(T.self, from: Data($0)) }
  }
}

/// Base 64 as URLs and tokens have it, without padding (RFC 7515, §2).
package enum Base64URL {
  package static func encode(_ bytes: [UInt8]) -> String {
    var text = Data(bytes).base64EncodedString()
    while text.last == "=" { text.removeLast() }
    return String(
      decoding: text.utf8.map { byte in
        switch byte {
        case UInt8(ascii: "+"): UInt8(ascii: "-")
        case UInt8(ascii: "/"): UInt8(ascii: "_")
        default: byte
        }
      }, as: UTF8.self)
  }

  /// nil for what `encode` cannot have made.
  package static func decode(_ text: Substring) -> [UInt8]? {
    var standard: [UInt8] = []
    standard.reserveCapacity(text.utf8.count + 3)
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "-"): standard.append(UInt8(ascii: "+"))
      case UInt8(ascii: "_"): standard.append(UInt8(ascii: "/"))
      case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="): return nil
      default: standard.append(byte)
      }
    }
    while standard.count % 4 != 0 { standard.append(UInt8(ascii: "=")) }
    return Data(base64Encoded: Data(standard)).map { Array($0) }
  }
}
