import CLibcrypto

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What a certificate says, for `leasehold pki inspect`.
package struct CertificateDescription: Hashable, Sendable {
  package enum Use: String, Hashable, Sendable {
    case authority, server, client
  }

  package var subject: String
  package var issuer: String
  package var dnsNames: [String]
  package var ipAddresses: [String]
  /// Seconds since 1970.
  package var notBefore: Int64
  package var notAfter: Int64
  /// What it may be used for; both server and client when it does not restrict itself.
  package var uses: [Use]
  /// Upper-case hexadecimal.
  package var serial: String
  /// SHA-256, upper-case hexadecimal with colons.
  package var fingerprint: String

  package init(_ certificate: Certificate) {
    subject = certificate.subject
    issuer = certificate.issuer
    (dnsNames, ipAddresses) = certificate.alternativeNames
    notBefore = certificate.notBefore
    notAfter = certificate.notAfter
    serial = certificate.serial
    fingerprint = certificate.fingerprint.map { byte in
      let digits = String(byte, radix: 16, uppercase: true)
      return digits.utf8.count == 1 ? "0" + digits : digits
    }.joined(separator: ":")
    uses = Self.uses(of: certificate)
  }

  /// Describes each certificate of a PEM text.
  /// - Parameter source: how errors call it.
  package static func inspect(pem: [UInt8], source: String = "input") throws(PKIError) -> [CertificateDescription] {
    try Certificate.parse(pem: pem, source: source).map { CertificateDescription($0) }
  }

  package static func inspect(path: String) throws(PKIError) -> [CertificateDescription] {
    try Certificate.load(path).map { CertificateDescription($0) }
  }

  private static func uses(of certificate: Certificate) -> [Use] {
    var uses: [Use] = certificate.isAuthority ? [.authority] : []
    if X509_check_purpose(certificate.pointer, X509_PURPOSE_SSL_SERVER, 0) == 1 { uses.append(.server) }
    if X509_check_purpose(certificate.pointer, X509_PURPOSE_SSL_CLIENT, 0) == 1 { uses.append(.client) }
    return uses
  }

  /// One fact a line. `now`, in seconds since 1970, decides what the dates are said to mean.
  package func text(now: Int64 = currentUnixSeconds()) -> String {
    var lines = [
      "subject      \(subject)",
      "issuer       \(issuer)\(subject == issuer ? " (itself)" : "")",
      "names        \((dnsNames + ipAddresses).isEmpty ? "none" : (dnsNames + ipAddresses).joined(separator: ", "))",
      "purposes     \(uses.isEmpty ? "none" : uses.map(\.rawValue).joined(separator: ", "))",
      "valid from   \(utcText(notBefore))",
      "valid until  \(utcText(notAfter)) (\(remaining(now)))",
    ]
    lines.append("serial       \(serial)")
    lines.append("fingerprint  sha256 \(fingerprint)")
    return lines.joined(separator: "\n")
  }

  private func remaining(_ now: Int64) -> String {
    if now < notBefore { return "not valid yet" }
    let seconds = notAfter - now
    if seconds < 0 { return "expired" }
    let days = seconds / CertificateAuthority.secondsPerDay
    return days == 0 ? "ends within a day" : days == 1 ? "1 day left" : "\(days) days left"
  }
}

/// `2026-11-23 05:41:11 UTC`.
func utcText(_ seconds: Int64) -> String {
  var time = time_t(seconds)
  var parts = tm()
  guard gmtime_r(&time, &parts) != nil else { return "at an impossible time" }
  func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
  return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
    + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
}
