import CLibcrypto

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Which side of a connection a certificate speaks for.
package enum PeerRole: String, Hashable, Sendable {
  case client
  case server
}

/// Whom a verified certificate names.
package struct VerifiedPeer: Hashable, Sendable {
  /// etcd's user name, when authentication by certificate is on.
  package var commonName: String?
  package var dnsNames: [String]
  package var ipAddresses: [String]
  /// Upper-case hexadecimal.
  package var serial: String
  /// Seconds since 1970.
  package var notAfter: Int64

  package init(
    commonName: String? = nil, dnsNames: [String] = [], ipAddresses: [String] = [], serial: String = "",
    notAfter: Int64 = 0
  ) {
    self.commonName = commonName
    self.dnsNames = dnsNames
    self.ipAddresses = ipAddresses
    self.serial = serial
    self.notAfter = notAfter
  }
}

/// How a revocation list is used.
package enum RevocationRule: String, Hashable, Sendable {
  /// Every certificate must be covered by a current list that its issuer has signed: no list, no entry.
  case strict
  /// As etcd does: who is on the list (by serial number, whoever signed it and however old it is) is refused, everybody
  /// else is let in.
  case listed
}

/// When a peer is judged.
package enum TrustOccasion: Hashable, Sendable {
  /// It wants in, at this time (seconds since 1970).
  case arrival(Int64)
  /// It is in, and who is trusted has changed. That a certificate has run out since ends no connection, as in etcd.
  case review
}

