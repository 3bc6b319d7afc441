import ClusterNode
import Logging
import NIOCore
import NIOPosix
import PKI
import PeerProtocol
import PeerTransport
import Primitives
import Settings
import StateMachine
import Storage
import Wire

/// The other members: how they are reached, who they are, and the port on which they reach this one.
struct PeerAccess {
  let settings: NodeSettings
  let group: any EventLoopGroup
  let logger: Logger
  let tls: PeerTLS?

  init(_ settings: NodeSettings, group: any EventLoopGroup, logger: Logger) throws {
    self.settings = settings
    self.group = group
    self.logger = logger
    tls = try settings.cluster.peerTLS.map { try Self.load($0, settings.tls) }
  }

  func transport(_ identity: MemberIdentity, _ receiver: any PeerReceiver) -> PeerTransport {
    PeerTransport(
      PeerTransportConfiguration(
        clusterID: identity.clusterID, memberID: identity.memberID,
        advertisedURLs: settings.advertisePeerURLs.map(\.description), tls: tls),
      receiver: receiver, group: group, logger: logger)
  }

  func listen(_ transport: PeerTransport) async throws {
    for url in settings.cluster.listenPeerURLs {
      guard case .tcp(let host, let port) = url.address else {
        throw SettingsError("--listen-peer-urls: \(url) is no TCP address")
      }
      try await transport.listen(host: host, port: port, isSecure: url.isSecure)
      logger.info("listening to peers", metadata: ["url": "\(url)"])
    }
  }

  // MARK: Joining a cluster that runs

  /// Asks the members that are named for the cluster's ID and finds this member, which they have been told of, by its
  /// peer URLs (etcd's `ValidateClusterAndAssignIDs`).
  func joiningIdentity() async throws -> MemberIdentity {
    let own = Set(settings.advertisePeerURLs.map(\.description))
    var failures: [String] = []
    for member in settings.cluster.initial.members where member.name != settings.name {
      for text in member.peerURLs {
        let url = try PeerURL(text)
        do {
          let cluster = try await describe(url)
          guard let listed = cluster.members.first(where: { Set($0.peerURLs) == own }) else {
            failures.append("\(url) knows no member with the peer URLs \(own.sorted().joined(separator: ","))")
            continue
          }
          return MemberIdentity(clusterID: cluster.id, memberID: listed.id, name: settings.name)
        } catch {
          failures.append("\(error)")
        }
      }
    }
    throw SettingsError(
      "cannot join the cluster: \(failures.isEmpty ? "--initial-cluster names no other member" : failures.joined(separator: "; "))"
    )
  }

  private func describe(_ url: PeerURL) async throws -> ClusterState {
    let bytes = try await PeerDescription.ask(url, tls: tls, group: group, logger: logger)
    var reader = ByteReader(bytes[...])
    let cluster = try reader.readCluster()
    try reader.finish()
    return cluster
  }

  // MARK: TLS

  private static func load(_ settings: NodeSettings.PeerTLS, _ choices: NodeSettings.TLSChoices) throws -> PeerTLS {
    _ = try CertifiedKey.load(certificatePath: settings.certificateFile, keyPath: settings.keyFile)
    let store = try settings.trustedCAFile.map {
      try TrustStore.load(caPath: $0, crlPath: settings.revocationListFile)
    }
    guard let store else { throw SettingsError("--peer-trusted-ca-file is missing: it says which members to trust") }
    let check: TrustCheck = { chain in
      judged(store.verify(chainDER: chain, purpose: .client), allowed: settings.allowedName)
    }
    let listener = try TLSSettings(
      certificateChain: .file(settings.certificateFile), privateKey: .file(settings.keyFile),
      clientCertificates: settings.demandsCertificates ? .required(check) : .ignored, choices)
    return PeerTLS(settings: listener) { chain, host in
      judged(store.verify(chainDER: chain, purpose: .server, hostName: PeerName(host)), allowed: nil)
    }
  }

  private static func judged(
    _ verdict: Result<VerifiedPeer, TrustError>, allowed: NodeSettings.AllowedName?
  ) -> Result<PeerIdentity, any Error> {
    switch verdict {
    case .failure(let error): return .failure(error)
    case .success(let peer):
      let isAllowed =
        switch allowed {
        case nil: true
        case .commonName(let name): peer.commonName == name
        case .hostname(let name): peer.dnsNames.contains(name)
        }
      guard isAllowed else {
        return .failure(SettingsError("a certificate of \(peer.commonName ?? "nobody") is valid and not allowed"))
      }
      return .success(PeerIdentity(commonName: peer.commonName))
    }
  }
}
