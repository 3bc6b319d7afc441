import CLibcrypto

/// A private certificate authority in a directory: `ca.crt`, `ca.key`, and `ca.crl` once something was revoked.
package struct CertificateAuthority: Sendable {
  package let directory: String
  package let certificate: Certificate
  private let key: PrivateKey

  package var certificatePath: String { "\(directory)/ca.crt" }
  package var keyPath: String { "\(directory)/ca.key" }
  package var revocationListPath: String { "\(directory)/ca.crl" }

  /// Certificates are good from a little before they were made, for peers whose clocks are behind.
  static let backdatingSeconds: Int64 = 300
  static let secondsPerDay: Int64 = 86_400
  static let maxValidDays = 36_500

  /// Makes an authority with a fresh EC P-256 key and a self-signed certificate. Overwrites nothing.
  package static func create(
    directory: String, name: String, validDays: Int = 3_650, now: Int64 = currentUnixSeconds()
  ) throws(PKIError) -> CertificateAuthority {
    try checkDays(validDays)
    let certificatePath = "\(directory)/ca.crt"
    let keyPath = "\(directory)/ca.key"
    for path in [certificatePath, keyPath] where Files.exists(path) { throw .alreadyExists(path) }
    let key = try PrivateKey.generate()
    let start = now - backdatingSeconds
    let builder = try CertificateBuilder(
      commonName: name, key: key, notBefore: start, notAfter: now + Int64(validDays) * secondsPerDay)
    try builder.add(NID_basic_constraints, "critical,CA:TRUE,pathlen:0")
    try builder.add(NID_key_usage, "critical,keyCertSign,cRLSign")
    try builder.add(NID_subject_key_identifier, "hash")
    try builder.add(NID_authority_key_identifier, "keyid:always")
    let certificate = try builder.sign(issuer: nil, key: key)
    try Files.createDirectory(directory)
    try writePair(certificate, certificatePath, key, keyPath)
    return CertificateAuthority(directory: directory, certificate: certificate, key: key)
  }

  /// Opens an authority that `create` has made.
  package static func load(directory: String) throws(PKIError) -> CertificateAuthority {
    let pair = try CertifiedKey.load(certificatePath: "\(directory)/ca.crt", keyPath: "\(directory)/ca.key")
    guard pair.certificate.isAuthority else {
      throw .malformed(source: "\(directory)/ca.crt", reason: "not the certificate of an authority")
    }
    return CertificateAuthority(directory: directory, certificate: pair.certificate, key: pair.key)
  }

  private init(directory: String, certificate: Certificate, key: PrivateKey) {
    self.directory = directory
    self.certificate = certificate
    self.key = key
  }

  /// What `issue` wrote.
  package struct Issued: Sendable {
    package var certificate: Certificate
    package var certificatePath: String
    package var keyPath: String
  }

  /// Makes a key and a certificate for it, as `<name>.crt` and `<name>.key` (mode 0600). Overwrites nothing.
  /// - Parameters:
  ///   - name: the common name, and the files' name: letters, digits, `.`, `-`, `_`.
  ///   - subjectAlternativeNames: DNS names and IP addresses, told apart by their form. A server needs at least one.
  ///   - validFrom: seconds since 1970.
  ///   - outputDirectory: nil: the authority's directory.
  package func issue(
    name: String, purpose: CertificatePurpose, subjectAlternativeNames: [String] = [], validDays: Int = 365,
    validFrom: Int64? = nil, outputDirectory: String? = nil
  ) throws(PKIError) -> Issued {
    try Self.checkDays(validDays)
    try Self.checkFileName(name)
    let directory = outputDirectory ?? directory
    let certificatePath = "\(directory)/\(name).crt"
    let keyPath = "\(directory)/\(name).key"
    for path in [certificatePath, keyPath] where Files.exists(path) { throw .alreadyExists(path) }
    let start = validFrom ?? currentUnixSeconds() - Self.backdatingSeconds
    let end = (validFrom ?? currentUnixSeconds()) + Int64(validDays) * Self.secondsPerDay
    guard end <= certificate.notAfter else {
      throw .invalidValidity(
        "a certificate for \(validDays) days would outlive its authority, which ends \(utcText(certificate.notAfter))")
    }
    let key = try PrivateKey.generate()
    let builder = try CertificateBuilder(commonName: name, key: key, notBefore: start, notAfter: end)
    try builder.add(NID_basic_constraints, "critical,CA:FALSE")
    try builder.add(NID_key_usage, "critical,digitalSignature")
    try builder.add(NID_ext_key_usage, purpose.extendedKeyUsage)
    try builder.add(NID_subject_key_identifier, "hash")
    try builder.add(NID_authority_key_identifier, "keyid:always", issuer: certificate)
    if let names = try Self.alternativeNames(subjectAlternativeNames, purpose) {
      try builder.add(NID_subject_alt_name, names)
    }
    let issued = try builder.sign(issuer: certificate, key: self.key)
    try Files.createDirectory(directory)
    try Self.writePair(issued, certificatePath, key, keyPath)
    return Issued(certificate: issued, certificatePath: certificatePath, keyPath: keyPath)
  }

  /// Adds a certificate to the authority's revocation list and signs the list anew.
  /// - Parameters:
  ///   - listValidDays: until then verifiers accept the list; sign it again before.
  /// - Returns: the list's path.
  @discardableResult
  package func revoke(
    _ revoked: Certificate, listValidDays: Int = 365, now: Int64 = currentUnixSeconds()
  ) throws(PKIError) -> String {
    guard X509_NAME_cmp(X509_get_issuer_name(revoked.pointer), X509_get_subject_name(certificate.pointer)) == 0 else {
      throw .malformed(source: revoked.subject, reason: "issued by \(revoked.issuer), not by \(certificate.subject)")
    }
    return try writeRevocationList(adding: revoked, listValidDays: listValidDays, now: now)
  }

  /// Signs the revocation list anew (an empty one when nothing was revoked), so that it does not run out.
  /// - Returns: the list's path.
  @discardableResult
  package func renewRevocationList(
    listValidDays: Int = 365, now: Int64 = currentUnixSeconds()
  ) throws(PKIError) -> String {
    try writeRevocationList(adding: nil, listValidDays: listValidDays, now: now)
  }

  private func writeRevocationList(
    adding revoked: Certificate?, listValidDays: Int, now: Int64
  ) throws(PKIError) -> String {
    try Self.checkDays(listValidDays)
    let old = Files.exists(revocationListPath) ? try RevocationList.load(revocationListPath).first : nil
    let list = try RevocationList.make(
      issuer: certificate, key: key, keeping: old, adding: revoked, now: now,
      nextUpdate: now + Int64(listValidDays) * Self.secondsPerDay)
    try Files.replace(revocationListPath, list.pem, mode: 0o644)
    return revocationListPath
  }

  private static func writePair(
    _ certificate: Certificate, _ certificatePath: String, _ key: PrivateKey, _ keyPath: String
  ) throws(PKIError) {
    try Files.create(keyPath, key.pem, mode: 0o600)
    do throws(PKIError) {
      try Files.create(certificatePath, certificate.pem, mode: 0o644)
    } catch {
      Files.remove(keyPath)
      throw error
    }
  }

  /// The extension's text. Each name is checked, since a comma in one would smuggle in another.
  static func alternativeNames(
    _ names: [String], _ purpose: CertificatePurpose
  ) throws(PKIError) -> String? {
    var parts: [String] = []
    for name in names {
      switch PeerName(name) {
      case .ip(let address):
        parts.append("IP:\(address)")
      case .dns(let dns):
        if let problem = PeerName.checkDNS(dns, allowsWildcard: true) { throw .invalidName(dns, reason: problem) }
        parts.append("DNS:\(dns)")
      }
    }
    if parts.isEmpty, purpose != .client {
      throw .invalidValidity(
        "a certificate for a \(purpose.rawValue) needs a DNS name or IP address by which it is reached")
    }
    return parts.isEmpty ? nil : parts.joined(separator: ",")
  }

  private static func checkDays(_ days: Int) throws(PKIError) {
    guard (1...maxValidDays).contains(days) else {
      throw .invalidValidity("a validity of \(days) days is outside of 1 to \(maxValidDays)")
    }
  }

  private static func checkFileName(_ name: String) throws(PKIError) {
    let isPlain = name.utf8.allSatisfy { $0 == UInt8(ascii: ".") || PeerName.isNameByte($0) }
    guard isPlain, !name.isEmpty, !name.hasPrefix("."), !name.hasPrefix("-") else {
      throw .invalidName(
        name, reason: "it also names the files: letters, digits, '.', '-' and '_' only, not '.' or '-' first")
    }
    guard name != "ca" else { throw .invalidName(name, reason: "its files would be the authority's own") }
  }
}
