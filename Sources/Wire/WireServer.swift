import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Listens on TCP ports and Unix sockets and puts the right handlers on each connection. Event loops are the group's
/// that is passed in; stopping the server leaves the group running. Open listeners keep the server alive.
package final class WireServer: Sendable {
  /// One open listener.
  package struct Listener: Sendable {
    fileprivate let channel: any Channel
    /// Of a Unix socket.
    package let path: String?

    /// The TCP port, the real one when 0 was asked for.
    package var port: Int? { channel.localAddress?.port }
    package var address: SocketAddress? { channel.localAddress }
  }

  private struct State {
    var isStopping = false
    var listeners: [Listener] = []
    var connections: [ObjectIdentifier: any Channel] = [:]
    /// Connections are being turned away. One line for each stretch.
    var isFull = false
  }

  private let group: any EventLoopGroup
  private let threadPool: NIOThreadPool
  private let logger: Logger
  private let state = Mutex(State())

  /// - Parameter threadPool: Where clients' certificates are judged.
  package init(group: any EventLoopGroup, threadPool: NIOThreadPool = .singleton, logger: Logger) {
    self.group = group
    self.threadPool = threadPool
    self.logger = logger
  }

  /// Connections that are open now.
  package var connectionCount: Int { state.withLock { $0.connections.count } }

  /// Listens on a name or an address ("127.0.0.1", "::", "localhost") and a port, 0 for any.
  @discardableResult
  package func listen(
    host: String, port: Int, services: WireServices, tls: TLSSettings? = nil
  ) async throws -> Listener {
    try await listen(host: host, port: port, limits: services.limits, tls: tls) { channel, negotiated, peer in
      switch negotiated {
      case "h2":
        try WirePipeline.installHTTP2(on: channel, services: services, peerCommonName: peer?.commonName)
      case "http/1.1":
        try WirePipeline.installHTTP1(on: channel, services: services, peerCommonName: peer?.commonName)
      default:
        try WirePipeline.installHTTP(on: channel, services: services, peerCommonName: peer?.commonName)
      }
    }
  }

  /// Listens and leaves every accepted connection to `initialize`, which runs on its event loop: with TLS when the
  /// handshake is over, without before the first read.
  /// - Parameter initialize: `negotiated` and `peer` are what TLS has brought out, and nil without it.
  @discardableResult
  package func listen(
    host: String, port: Int, limits: WireLimits, tls: TLSSettings?,
    initialize:
      @escaping @Sendable (_ channel: any Channel, _ negotiated: String?, _ peer: PeerIdentity?) throws -> Void
  ) async throws -> Listener {
    let name = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    let (threadPool, logger) = (threadPool, logger)
    let bootstrap = bootstrap(limits) { channel in
      guard let tls else { return try initialize(channel, nil, nil) }
      try TLSGate.install(
        on: channel, settings: tls, timeout: limits.handshakeTimeout, threadPool: threadPool, logger: logger,
        ready: initialize)
    }
    .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
    .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
    .childChannelOption(.socketOption(.so_keepalive), value: 1)
    .childChannelOption(
      .tcpOption(NIOBSDSocket.Option(rawValue: TCP_NOTSENT_LOWAT)), value: .init(limits.socketUnsentBytes)
    )
    // NIOSSL would turn a half-closed connection into a truncated one.
    .childChannelOption(.allowRemoteHalfClosure, value: tls == nil)
    do {
      return try adopt(try await bootstrap.bind(host: host, port: port).get(), path: nil)
    } catch {
      throw Self.listenError(error, name)
    }
  }

  /// Serves HTTP on a Unix socket, and the line protocol that `lines` installs when the first bytes are not HTTP.
  @discardableResult
  package func listenUnix(
    path: String, mode: UInt16 = 0o660, services: WireServices,
    lines: (@Sendable (any Channel) throws -> Void)? = nil
  ) async throws -> Listener {
    try await listenUnix(path: path, mode: mode, limits: services.limits) { channel in
      if let lines {
        try WirePipeline.installHTTPOrLines(on: channel, services: services, lines: lines)
      } else {
        try WirePipeline.installHTTP(on: channel, services: services)
      }
    }
  }

  /// Listens on a Unix socket and leaves every accepted connection to `initialize`, which runs on its event loop before
  /// the first read. A stale socket file is replaced; one that a process answers on is an error. A peer that closes its
  /// sending side is reported as `ChannelEvent.inputClosed`.
  @discardableResult
  package func listenUnix(
    path: String, mode: UInt16 = 0o660, limits: WireLimits = WireLimits(),
    initialize: @escaping @Sendable (any Channel) throws -> Void
  ) async throws -> Listener {
    try UnixSocketFile.checkFree(path)
    let temporary = UnixSocketFile.temporaryPath(beside: path)
    let bootstrap = bootstrap(limits, initialize).childChannelOption(.allowRemoteHalfClosure, value: true)
    let channel: any Channel
    do {
      channel = try await bootstrap.bind(unixDomainSocketPath: temporary).get()
    } catch {
      throw Self.listenError(error, path)
    }
    do {
      try UnixSocketFile.publish(temporary, as: path, mode: mode)
      return try adopt(channel, path: path)
    } catch {
      try? await channel.close().get()
      throw error
    }
  }

  private func bootstrap(
    _ limits: WireLimits, _ initialize: @escaping @Sendable (any Channel) throws -> Void
  ) -> ServerBootstrap {
    ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 1_024)
      .serverChannelInitializer { [logger] channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(AcceptPause(logger: logger))
        }
      }
      .childChannelOption(
        .writeBufferWaterMark,
        value: .init(low: limits.socketLowWaterBytes, high: limits.socketHighWaterBytes)
      )
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try self.track(channel, limit: limits.maxConnections)
          try initialize(channel)
        }
      }
  }

  private func adopt(_ channel: any Channel, path: String?) throws(WireError) -> Listener {
    let listener = Listener(channel: channel, path: path)
    let isStopping = state.withLock { state in
      if !state.isStopping { state.listeners.append(listener) }
      return state.isStopping
    }
    guard !isStopping else {
      channel.close(promise: nil)
      throw .stopped
    }
    return listener
  }

  /// Remembers a connection until it closes.
  private func track(_ channel: any Channel, limit: Int) throws(WireError) {
    let key = ObjectIdentifier(channel)
    let (refusal, isFirst) = state.withLock { state -> (WireError?, Bool) in
      guard !state.isStopping else { return (.stopped, false) }
      guard state.connections.count < limit else {
        defer { state.isFull = true }
        return (.tooManyConnections(limit), !state.isFull)
      }
      state.connections[key] = channel
      return (nil, false)
    }
    if let refusal {
      if isFirst { logger.warning("\(refusal): new ones are closed until others end") }
      throw refusal
    }
    channel.closeFuture.whenComplete { [weak self] _ in
      self?.state.withLock { state in
        state.connections.removeValue(forKey: key)
        // Not at the first that ends: otherwise a line would come with every one that takes its place.
        if state.connections.count < limit - limit / 10 { state.isFull = false }
      }
    }
  }

  /// Stops listening, lets open requests finish for `grace` (HTTP/2 peers get a GOAWAY), and closes what is left.
  package func stop(grace: TimeAmount) async {
    let (listeners, connections) = state.withLock { state in
      state.isStopping = true
      defer { state.listeners = [] }
      return (state.listeners, Array(state.connections.values))
    }
    for listener in listeners {
      if let path = listener.path { UnixSocketFile.remove(path) }
      // Fails only when it is closed already.
      _ = try? await listener.channel.close().get()
    }
    guard !connections.isEmpty else { return }
    for connection in connections {
      connection.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    }
    let force = group.any().scheduleTask(in: grace) {
      for connection in connections { connection.close(promise: nil) }
    }
    for connection in connections { _ = try? await connection.closeFuture.get() }
    force.cancel()
  }

  private static func listenError(_ error: any Error, _ address: String) -> WireError {
    switch error {
    case let error as WireError: error
    case let error as IOError where error.errnoCode == EADDRINUSE: .addressInUse(address)
    case let error as IOError: .cannotListen(address, reason: UnixSocketFile.describe(error.errnoCode))
    case is SocketAddressError: .cannotListen(address, reason: "no such host or address")
    default: .cannotListen(address, reason: "\(error)")
    }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
