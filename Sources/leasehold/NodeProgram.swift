import ClusterNode
import Gateway
import Logging
import NIOCore
import NIOPosix
import PeerTransport
import Settings
import Storage
import Wire

/// A running member: the node, etcd's API on its client ports, and the sidecar when caches are configured. Starts in the
/// order in which the parts need each other and stops in the opposite one.
struct NodeProgram {
  /// How long connections may finish what they are doing when the process is asked to stop.
  private static let stopGrace = TimeAmount.seconds(2)

  let settings: NodeSettings
  let logger: Logger

  func run() async throws {
    let tls = try ClientTLS.load(settings.clientTLS, settings.tls, logger: logger)
    let auth = try Credentials.load(settings)
    try checkCluster()
    let host = try SidecarHost.checked(settings.sidecar)
    let group = MultiThreadedEventLoopGroup.singleton
    let access = try PeerAccess(settings, group: group, logger: logger)
    var configuration = nodeConfiguration
    if configuration.joinsExisting, !DataDirectory.isEstablished(at: settings.dataDirectory) {
      configuration.joiningAs = try await access.joiningIdentity()
    }
    var peers: PeerTransport?
    let node = try Node(configuration: configuration, logger: logger) { identity, receiver in
      let transport = access.transport(identity, receiver)
      peers = transport
      return TransportLink(transport)
    }
    let termination = await Termination.listen()
    node.whenRemoved { termination.request() }
    let server = WireServer(group: group, logger: logger)
    let reload = TLSReload([tls, access.trust?.material].compactMap { $0 }, logger: logger)
    let reloading = Task { await reload.run() }
    defer { reloading.cancel() }
    var starting: Task<SidecarHost.Running?, any Error>?
    do {
      if let peers { try await access.listen(peers) }
      if settings.cluster.listenPeerURLs.isEmpty, node.members.count > 1 {
        logger.error("the cluster has other members, but --listen-peer-urls is not given: they cannot reach this one")
      }
      try await serveClients(node, peers, on: server, tls: tls?.settings, auth)
      starting = startSidecar(host, node, server, on: group.any(), termination)
      await termination.signalled()
      logger.info("stopping")
    } catch {
      await stop(node, server, nil, peers)
      throw error
    }
    starting?.cancel()
    let sidecar = await starting?.result
    await stop(node, server, (try? sidecar?.get()) ?? nil, peers)
    if case .failure(let error)? = sidecar, !(error is CancellationError) { throw error }
  }

  /// Beside the member, which serves etcd's clients meanwhile: the sidecar needs a quorum, and the others may take their
  /// time. One that cannot be started for another reason ends the process.
  private func startSidecar(
    _ host: SidecarHost?, _ node: Node, _ server: WireServer, on eventLoop: any EventLoop, _ termination: Termination
  ) -> Task<SidecarHost.Running?, any Error> {
    Task {
      do {
        let running = try await host?.start(
          node: node, name: settings.name, dataDirectory: settings.dataDirectory, on: server, eventLoop: eventLoop,
          logger: logger)
        logger.info("ready to serve client requests", metadata: ["member": "\(settings.name)"])
        return running
      } catch {
        termination.request()
        throw error
      }
    }
  }

  /// A member that has data takes no notice of what it began with.
  private func checkCluster() throws {
    guard !DataDirectory.isEstablished(at: settings.dataDirectory) else { return }
    let advertised = settings.advertisePeerURLs.map(\.description)
    try settings.cluster.initial.check(name: settings.name, advertisedPeerURLs: advertised)
  }

  private func stop(_ node: Node, _ server: WireServer, _ sidecar: SidecarHost.Running?, _ peers: PeerTransport?) async
  {
    await node.handOver()
    await server.stop(grace: Self.stopGrace)
    await sidecar?.stop()
    await node.stop()
    await peers?.close()
  }

