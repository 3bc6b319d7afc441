import Logging
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// Waits behind NIOSSL for the handshake, within its time-out, and then installs what was negotiated.
final class TLSGate: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  /// What the verification callback has found out, on the connection's event loop.
  final class Peer {
    var identity: PeerIdentity?
  }

  typealias Ready = (_ channel: any Channel, _ negotiated: String?, _ peer: PeerIdentity?) throws -> Void

  private let peer: Peer
  private let requiresIdentity: Bool
  private let timeout: TimeAmount
  private let logger: Logger
  private let ready: Ready
  private var timer: Scheduled<Void>?

  private init(
    peer: Peer, requiresIdentity: Bool, timeout: TimeAmount, logger: Logger, ready: @escaping Ready
  ) {
    self.peer = peer
    self.requiresIdentity = requiresIdentity
    self.timeout = timeout
    self.logger = logger
    self.ready = ready
  }

  /// Adds NIOSSL and the gate to a fresh connection. Called on its event loop.
  static func install(
    on channel: any Channel, settings: TLSSettings, timeout: TimeAmount, threadPool: NIOThreadPool, logger: Logger,
    ready: @escaping Ready
  ) throws {
    let context = try settings.context()
    let peer = Peer()
    let handler: NIOSSLServerHandler
    if let check = settings.clientCertificates.check {
      let address = channel.remoteAddress?.description ?? "?"
      handler = NIOSSLServerHandler(context: context) { chain, promise in
        verify(chain, check, peer, promise, threadPool, logger, address)
      }
    } else {
      handler = NIOSSLServerHandler(context: context)
    }
    let gate = TLSGate(
      peer: peer, requiresIdentity: settings.clientCertificates.areRequired, timeout: timeout, logger: logger,
      ready: ready)
    try channel.pipeline.syncOperations.addHandlers(handler, gate)
  }

  /// Has the chain judged on a thread of the pool. NIOSSL fails the handshake when the promise does.
  private static func verify(
    _ chain: [NIOSSLCertificate], _ check: @escaping TrustCheck, _ peer: Peer,
    _ promise: EventLoopPromise<NIOSSLVerificationResult>, _ threadPool: NIOThreadPool, _ logger: Logger,
    _ address: String
  ) {
    let eventLoop = promise.futureResult.eventLoop
    let der: [[UInt8]]
    do {
      der = try chain.map { try $0.toDERBytes() }
    } catch {
      promise.fail(error)
      return
    }
    threadPool.runIfActive(eventLoop: eventLoop) { try check(der).get() }
      .assumeIsolated().whenComplete { result in
        switch result {
        case .success(let identity):
          peer.identity = identity
          promise.succeed(.certificateVerified)
        case .failure(let error):
          logger.info("client certificate refused", metadata: ["peer": "\(address)", "reason": "\(error)"])
          promise.succeed(.failed)
        }
      }
  }

  func handlerAdded(context: ChannelHandlerContext) {
    timer = context.eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: timeout) {
      context.close(promise: nil)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    context.fireChannelInactive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case TLSUserEvent.handshakeCompleted(let negotiated)? = event as? TLSUserEvent else {
      if event is ChannelShouldQuiesceEvent { context.close(promise: nil) }
      return context.fireUserInboundEventTriggered(event)
    }
    timer?.cancel()
    guard !requiresIdentity || peer.identity != nil else {
      // Nobody has judged this peer, whatever way it got here.
      logger.warning("connection without a verified certificate refused")
      context.close(promise: nil)
      return
    }
    do {
      try ready(context.channel, negotiated, peer.identity)
    } catch {
      return errorCaught(context: context, error: error)
    }
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    logger.debug("TLS handshake failed", metadata: ["reason": "\(error)"])
    context.close(promise: nil)
  }
}
