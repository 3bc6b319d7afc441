#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A name by which a peer is reached: what its certificate must state.
package enum PeerName: Hashable, Sendable, CustomStringConvertible {
  case dns(String)
  case ip(String)

  /// An IP address when the text is one, a DNS name otherwise.
  package init(_ text: String) { self = Self.isAddress(text) ? .ip(text) : .dns(text) }

  package var description: String {
    switch self {
    case .dns(let text), .ip(let text): text
    }
  }

  static func isAddress(_ text: String) -> Bool {
    var address = in6_addr()
    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1
  }

  /// Letters, digits, `-`, `_` in labels of 1–63 bytes, 253 in all; `*` as the whole first label only where allowed.
  static func checkDNS(_ name: String, allowsWildcard: Bool) -> String? {
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    guard !name.isEmpty, name.utf8.count <= 253 else { return "a DNS name has 1 to 253 bytes" }
    for (order, label) in labels.enumerated() {
      if allowsWildcard, order == 0, label == "*", labels.count > 2 { continue }
      guard (1...63).contains(label.utf8.count), label.first != "-", label.last != "-",
        label.utf8.allSatisfy(isNameByte)
      else { return "\"\(label)\" is no label of a DNS name" }
    }
    return nil
  }

  static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}

/// What a certificate may be used for (extended key usage).
package enum CertificatePurpose: String, Hashable, Sendable, CaseIterable {
  case server
  case client
  /// Both: a member of the cluster, which answers and calls.
  case peer

  var extendedKeyUsage: String {
    switch self {
    case .server: "serverAuth"
    case .client: "clientAuth"
    case .peer: "serverAuth,clientAuth"
    }
  }
}
