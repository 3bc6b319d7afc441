import Logging
import PKI
import Settings
import Wire

/// TLS of the client and metrics ports: libcrypto decides trust, the wire moves the bytes.
enum ClientTLS {
  /// Nil without TLS.
  static func load(
    _ settings: NodeSettings.ClientTLS?, _ choices: NodeSettings.TLSChoices, logger: Logger
  ) throws -> TLSMaterial? {
    guard let settings else { return nil }
    return try TLSMaterial(
      certificate: settings.certificateFile, key: settings.keyFile, selfSigned: settings.selfSigned, purpose: .server,
      trust: .init(
        authorities: settings.trustedCAFile, revocations: settings.revocationListFile,
        check: settings.revocationCheck),
      choices: choices, logger: logger
    ) { trust in
      guard let trust else { return .ignored }
      return .required { question in judge(question, trust.current, settings.allowedHostnames) }
    }
  }

  private static func judge(
    _ question: TrustQuestion, _ store: TrustStore, _ allowed: [String]
  ) -> Result<PeerIdentity, any Error> {
    var verdict = store.verify(chainDER: question.chain, purpose: .client, occasion: question.trustOccasion)
    if case .success = verdict, !allowed.isEmpty {
      // One of the names will do; the last refusal is told.
      for name in allowed {
        verdict = store.verify(
          chainDER: question.chain, purpose: .client, hostName: PeerName(name), occasion: question.trustOccasion)
        if case .success = verdict { break }
      }
    }
    switch verdict {
    case .success(let peer): return .success(PeerIdentity(commonName: peer.commonName))
    case .failure(let error): return .failure(error)
    }
  }
}

extension TrustQuestion {
  var trustOccasion: TrustOccasion {
    switch occasion {
    case .handshake: .arrival(currentUnixSeconds())
    case .review: .review
    }
  }
}
