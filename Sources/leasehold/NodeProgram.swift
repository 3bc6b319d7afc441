import ClusterNode
import Logging
import NIOCore
import NIOPosix
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
    let tls = try ClientTLS.load(settings.clientTLS)
    let host = try SidecarHost.checked(settings.sidecar)
    let node = try Node(configuration: nodeConfiguration, logger: logger)
    let termination = await Termination.listen()
    let group = MultiThreadedEventLoopGroup.singleton
    let server = WireServer(group: group, logger: logger)
    var sidecar: SidecarHost.Running?
    do {
      try await serveClients(node, on: server, tls: tls)
      sidecar = try await host?.start(
        node: node, name: settings.name, dataDirectory: settings.dataDirectory, on: server, eventLoop: group.any(),
        logger: logger)
      logger.info("ready to serve client requests", metadata: ["member": "\(settings.name)"])
      await termination.signalled()
      logger.info("stopping")
    } catch {
      await stop(node, server, sidecar)
      throw error
    }
    await stop(node, server, sidecar)
  }

  private func stop(_ node: Node, _ server: WireServer, _ sidecar: SidecarHost.Running?) async {
    await server.stop(grace: Self.stopGrace)
    await sidecar?.stop()
    await node.stop()
  }

  private var nodeConfiguration: NodeConfiguration {
    var configuration = NodeConfiguration(
      name: settings.name, dataDirectory: settings.dataDirectory, clusterToken: settings.clusterToken,
      peerURLs: settings.advertisePeerURLs.map(\.description),
      clientURLs: settings.advertiseClientURLs.map(\.description))
    configuration.heartbeatIntervalMilliseconds = settings.heartbeatIntervalMilliseconds
    configuration.electionTimeoutMilliseconds = settings.electionTimeoutMilliseconds
    configuration.unsafeNoFsync = settings.unsafeNoFsync
    configuration.quotaBackendBytes = settings.quotaBackendBytes
    configuration.disarmsAlarmsByHand = settings.disarmsAlarmsByHand
    return configuration
  }

  private func serveClients(_ node: Node, on server: WireServer, tls: TLSSettings?) async throws {
    var etcd = EtcdSettings()
    etcd.maxRequestBytes = settings.maxRequestBytes
    etcd.maxTxnOperations = settings.maxTransactionOperations
    etcd.minLeaseTTLSeconds = node.configuration.minLeaseTTLSeconds
    etcd.watchProgressInterval = .milliseconds(settings.watchProgressIntervalMilliseconds)
    etcd.serverVersion = Version.etcdServer
    let metrics = EtcdMetrics()
    node.observe(with: metrics)
    var grpc = GRPCRegistry()
    EtcdServices.register(into: &grpc, node: node, settings: etcd, metrics: metrics)
    var http = HTTPRouter()
    EtcdHTTP.register(into: &http, node: node, settings: etcd, metrics: metrics)
    var limits = WireLimits()
    limits.maxMessageBytes = settings.maxRequestBytes + WireLimits.grpcOverheadBytes
    let observer = GRPCServerMetrics(methods: grpc.methods, metrics: metrics)
    let services = WireServices(grpc: grpc, http: http, observer: observer, limits: limits)
    for url in settings.listenClientURLs { try await listen(url, services, on: server, tls: tls) }
    for url in settings.listenMetricsURLs {
      try await listen(url, WireServices(http: http, limits: limits), on: server, tls: tls)
    }
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