  private var nodeConfiguration: NodeConfiguration {
    var configuration = NodeConfiguration(
      name: settings.name, dataDirectory: settings.dataDirectory, clusterToken: settings.cluster.initial.token,
      peerURLs: settings.advertisePeerURLs.map(\.description),
      clientURLs: settings.advertiseClientURLs.map(\.description))
    configuration.initialCluster = settings.cluster.initial
    configuration.joinsExisting = settings.cluster.state == .existing
    configuration.checksReconfiguration = settings.cluster.strictReconfigurationCheck
    configuration.promotesLearners = settings.cluster.promotesLearners
    configuration.forcesNewCluster = settings.cluster.isForcedNew
    configuration.keptEntries = settings.cluster.keptEntries
    configuration.heartbeatIntervalMilliseconds = settings.heartbeatIntervalMilliseconds
    configuration.electionTimeoutMilliseconds = settings.electionTimeoutMilliseconds
    configuration.unsafeNoFsync = settings.unsafeNoFsync
    configuration.preVote = settings.preVote
    configuration.autoCompaction = settings.autoCompaction
    configuration.authTokenTTLSeconds = settings.auth.tokenTTLSeconds
    configuration.quotaBackendBytes = settings.quotaBackendBytes
    configuration.disarmsAlarmsByHand = settings.disarmsAlarmsByHand
    return configuration
  }

  private func serveClients(
    _ node: Node, _ peers: PeerTransport?, on server: WireServer, tls: TLSSettings?, _ auth: AuthSettings
  ) async throws {
    var etcd = EtcdSettings()
    etcd.maxRequestBytes = settings.maxRequestBytes
    etcd.maxTxnOperations = settings.maxTransactionOperations
    etcd.minLeaseTTLSeconds = node.configuration.minLeaseTTLSeconds
    etcd.electionTimeoutMilliseconds = node.configuration.electionTimeoutMilliseconds
    etcd.watchProgressInterval = .milliseconds(settings.watchProgressIntervalMilliseconds)
    etcd.serverVersion = Version.etcdServer
    etcd.auth = auth
    let metrics = EtcdMetrics()
    node.observe(with: metrics)
    peers?.observe(in: metrics.registry, memberID: node.identity.memberID)
    var grpc = GRPCRegistry()
    EtcdServices.register(into: &grpc, node: node, settings: etcd, metrics: metrics)
    var http = HTTPRouter()
    EtcdHTTP.register(into: &http, node: node, settings: etcd, metrics: metrics)
    let limits = wireLimits
    let observer = GRPCServerMetrics(methods: grpc.methods, metrics: metrics)
    var clientHTTP = http
    Gateway(grpc: grpc, observer: observer, limits: limits).register(into: &clientHTTP)
    let services = WireServices(grpc: grpc, http: clientHTTP, observer: observer, limits: limits)
    for url in settings.listenClientURLs { try await listen(url, services, on: server, tls: tls) }
    for url in settings.listenMetricsURLs {
      try await listen(url, WireServices(http: http, limits: limits), on: server, tls: tls)
    }
  }

  private var wireLimits: WireLimits {
    var limits = WireLimits()
    limits.maxMessageBytes = settings.maxRequestBytes + WireLimits.grpcOverheadBytes
    limits.maxConnections = OpenFiles.connectionLimit
    // The same message as JSON: base64, and some room for names and numbers.
    limits.maxBodyBytes = max(limits.maxBodyBytes, 2 * limits.maxMessageBytes)
    let connections = settings.connections
    limits.maxConcurrentStreams = connections.maxStreams
    limits.keepaliveMinimum = .milliseconds(connections.keepaliveMinimumMilliseconds)
    limits.keepaliveInterval = connections.keepaliveIntervalMilliseconds.map { .milliseconds($0) }
    limits.keepaliveTimeout = .milliseconds(connections.keepaliveTimeoutMilliseconds)
    return limits
  }

  private func listen(
    _ url: ListenURL, _ services: WireServices, on server: WireServer, tls: TLSSettings?
  ) async throws {
    switch url.address {
    case .tcp(let host, let port):
      try await server.listen(host: host, port: port, services: services, tls: url.isSecure ? tls : nil)
    case .unix(let path):
      guard !url.isSecure else { throw SettingsError("\(url): TLS on a Unix socket is not offered; use unix://") }
      try await server.listenUnix(path: path, services: services)
    }
    logger.info("listening", metadata: ["url": "\(url)"])
  }
}
