import CLibcrypto

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A certificate revocation list (RFC 5280, §5). Immutable once made.
package final class RevocationList: @unchecked Sendable {
  let pointer: OpaquePointer

  private init(owning pointer: OpaquePointer) { self.pointer = pointer }

  deinit { X509_CRL_free(pointer) }

  /// All lists of a PEM text; at least one.
  package static func parse(pem: [UInt8], source: String) throws(PKIError) -> [RevocationList] {
    let bio = MemoryBIO(pem)
    var found: [RevocationList] = []
    ERR_clear_error()
    while let pointer = PEM_read_bio_X509_CRL(bio.pointer, nil, refusePassphrase, nil) {
      found.append(RevocationList(owning: pointer))
    }
    let code = ERR_peek_last_error()
    let isEnd = leasehold_error_library(code) == ERR_LIB_PEM && leasehold_error_reason(code) == PEM_R_NO_START_LINE
    guard isEnd else { throw .malformed(source: source, reason: "a damaged revocation list (\(takeLibraryError()))") }
    ERR_clear_error()
    guard !found.isEmpty else { throw .malformed(source: source, reason: "no revocation list in it (PEM is expected)") }
    return found
  }

  package static func load(_ path: String) throws(PKIError) -> [RevocationList] {
    try parse(pem: Files.read(path), source: path)
  }

  package var pem: [UInt8] {
    let bio = MemoryBIO()
    PEM_write_bio_X509_CRL(bio.pointer, pointer)
    return bio.content
  }

  /// Certificates on it.
  package var count: Int { Int(leasehold_revoked_count(pointer)) }

  /// Of the certificates on it: upper-case hexadecimal.
  var serials: [String] {
    (0..<leasehold_revoked_count(pointer)).map { index in
      Certificate.hexadecimal(X509_REVOKED_get0_serialNumber(leasehold_revoked_at(pointer, index)))
    }
  }

  /// Until when it is current (seconds since 1970); nil when it does not say.
  package var nextUpdate: Int64? { X509_CRL_get0_nextUpdate(pointer).map { Certificate.seconds($0) } }

  /// A signed list of what `old` has, and `revoked`. Times in seconds since 1970.
  static func make(
    issuer: Certificate, key: PrivateKey, keeping old: RevocationList?, adding revoked: Certificate?, now: Int64,
    nextUpdate: Int64
  ) throws(PKIError) -> RevocationList {
    guard let new = X509_CRL_new() else { throw libraryFailure("make a revocation list") }
    let list = RevocationList(owning: new)
    let start = ASN1_TIME_set(nil, time_t(now - CertificateAuthority.backdatingSeconds))
    let end = ASN1_TIME_set(nil, time_t(nextUpdate))
    defer {
      ASN1_TIME_free(start)
      ASN1_TIME_free(end)
    }
    guard X509_CRL_set_version(new, 1) == 1,
      X509_CRL_set_issuer_name(new, X509_get_subject_name(issuer.pointer)) == 1,
      X509_CRL_set1_lastUpdate(new, start) == 1, X509_CRL_set1_nextUpdate(new, end) == 1,
      leasehold_add_crl_extension(new, issuer.pointer, NID_authority_key_identifier, "keyid:always") == 1
    else { throw libraryFailure("fill in a revocation list") }
    if let old { try list.copyEntries(of: old) }
    if let revoked { try list.add(revoked, at: start) }
    try list.setNumber(now)
    guard X509_CRL_sort(new) == 1, X509_CRL_sign(new, key.pointer, EVP_sha256()) > 0 else {
      throw libraryFailure("sign a revocation list")
    }
    return list
  }

  /// The CRL number must rise with each list (RFC 5280, §5.2.3): the time serves.
  private func setNumber(_ number: Int64) throws(PKIError) {
    guard let value = ASN1_INTEGER_new() else { throw libraryFailure("number a revocation list") }
    defer { ASN1_INTEGER_free(value) }
    guard ASN1_INTEGER_set_int64(value, number) == 1,
      X509_CRL_add1_ext_i2d(pointer, NID_crl_number, value, 0, 0) == 1
    else { throw libraryFailure("number a revocation list") }
  }

  private func copyEntries(of old: RevocationList) throws(PKIError) {
    for index in 0..<leasehold_revoked_count(old.pointer) {
      guard let copy = X509_REVOKED_dup(leasehold_revoked_at(old.pointer, index)),
        X509_CRL_add0_revoked(pointer, copy) == 1
      else { throw libraryFailure("copy a revocation") }
    }
  }

  private func add(_ certificate: Certificate, at time: UnsafeMutablePointer<ASN1_TIME>?) throws(PKIError) {
    var existing: OpaquePointer?
    if X509_CRL_get0_by_serial(pointer, &existing, X509_get_serialNumber(certificate.pointer)) != 0 { return }
    guard let entry = X509_REVOKED_new() else { throw libraryFailure("make a revocation") }
    guard X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.pointer)) == 1,
      X509_REVOKED_set_revocationDate(entry, time) == 1, X509_CRL_add0_revoked(pointer, entry) == 1
    else {
      X509_REVOKED_free(entry)
      throw libraryFailure("add a revocation")
    }
  }
}
