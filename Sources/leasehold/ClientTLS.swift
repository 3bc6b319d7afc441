import PKI
import Settings
import Wire

/// TLS of the client port: libcrypto decides trust, the wire moves the bytes.
enum ClientTLS {
  /// Checks the files before anything listens. Throws a one-line `PKIError` or `WireError`.
  static func load(_ settings: NodeSettings.ClientTLS?, _ choices: NodeSettings.TLSChoices) throws -> TLSSettings? {
    guard let settings else { return nil }
    _ = try CertifiedKey.load(certificatePath: settings.certificateFile, keyPath: settings.keyFile)
    return try TLSSettings(
      certificateChain: .file(settings.certificateFile), privateKey: .file(settings.keyFile),
      clientCertificates: try clientCertificates(settings), choices)
  }

  private static func clientCertificates(_ settings: NodeSettings.ClientTLS) throws -> ClientCertificates {
    guard let trustedCAFile = settings.trustedCAFile else { return .ignored }
    let store = try TrustStore.load(caPath: trustedCAFile, crlPath: settings.revocationListFile)
    return .required { chain in
      switch store.verify(chainDER: chain, purpose: .client) {
      case .success(let peer): judged(peer, settings.allowedHostnames)
      case .failure(let error): .failure(error)
      }
    }
  }

  private static func judged(_ peer: VerifiedPeer, _ allowed: [String]) -> Result<PeerIdentity, any Error> {
    guard allowed.isEmpty || allowed.contains(where: peer.dnsNames.contains) else {
      return .failure(SettingsError("a certificate of \(peer.commonName ?? "nobody") is valid and not allowed"))
    }
    return .success(PeerIdentity(commonName: peer.commonName))
  }
}

extension TLSSettings {
  /// With what the operator has chosen for every port.
  convenience init(
    certificateChain: PEMSource, privateKey: PEMSource, clientCertificates: ClientCertificates,
    _ choices: NodeSettings.TLSChoices
  ) throws(WireError) {
    try self.init(
      certificateChain: certificateChain, privateKey: privateKey, clientCertificates: clientCertificates,
      minimumVersion: choices.minimum.forWire, maximumVersion: choices.maximum?.forWire,
      cipherSuites: choices.cipherSuites?.joined(separator: ":"))
  }
}

extension NodeSettings.TLSChoices.Version {
  fileprivate var forWire: TLSProtocolVersion { self == .tls13 ? .tls13 : .tls12 }
}
