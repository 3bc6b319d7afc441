import Primitives

extension NodeSettings {
  /// How this member reaches the others and they reach it.
  package struct Cluster: Sendable, Equatable {
    package enum State: String, Sendable { case new, existing }

    package var listenPeerURLs: [ListenURL]
    package var initial: InitialCluster
    package var state: State
    /// A change of members is refused when it could cost the quorum.
    package var strictReconfigurationCheck: Bool
    /// Learners that have caught up become voters without being asked.
    package var promotesLearners: Bool
    /// The member's data begins a new cluster of it alone: the way out when a quorum is lost for good.
    package var isForcedNew: Bool
    /// Applied entries that are kept for followers that lag: one that is further behind is sent the state.
    package var keptEntries: Int
    package var peerTLS: PeerTLS?
  }

  package struct PeerTLS: Sendable, Equatable {
    package var certificateFile: String
    package var keyFile: String
    /// nil: the system's.
    package var trustedCAFile: String?
    /// Members must show a certificate that chains to the bundle.
    package var demandsCertificates: Bool
    package var revocationListFile: String?
    /// Of the certificates that members show: nothing else is let in.
    package var allowedName: AllowedName?
  }

  package enum AllowedName: Sendable, Equatable {
    case commonName(String)
    case hostname(String)
  }
}

extension NodeSettings.Cluster {
  init(_ values: SettingValues, name: String, advertised: [ListenURL]) throws(SettingsError) {
    // etcd would listen on its default port, in cleartext, to whoever comes: a member that nobody has told of others
    // needs no such port.
    let isAlone = !values.isGiven("listen-peer-urls") && values.given("initial-cluster") == nil
    listenPeerURLs = isAlone ? [] : try values.urls("listen-peer-urls")
    guard isAlone || !listenPeerURLs.isEmpty else {
      throw SettingsError("--listen-peer-urls must name at least one URL")
    }
    var own: [String] = []
    for url in advertised {
      own.append(try InitialCluster.peerURL(url.description, setting: "--initial-advertise-peer-urls"))
    }
    let token = values.text("initial-cluster-token")
    if let text = values.given("initial-cluster") {
      initial = try InitialCluster.parse(text, token: token)
    } else {
      initial = InitialCluster(token: token, members: [.init(name: name, peerURLs: own)])
    }
    let text = values.text("initial-cluster-state")
    guard let state = State(rawValue: text) else {
      throw SettingsError("--initial-cluster-state '\(text)' is neither new nor existing")
    }
    self.state = state
    strictReconfigurationCheck = values.flag("strict-reconfig-check")
    promotesLearners = values.flag("promote-learners")
    isForcedNew = values.flag("force-new-cluster")
    keptEntries = Int(values.integer("snapshot-count"))
    peerTLS = try Self.peerTLS(values, listening: listenPeerURLs)
  }

  private static func peerTLS(
    _ values: SettingValues, listening urls: [ListenURL]
  ) throws(SettingsError) -> NodeSettings.PeerTLS? {
    let certificate = values.given("peer-cert-file")
    let key = values.given("peer-key-file")
    guard urls.contains(where: \.isSecure) else {
      if certificate != nil || key != nil {
        throw SettingsError(
          "--peer-cert-file and --peer-key-file are given, but no --listen-peer-urls starts with https://")
      }
      return nil
    }
    guard let certificate else {
      throw SettingsError("--listen-peer-urls is https://, but --peer-cert-file is missing")
    }
    guard let key else { throw SettingsError("--listen-peer-urls is https://, but --peer-key-file is missing") }
    var tls = NodeSettings.PeerTLS(
      certificateFile: certificate, keyFile: key, trustedCAFile: values.given("peer-trusted-ca-file"),
      demandsCertificates: values.flag("peer-client-cert-auth"), revocationListFile: values.given("peer-crl-file"))
    if tls.demandsCertificates, tls.trustedCAFile == nil {
      throw SettingsError("--peer-client-cert-auth needs --peer-trusted-ca-file: which members are to be let in?")
    }
    if tls.revocationListFile != nil, tls.trustedCAFile == nil {
      throw SettingsError("--peer-crl-file needs --peer-trusted-ca-file")
    }
    tls.allowedName = try allowedName(values)
    if tls.allowedName != nil, !tls.demandsCertificates {
      throw SettingsError("--peer-cert-allowed-cn and --peer-cert-allowed-hostname need --peer-client-cert-auth")
    }
    return tls
  }

  private static func allowedName(_ values: SettingValues) throws(SettingsError) -> NodeSettings.AllowedName? {
    switch (values.given("peer-cert-allowed-cn"), values.given("peer-cert-allowed-hostname")) {
    case (nil, nil): return nil
    case (let name?, nil): return .commonName(name)
    case (nil, let name?): return .hostname(name)
    case (_?, _?):
      throw SettingsError("--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive")
    }
  }
}
