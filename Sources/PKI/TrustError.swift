import CLibcrypto

/// Why a peer is not trusted. Each description is one line for the log of whoever refused it.
package enum TrustError: Error, Hashable, Sendable, CustomStringConvertible {
  case noCertificate
  case expired(subject: String, since: Int64)
  case notYetValid(subject: String, until: Int64)
  /// No trusted authority has issued it.
  case unknownAuthority(subject: String, issuer: String)
  /// It has issued itself.
  case selfSigned(subject: String)
  case badSignature(subject: String)
  case wrongPurpose(subject: String, needed: PeerRole)
  case wrongName(expected: PeerName, found: [String])
  case revoked(subject: String, serial: String)
  /// There is no current list of the issuer, so that revocation is unknown.
  case revocationUnknown(issuer: String, reason: String)
  case malformed(String)
  case other(subject: String, reason: String)
  case internalFailure(String)

  package var description: String {
    switch self {
    case .noCertificate: "the peer sent no certificate"
    case .expired(let subject, let since): "certificate \(subject) expired \(utcText(since))"
    case .notYetValid(let subject, let until):
      "certificate \(subject) is not valid before \(utcText(until)); check the clocks"
    case .unknownAuthority(let subject, let issuer):
      "certificate \(subject) was issued by \(issuer), which is no trusted authority here"
    case .selfSigned(let subject): "certificate \(subject) is self-signed and not trusted here"
    case .badSignature(let subject): "certificate \(subject) has a signature that is not its issuer's"
    case .wrongPurpose(let subject, let needed): "certificate \(subject) may not be used as a \(needed.rawValue)'s"
    case .wrongName(let expected, let found) where found.isEmpty:
      "the certificate is not for \(expected), but for no name at all"
    case .wrongName(let expected, let found):
      "the certificate is not for \(expected), but for \(found.joined(separator: ", "))"
    case .revoked(let subject, let serial): "certificate \(subject) (serial \(serial)) has been revoked"
    case .revocationUnknown(let issuer, let reason): "revocation by \(issuer) cannot be checked: \(reason)"
    case .malformed(let reason): "the peer's certificates are unreadable: \(reason)"
    case .other(let subject, let reason): "certificate \(subject) is not acceptable: \(reason)"
    case .internalFailure(let reason): "cannot verify a certificate: \(reason)"
    }
  }

  /// - Parameters:
  ///   - code: of X509_STORE_CTX_get_error.
  ///   - culprit: the certificate of the chain at which verification stopped.
  init(code: Int32, leaf: Certificate, culprit: Certificate, role: PeerRole, name: PeerName?) {
    let reason = X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "error \(code)"
    switch code {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      self = .expired(subject: culprit.subject, since: culprit.notAfter)
    case X509_V_ERR_CERT_NOT_YET_VALID:
      self = .notYetValid(subject: culprit.subject, until: culprit.notBefore)
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      self = .selfSigned(subject: culprit.subject)
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_CERT_UNTRUSTED:
      self = .unknownAuthority(subject: leaf.subject, issuer: culprit.issuer)
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      self = .badSignature(subject: culprit.subject)
    case X509_V_ERR_INVALID_PURPOSE, X509_V_ERR_CERT_REJECTED:
      self = .wrongPurpose(subject: culprit.subject, needed: role)
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      self = .wrongName(expected: name ?? .dns(""), found: TrustStore.names(of: leaf))
    case X509_V_ERR_CERT_REVOKED:
      self = .revoked(subject: culprit.subject, serial: culprit.serial)
    case X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_CRL_HAS_EXPIRED, X509_V_ERR_CRL_NOT_YET_VALID,
      X509_V_ERR_CRL_SIGNATURE_FAILURE, X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
      self = .revocationUnknown(issuer: culprit.issuer, reason: reason)
    default:
      self = .other(subject: culprit.subject, reason: reason)
    }
  }
}
