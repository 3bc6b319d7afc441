import Logging
import PKI
import Settings
import Wire

/// The TLS of one port, made from its files and made anew when they change: new connections get the new certificate,
/// and standing ones are judged again when it has changed who is trusted.
struct TLSMaterial {
  /// Who is trusted, and by what.
  struct Trust {
    var authoritiesPath: String
    var revocationsPath: String?
    var rule: RevocationRule

    init?(authorities: String?, revocations: String?, check: NodeSettings.RevocationCheck) {
      guard let authorities else { return nil }
      authoritiesPath = authorities
      revocationsPath = revocations
      rule = check == .strict ? .strict : .listed
    }

    fileprivate func load() throws(PKIError) -> TrustStore {
      try TrustStore.load(caPath: authoritiesPath, crlPath: revocationsPath, rule: rule)
    }
  }

  let settings: TLSSettings
  /// Certificate and key; authorities and lists.
  let followed: [FollowedFiles]

  /// For how many looks a certificate may be without its key.
  private static let patientLooks = 60

  /// Checks the files before anything listens. Throws a one-line `PKIError` or `WireError`.
  /// - Parameter clients: what is asked of clients by whoever is trusted at the moment; nil without `trust`.
  init(
    certificate: String, key: String, selfSigned: NodeSettings.SelfSigned?, purpose: CertificatePurpose, trust: Trust?,
    choices: NodeSettings.TLSChoices, logger: Logger, clients: (LiveTrust?) -> ClientCertificates
  ) throws {
    if let selfSigned {
      try SelfSignedPair.prepare(
        directory: selfSigned.directory, hosts: selfSigned.hosts, purpose: purpose, validYears: selfSigned.validYears)
      logger.warning(
        "the certificate is self-signed: traffic is encrypted, but nobody's identity is checked",
        metadata: ["certificate": "\(certificate)"])
    }
    let live = try trust.map { LiveTrust(try $0.load()) }
    if let live { Self.warn(live.current, logger) }
    let pair = try CertifiedKey.load(certificatePath: certificate, keyPath: key)
    Self.warn(pair, certificate, logger)
    let settings = try TLSSettings(
      certificateChain: .bytes(pair.chainPEM), privateKey: .bytes(pair.key.pem), clientCertificates: clients(live),
      minimumVersion: choices.minimum.forWire, maximumVersion: choices.maximum?.forWire,
      cipherSuites: choices.cipherSuites?.joined(separator: ":"))
    self.settings = settings
    let own = FollowedFiles([certificate, key], patientLooks: Self.patientLooks) { () throws(PKIError) in
      let pair = try CertifiedKey.load(certificatePath: certificate, keyPath: key)
      do throws(WireError) {
        try settings.replace(certificateChain: .bytes(pair.chainPEM), privateKey: .bytes(pair.key.pem))
      } catch {
        throw .malformed(source: certificate, reason: "\(error)")
      }
      Self.warn(pair, certificate, logger)
    }
    guard let trust, let live else {
      followed = [own]
      return
    }
    let paths = [trust.authoritiesPath] + (trust.revocationsPath.map { [$0] } ?? [])
    let others = FollowedFiles(paths, patientLooks: Self.patientLooks) { () throws(PKIError) in
      let store = try trust.load()
      live.replace(store)
      Self.warn(store, logger)
      settings.judgeAgain(logger: logger)
    }
    followed = [own, others]
  }

  private static func warn(_ pair: CertifiedKey, _ path: String, _ logger: Logger) {
    guard pair.certificate.notAfter < currentUnixSeconds() else { return }
    logger.warning("the certificate has expired: others will refuse it", metadata: ["certificate": "\(path)"])
  }

  private static func warn(_ store: TrustStore, _ logger: Logger) {
    guard let end = store.strictListsEnd, end < currentUnixSeconds() else { return }
    logger.warning(
      "a revocation list has run out: whoever it should speak of is refused (--crl-check listed would not mind)")
  }
}

extension NodeSettings.TLSChoices.Version {
  fileprivate var forWire: TLSProtocolVersion { self == .tls13 ? .tls13 : .tls12 }
}
