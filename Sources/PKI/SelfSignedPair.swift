import CLibcrypto

/// A certificate that vouches for itself, kept in a directory as `cert.pem` and `key.pem` (etcd's auto-tls): it
/// encrypts, and proves nothing about who is at the other end.
package enum SelfSignedPair {
  /// As they are, when there are such files that have not run out; otherwise new ones.
  /// - Parameters:
  ///   - hosts: names and addresses to be certified.
  ///   - validYears: 1 to 100.
  /// - Returns: whether they are new.
  @discardableResult
  package static func prepare(
    directory: String, hosts: [String], purpose: CertificatePurpose, validYears: Int,
    now: Int64 = currentUnixSeconds()
  ) throws(PKIError) -> Bool {
    guard (1...100).contains(validYears) else {
      throw .invalidValidity("a validity of \(validYears) years is outside of 1 to 100")
    }
    let (certificatePath, keyPath) = ("\(directory)/cert.pem", "\(directory)/key.pem")
    if Files.exists(certificatePath), Files.exists(keyPath) {
      let pair = try CertifiedKey.load(certificatePath: certificatePath, keyPath: keyPath)
      if pair.certificate.notAfter > now { return false }
    }
    let key = try PrivateKey.generate()
    let builder = try CertificateBuilder(
      commonName: "leasehold", key: key, notBefore: now - CertificateAuthority.backdatingSeconds,
      notAfter: now + Int64(validYears) * 365 * CertificateAuthority.secondsPerDay)
    try builder.add(NID_basic_constraints, "critical,CA:FALSE")
    try builder.add(NID_key_usage, "critical,digitalSignature")
    try builder.add(NID_ext_key_usage, purpose.extendedKeyUsage)
    try builder.add(NID_subject_key_identifier, "hash")
    if let names = try CertificateAuthority.alternativeNames(hosts, purpose) {
      try builder.add(NID_subject_alt_name, names)
    }
    let certificate = try builder.sign(issuer: nil, key: key)
    try Files.createDirectory(directory)
    try Files.replace(keyPath, key.pem, mode: 0o600)
    try Files.replace(certificatePath, certificate.pem, mode: 0o644)
    return true
  }
}
