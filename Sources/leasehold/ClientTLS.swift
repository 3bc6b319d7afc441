import PKI
import Settings
import Wire

/// TLS of the client port: libcrypto decides trust, the wire moves the bytes.
enum ClientTLS {
  /// Checks the files before anything listens. Throws a one-line `PKIError` or `WireError`.
  static func load(_ settings: NodeSettings.ClientTLS?) throws -> TLSSettings? {
    guard let settings else { return nil }
    _ = try CertifiedKey.load(certificatePath: settings.certificateFile, keyPath: settings.keyFile)
    return try TLSSettings(
      certificateChain: .file(settings.certificateFile), privateKey: .file(settings.keyFile),
      clientCertificates: try clientCertificates(settings))
  }

  private static func clientCertificates(_ settings: NodeSettings.ClientTLS) throws -> ClientCertificates {
    guard let trustedCAFile = settings.trustedCAFile else { return .ignored }
    let store = try TrustStore.load(caPath: trustedCAFile, crlPath: settings.revocationListFile)
    return .required { chain in
      switch store.verify(chainDER: chain, purpose: .client) {
      case .success(let peer): .success(PeerIdentity(commonName: peer.commonName))
      case .failure(let error): .failure(error)
      }
    }
  }
}
