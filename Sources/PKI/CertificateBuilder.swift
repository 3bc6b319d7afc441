import CLibcrypto

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Fills in and signs one certificate (RFC 5280, §4).
struct CertificateBuilder {
  private let certificate: Certificate
  private var pointer: OpaquePointer { certificate.pointer }

  /// - Parameters:
  ///   - commonName: 1–64 bytes, the bound of RFC 5280.
  ///   - notBefore, notAfter: seconds since 1970.
  init(commonName: String, key: PrivateKey, notBefore: Int64, notAfter: Int64) throws(PKIError) {
    guard (1...64).contains(commonName.utf8.count) else {
      throw .invalidName(commonName, reason: "a common name has 1 to 64 bytes")
    }
    guard commonName.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f }) else {
      throw .invalidName(commonName, reason: "it contains control characters")
    }
    guard let new = X509_new() else { throw libraryFailure("make a certificate") }
    certificate = Certificate(owning: new)
    let name = X509_get_subject_name(pointer)
    let isComplete =
      X509_set_version(pointer, 2) == 1
      && X509_NAME_add_entry_by_NID(
        name, NID_commonName, MBSTRING_UTF8, Array(commonName.utf8), Int32(commonName.utf8.count), -1, 0) == 1
      && X509_set_pubkey(pointer, key.pointer) == 1
      && ASN1_TIME_set(X509_getm_notBefore(pointer), time_t(notBefore)) != nil
      && ASN1_TIME_set(X509_getm_notAfter(pointer), time_t(notAfter)) != nil
    guard isComplete else { throw libraryFailure("fill in a certificate") }
    try setRandomSerial()
  }

  func add(_ nid: Int32, _ value: String, issuer: Certificate? = nil) throws(PKIError) {
    guard leasehold_add_extension(pointer, (issuer ?? certificate).pointer, nid, value) == 1 else {
      throw libraryFailure("add \(value) to a certificate")
    }
  }

  /// Signs and returns the certificate; nil: by itself.
  func sign(issuer: Certificate?, key: PrivateKey) throws(PKIError) -> Certificate {
    let issuerName = X509_get_subject_name((issuer ?? certificate).pointer)
    guard X509_set_issuer_name(pointer, issuerName) == 1, X509_sign(pointer, key.pointer, EVP_sha256()) > 0 else {
      throw libraryFailure("sign a certificate")
    }
    return certificate
  }

  /// 127 random bits: positive, unguessable, and no file needs to remember the last one.
  private func setRandomSerial() throws(PKIError) {
    guard let number = BN_new() else { throw libraryFailure("make a serial number") }
    defer { BN_free(number) }
    guard BN_rand(number, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1,
      BN_to_ASN1_INTEGER(number, X509_get_serialNumber(pointer)) != nil
    else { throw libraryFailure("make a serial number") }
  }
}
