import Logging
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// Why a TLS connection did not come about.
package struct TLSFailure: Error, Hashable, Sendable, CustomStringConvertible {
  package var description: String
}

/// Waits behind NIOSSL for the handshake, within its time-out, and then installs what was negotiated.
package final class TLSGate: ChannelInboundHandler, RemovableChannelHandler {
  package typealias InboundIn = ByteBuffer

  /// What the verification callback has found out, on the connection's event loop.
  private final class Peer {
    var identity: PeerIdentity?
    var refusal: (any Error)?
    /// What was judged, and in which round of the guests.
    var judged: (question: TrustQuestion, round: Int)?
  }

  /// Which side the other end is; how the log calls it.
  private enum Role: String {
    case client
    case server
  }

  /// Where certificates are judged and what is said about it.
  private struct Court {
    var role: Role
    var check: TrustCheck
    /// As it was dialled.
    var host: String?
    var guests: TLSGuests
    var threadPool: NIOThreadPool
    var logger: Logger
    var address: SocketAddress?
  }

  typealias Ready = (_ channel: any Channel, _ negotiated: String?, _ peer: PeerIdentity?) throws -> Void

  private let peer: Peer
  /// Nil when nobody's certificate is looked at.
  private let court: Court?
  private let requiresIdentity: Bool
  private let timeout: TimeAmount
  private let logger: Logger
  private let ready: Ready
  private let failed: (TLSFailure) -> Void
  private var timer: Scheduled<Void>?
  /// Whether `ready` or `failed` has been called.
  private var isDecided = false

  private init(
    peer: Peer, court: Court?, requiresIdentity: Bool, timeout: TimeAmount, logger: Logger, ready: @escaping Ready,
    failed: @escaping (TLSFailure) -> Void
  ) {
    self.peer = peer
    self.court = court
    self.requiresIdentity = requiresIdentity
    self.timeout = timeout
    self.logger = logger
    self.ready = ready
    self.failed = failed
  }

  /// Adds NIOSSL and the gate to a fresh connection that was accepted. Called on its event loop.
  static func install(
    on channel: any Channel, settings: TLSSettings, timeout: TimeAmount, threadPool: NIOThreadPool, logger: Logger,
    ready: @escaping Ready
  ) throws {
    let context = try settings.context()
    let peer = Peer()
    let court = settings.clientCertificates.check.map { check in
      Court(
        role: .client, check: check, guests: settings.guests, threadPool: threadPool, logger: logger,
        address: channel.remoteAddress)
    }
    let handler: NIOSSLServerHandler
    if let court {
      handler = NIOSSLServerHandler(context: context) { chain, promise in verify(chain, peer, promise, court) }
    } else {
      handler = NIOSSLServerHandler(context: context)
    }
    let gate = TLSGate(
      peer: peer, court: court, requiresIdentity: settings.clientCertificates.areRequired, timeout: timeout,
      logger: logger, ready: ready
    ) { logger.debug("TLS handshake failed", metadata: ["reason": "\($0)"]) }
    try channel.pipeline.syncOperations.addHandlers(handler, gate)
  }

  /// Adds NIOSSL and the gate to a fresh connection that was dialled, on its event loop. The certificate of `settings`
  /// is shown, the server's is judged by `check`.
  /// - Parameters:
  ///   - host: as it was dialled: a name or an address.
  ///   - finished: called once, on the event loop; the channel of a failure is closed.
  package static func dial(
    on channel: any Channel, settings: TLSSettings, host: String, check: @escaping TrustCheck,
    timeout: TimeAmount, threadPool: NIOThreadPool, logger: Logger,
    finished: @escaping (Result<any Channel, TLSFailure>) -> Void
  ) throws {
    let peer = Peer()
    let court = Court(
      role: .server, check: check, host: host, guests: settings.guests, threadPool: threadPool, logger: logger,
      address: channel.remoteAddress)
    // Only names may be announced (RFC 6066, §3).
    let isAddress = (try? SocketAddress(ipAddress: host, port: 0)) != nil
    let handler = try NIOSSLClientHandler(
      context: try settings.clientContext(), serverHostname: isAddress ? nil : host
    ) { chain, promise in
      verify(chain, peer, promise, court)
    }
    let gate = TLSGate(
      peer: peer, court: court, requiresIdentity: true, timeout: timeout, logger: logger,
      ready: { channel, _, _ in finished(.success(channel)) }, failed: { finished(.failure($0)) })
    try channel.pipeline.syncOperations.addHandlers(handler, gate)
  }

  /// Has the chain judged on a thread of the pool. NIOSSL fails the handshake when the promise does.
  private static func verify(
    _ chain: [NIOSSLCertificate], _ peer: Peer, _ promise: EventLoopPromise<NIOSSLVerificationResult>, _ court: Court
  ) {
    let eventLoop = promise.futureResult.eventLoop
    let der: [[UInt8]]
    do {
      der = try chain.map { try $0.toDERBytes() }
    } catch {
      promise.fail(error)
      return
    }
    let question = TrustQuestion(chain: der, host: court.host, address: court.address?.ipAddress)
    let (check, round) = (court.check, court.guests.round)
    court.threadPool.runIfActive(eventLoop: eventLoop) { try check(question).get() }
      .assumeIsolated().whenComplete { result in
        switch result {
        case .success(let identity):
          peer.identity = identity
          peer.judged = (question, round)
          promise.succeed(.certificateVerified)
        case .failure(let error):
          peer.refusal = error
          court.logger.info(
            "\(court.role.rawValue) certificate refused",
            metadata: ["peer": "\(court.address.map { "\($0)" } ?? "?")", "reason": "\(error)"])
          promise.succeed(.failed)
        }
      }
  }

  package func handlerAdded(context: ChannelHandlerContext) {
    timer = context.eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: timeout) {
      self.fail("it took too long", context)
    }
  }

  package func handlerRemoved(context: ChannelHandlerContext) {
    timer?.cancel()
    fail("the connection was closed", context)
  }

  package func channelInactive(context: ChannelHandlerContext) {
    fail("the connection was closed", context)
    context.fireChannelInactive()
  }

  package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case TLSUserEvent.handshakeCompleted(let negotiated)? = event as? TLSUserEvent else {
      if event is ChannelShouldQuiesceEvent { fail("this side is stopping", context) }
      return context.fireUserInboundEventTriggered(event)
    }
    timer?.cancel()
    guard !requiresIdentity || peer.identity != nil else {
      // Nobody has judged this peer, whatever way it got here.
      logger.warning("connection without a verified certificate refused")
      return fail("no verified certificate", context)
    }
    guard !isDecided else { return }
    isDecided = true
    if let court, let (question, round) = peer.judged {
      court.guests.add(
        .init(channel: context.channel, question: question, check: court.check, role: court.role.rawValue),
        judgedIn: round, threadPool: court.threadPool, logger: logger)
    }
    do {
      try ready(context.channel, negotiated, peer.identity)
    } catch {
      logger.debug("connection refused", metadata: ["reason": "\(error)"])
      return context.close(promise: nil)
    }
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }

  package func errorCaught(context: ChannelHandlerContext, error: any Error) {
    fail("\(peer.refusal ?? error)", context)
  }

  private func fail(_ reason: String, _ context: ChannelHandlerContext) {
    guard !isDecided else { return }
    isDecided = true
    timer?.cancel()
    failed(TLSFailure(description: reason))
    context.close(promise: nil)
  }
}
