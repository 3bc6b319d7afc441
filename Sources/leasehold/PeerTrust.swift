import Logging
import PKI
import PeerTransport
import Settings
import Wire

/// TLS between members: which of them are let in, and which are spoken to.
struct PeerTrust {
  let tls: PeerTLS
  let material: TLSMaterial

  /// Throws a one-line `PKIError` or `WireError`.
  init(_ settings: NodeSettings.PeerTLS, _ choices: NodeSettings.TLSChoices, logger: Logger) throws {
    var live: LiveTrust?
    material = try TLSMaterial(
      certificate: settings.certificateFile, key: settings.keyFile, selfSigned: settings.selfSigned, purpose: .peer,
      trust: .init(
        authorities: settings.trustedCAFile, revocations: settings.revocationListFile,
        check: settings.revocationCheck),
      choices: choices, logger: logger
    ) { trust in
      live = trust
      guard let trust else { return .ignored }
      return .required { question in Self.judgeDialler(question, trust.current, settings) }
    }
    tls = PeerTLS(settings: material.settings) { [live] question in
      // Without authorities there is only auto-tls: etcd, too, then believes whoever answers.
      guard let live else { return .success(PeerIdentity(commonName: nil)) }
      return Self.judgeServer(question, live.current)
    }
  }

  private static func judgeServer(_ question: TrustQuestion, _ store: TrustStore) -> Result<PeerIdentity, any Error> {
    store.verify(
      chainDER: question.chain, purpose: .server, hostName: question.host.map { PeerName($0) },
      occasion: question.trustOccasion
    ).map { PeerIdentity(commonName: $0.commonName) }.mapError { $0 }
  }

  private static func judgeDialler(
    _ question: TrustQuestion, _ store: TrustStore, _ settings: NodeSettings.PeerTLS
  ) -> Result<PeerIdentity, any Error> {
    var name: PeerName?
    if case .hostname(let host)? = settings.allowedName { name = PeerName(host) }
    let verdict = store.verify(
      chainDER: question.chain, purpose: .client, hostName: name, occasion: question.trustOccasion)
    let peer: VerifiedPeer
    switch verdict {
    case .failure(let error): return .failure(error)
    case .success(let found): peer = found
    }
    if case .commonName(let name)? = settings.allowedName, peer.commonName != name {
      return .failure(SettingsError("a certificate of \(peer.commonName ?? "nobody") is valid and not allowed"))
    }
    // Who has been let in is not asked again: a name that leads elsewhere since makes nobody a stranger.
    if settings.checksAddress, question.occasion == .handshake, let address = question.address,
      !RemoteAddress.isCovered(address, by: peer)
    {
      let names = (peer.dnsNames + peer.ipAddresses).joined(separator: ", ")
      return .failure(
        SettingsError(
          "it comes from \(address), but its certificate is for \(names) (--peer-skip-client-san-verification lets it in)"
        ))
    }
    return .success(PeerIdentity(commonName: peer.commonName))
  }
}
