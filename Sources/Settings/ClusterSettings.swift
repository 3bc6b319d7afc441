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
}

extension NodeSettings.Cluster {
  init(
    _ values: SettingValues, name: String, dataDirectory: String, advertised: [ListenURL]
  ) throws(SettingsError) {
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
    peerTLS = try NodeSettings.PeerTLS(values, dataDirectory: dataDirectory, listening: listenPeerURLs)
  }
}
