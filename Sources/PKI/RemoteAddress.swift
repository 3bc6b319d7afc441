#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Where a member that dials comes from, and whether its certificate speaks of that place (etcd's rule, `checkCertSAN`):
/// one of its IP addresses is the peer's, or one of its DNS names leads there. A certificate without any name passes.
package enum RemoteAddress {
  /// Asks the resolver when the certificate has DNS names, and blocks as long as that takes.
  package static func isCovered(_ address: String, by peer: VerifiedPeer) -> Bool {
    isCovered(address, by: peer, lookUp: addresses, reverse: names)
  }

  /// - Parameters:
  ///   - lookUp: the addresses of a name.
  ///   - reverse: the names of an address.
  package static func isCovered(
    _ address: String, by peer: VerifiedPeer, lookUp: (String) -> [String], reverse: (String) -> [String]
  ) -> Bool {
    guard !peer.ipAddresses.isEmpty || !peer.dnsNames.isEmpty else { return true }
    guard let wanted = bytes(address) else { return false }
    if peer.ipAddresses.contains(where: { bytes($0) == wanted }) { return true }
    let plain = peer.dnsNames.filter { !$0.hasPrefix("*.") }
    if plain.contains(where: { lookUp($0).contains { bytes($0) == wanted } }) { return true }
    guard !peer.dnsNames.isEmpty else { return false }
    let endings = peer.dnsNames.filter { $0.hasPrefix("*.") }.map { String($0.dropFirst()) }
    return reverse(address).contains { name in
      let name = name.hasSuffix(".") ? String(name.dropLast()) : name
      return plain.contains(name) || endings.contains { name.hasSuffix($0) }
    }
  }

  /// 16 bytes, with IPv4 in its IPv6 form; nil for what is no address.
  private static func bytes(_ text: String) -> [UInt8]? {
    let plain = String(text.prefix { $0 != "%" })
    var four = in_addr()
    if inet_pton(AF_INET, plain, &four) == 1 {
      return [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + withUnsafeBytes(of: &four) { Array($0) }
    }
    var six = in6_addr()
    guard inet_pton(AF_INET6, plain, &six) == 1 else { return nil }
    return withUnsafeBytes(of: &six) { Array($0) }
  }

  private static func addresses(_ name: String) -> [String] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var first: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(name, nil, &hints, &first) == 0 else { return [] }
    defer { freeaddrinfo(first) }
    var found: [String] = []
    var next = first
    while let entry = next?.pointee {
      if let text = numeric(entry.ai_addr, entry.ai_addrlen, NI_NUMERICHOST) { found.append(text) }
      next = entry.ai_next
    }
    return found
  }

  private static func names(_ address: String) -> [String] {
    var hints = addrinfo()
    hints.ai_flags = AI_NUMERICHOST
    var first: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(address, nil, &hints, &first) == 0, let entry = first?.pointee else { return [] }
    defer { freeaddrinfo(first) }
    return numeric(entry.ai_addr, entry.ai_addrlen, NI_NAMEREQD).map { [$0] } ?? []
  }

  private static func numeric(_ address: UnsafePointer<sockaddr>?, _ length: socklen_t, _ flags: Int32) -> String? {
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    guard getnameinfo(address, length, &text, socklen_t(text.count), nil, 0, flags) == 0 else { return nil }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
