import ClusterNode
import Logging
import NIOCore
import NIOPosix
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
  let trust: PeerTrust?

  private var tls: PeerTLS? { trust?.tls }

  init(_ settings: NodeSettings, group: any EventLoopGroup, logger: Logger) throws {
    self.settings = settings
    self.group = group
    self.logger = logger
    trust = try settings.cluster.peerTLS.map { try PeerTrust($0, settings.tls, logger: logger) }
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
}