/// The authorities (and revocation lists) that decide whether a peer is trusted. Immutable and shared by all threads:
/// libcrypto's store locks what it caches. To follow changed files, make a new one.
package final class TrustStore: @unchecked Sendable {
  private let store: OpaquePointer
  /// Nil without lists.
  private let rule: RevocationRule?
  /// Under the rule `listed`.
  private let revokedSerials: Set<String>
  package let authorities: [Certificate]
  /// When the first of the lists runs out (seconds since 1970); nil when that does not matter.
  package let strictListsEnd: Int64?

  /// Longer chains are refused unread.
  private static let maxChainCertificates = 10
  private static let maxDepth: Int32 = 8

  /// - Parameters:
  ///   - caPEM: one or more certificates. As in etcd each is trusted as it stands, be it a root or not.
  ///   - crlPEM: one or more lists, used by `rule`.
  ///   - caSource, crlSource: how errors call them.
  package init(
    caPEM: [UInt8], crlPEM: [UInt8]? = nil, rule: RevocationRule = .strict, caSource: String = "CA file",
    crlSource: String = "CRL file"
  ) throws(PKIError) {
    authorities = try Certificate.parse(pem: caPEM, source: caSource)
    let lists = try crlPEM.map { pem throws(PKIError) in try RevocationList.parse(pem: pem, source: crlSource) }
    self.rule = lists == nil ? nil : rule
    revokedSerials = rule == .listed ? Set((lists ?? []).flatMap(\.serials)) : []
    strictListsEnd = rule == .listed ? nil : lists?.compactMap(\.nextUpdate).min()
    guard let new = X509_STORE_new() else { throw libraryFailure("make a trust store") }
    store = new
    for authority in authorities {
      guard X509_STORE_add_cert(new, authority.pointer) == 1 else { throw libraryFailure("trust \(authority.subject)") }
    }
    for list in lists ?? [] {
      guard X509_STORE_add_crl(new, list.pointer) == 1 else { throw libraryFailure("use a revocation list") }
    }
  }

  deinit { X509_STORE_free(store) }

  package static func load(
    caPath: String, crlPath: String? = nil, rule: RevocationRule = .strict
  ) throws(PKIError) -> TrustStore {
    let crl = try crlPath.map { path throws(PKIError) in try Files.read(path) }
    return try TrustStore(
      caPEM: Files.read(caPath), crlPEM: crl, rule: rule, caSource: caPath, crlSource: crlPath ?? "CRL file")
  }

  /// Decides whether to trust a peer. Blocks for some 100 µs (signatures): call it off the event loop.
  /// - Parameters:
  ///   - chainDER: the leaf first, then what else the peer sent, in any order.
  ///   - purpose: what the peer is: a server's certificate must be good for serverAuth, a client's for clientAuth.
  ///   - hostName: by which the peer was reached; must be among its alternative names (the common name does not count).
  ///   - time: seconds since 1970.
  package func verify(
    chainDER: [[UInt8]], purpose role: PeerRole, hostName name: PeerName? = nil, at time: Int64 = currentUnixSeconds()
  ) -> Result<VerifiedPeer, TrustError> {
    verify(chainDER: chainDER, purpose: role, hostName: name, occasion: .arrival(time))
  }

  package func verify(
    chainDER: [[UInt8]], purpose role: PeerRole, hostName name: PeerName? = nil, occasion: TrustOccasion
  ) -> Result<VerifiedPeer, TrustError> {
    guard let leafDER = chainDER.first else { return .failure(.noCertificate) }
    guard chainDER.count <= Self.maxChainCertificates else {
      return .failure(.malformed("a chain of \(chainDER.count) certificates"))
    }
    do throws(PKIError) {
      let leaf = try Certificate(der: leafDER)
      var others: [Certificate] = []
      for der in chainDER.dropFirst() { others.append(try Certificate(der: der)) }
      return verify(leaf, others, role, name, occasion)
    } catch {
      return .failure(.malformed("\(error)"))
    }
  }

  private func verify(
    _ leaf: Certificate, _ others: [Certificate], _ role: PeerRole, _ name: PeerName?, _ occasion: TrustOccasion
  ) -> Result<VerifiedPeer, TrustError> {
    if let name, !Self.isSafe(name) { return .failure(.wrongName(expected: name, found: Self.names(of: leaf))) }
    ERR_clear_error()
    defer { ERR_clear_error() }
    guard let context = X509_STORE_CTX_new(), let untrusted = leasehold_new_chain() else {
      return .failure(.internalFailure(takeLibraryError()))
    }
    defer {
      X509_STORE_CTX_free(context)
      leasehold_free_chain(untrusted)
    }
    for other in others where X509_up_ref(other.pointer) == 1 {
      if leasehold_push_certificate(untrusted, other.pointer) == 0 { X509_free(other.pointer) }
    }
    guard X509_STORE_CTX_init(context, store, leaf.pointer, untrusted) == 1,
      configure(context, role, name, occasion)
    else {
      return .failure(.internalFailure(takeLibraryError()))
    }
    guard X509_verify_cert(context) == 1 else {
      let code = X509_STORE_CTX_get_error(context)
      let culprit = X509_STORE_CTX_get_current_cert(context).flatMap { pointer -> Certificate? in
        X509_up_ref(pointer) == 1 ? Certificate(owning: pointer) : nil
      }
      return .failure(TrustError(code: code, leaf: leaf, culprit: culprit ?? leaf, role: role, name: name))
    }
    // etcd looks at every certificate that the peer has sent.
    if !revokedSerials.isEmpty, let revoked = ([leaf] + others).first(where: { revokedSerials.contains($0.serial) }) {
      return .failure(.revoked(subject: revoked.subject, serial: revoked.serial))
    }
    let names = leaf.alternativeNames
    return .success(
      VerifiedPeer(
        commonName: leaf.commonName, dnsNames: names.dns, ipAddresses: names.ip, serial: leaf.serial,
        notAfter: leaf.notAfter))
  }

  private func configure(
    _ context: OpaquePointer, _ role: PeerRole, _ name: PeerName?, _ occasion: TrustOccasion
  ) -> Bool {
    let purpose = role == .client ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER
    guard X509_STORE_CTX_set_purpose(context, purpose) == 1, let parameters = X509_STORE_CTX_get0_param(context) else {
      return false
    }
    X509_VERIFY_PARAM_set_depth(parameters, Self.maxDepth)
    var flags = UInt(X509_V_FLAG_PARTIAL_CHAIN)
    switch occasion {
    case .arrival(let time): X509_VERIFY_PARAM_set_time(parameters, time_t(time))
    case .review: flags |= UInt(X509_V_FLAG_NO_CHECK_TIME)
    }
    if rule == .strict { flags |= UInt(X509_V_FLAG_CRL_CHECK) }
    guard X509_VERIFY_PARAM_set_flags(parameters, flags) == 1 else { return false }
    switch name {
    case nil:
      return true
    case .dns(let host):
      X509_VERIFY_PARAM_set_hostflags(
        parameters, UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
      return X509_VERIFY_PARAM_set1_host(parameters, host, host.utf8.count) == 1
    case .ip(let address):
      return X509_VERIFY_PARAM_set1_ip_asc(parameters, address) == 1
    }
  }

  /// libcrypto takes an empty host for "do not check" and a leading dot for "any host below".
  private static func isSafe(_ name: PeerName) -> Bool {
    switch name {
    case .dns(let host):
      PeerName.checkDNS(host.hasSuffix(".") ? String(host.dropLast()) : host, allowsWildcard: false) == nil
    case .ip(let address): PeerName.isAddress(address)
    }
  }

  static func names(of certificate: Certificate) -> [String] {
    let names = certificate.alternativeNames
    return names.dns + names.ip
  }
}
