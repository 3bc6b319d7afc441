import Logging
import NIOCore
import NIOPosix
import PeerProtocol
import Primitives
import Wire

/// Opens connections to members: TCP, TLS where the URL asks for it, hello and welcome.
struct PeerDialer: Sendable {
  var tls: PeerTLS?
  var timing: PeerTiming
  var threadPool: NIOThreadPool
  var logger: Logger

  /// Bytes handed to one socket beyond which nothing more is taken from a queue, and when it goes on.
  private static let waterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 128 * 1024, high: 512 * 1024)
  /// Unsent bytes in the kernel: what waits there delays every ping behind it.
  private static let socketUnsentBytes = 512 * 1024

  /// Dials on `eventLoop`, which must be the current one. The conversation is told of the end in any case, and that it
  /// has begun when the peer has said welcome.
  func dial(_ url: PeerURL, _ hello: PeerHello, on eventLoop: any EventLoop, _ conversation: any PeerConversation) {
    let attempt = DialAttempt(dialer: self, url: url, hello: hello, eventLoop: eventLoop, conversation: conversation)
    guard !url.isSecure || tls != nil else {
      return attempt.fail(.cannotConnect("\(url) needs TLS, which is not configured here"))
    }
    let bound = NIOLoopBound(attempt, eventLoop: eventLoop)
    ClientBootstrap(group: eventLoop)
      .connectTimeout(timing.connectTimeout)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelOption(.socketOption(.so_keepalive), value: 1)
      .channelOption(.writeBufferWaterMark, value: Self.waterMark)
      .channelOption(.tcpOption(NIOBSDSocket.Option(rawValue: TCP_NOTSENT_LOWAT)), value: Self.socketUnsentBytes)
      .connect(host: url.host, port: url.port)
      .whenComplete { result in
        switch result {
        case .success(let channel): bound.value.connected(channel)
        case .failure(let error): bound.value.fail(.cannotConnect("\(url): \(error)"))
        }
      }
  }
}

/// One attempt, from the TCP connection to the welcome. Bound to its event loop.
private final class DialAttempt {
  private let dialer: PeerDialer
  private let url: PeerURL
  private let hello: PeerHello
  private let eventLoop: any EventLoop
  private let conversation: any PeerConversation

  init(
    dialer: PeerDialer, url: PeerURL, hello: PeerHello, eventLoop: any EventLoop, conversation: any PeerConversation
  ) {
    self.dialer = dialer
    self.url = url
    self.hello = hello
    self.eventLoop = eventLoop
    self.conversation = conversation
  }

  func fail(_ end: PeerConnectionEnd) { conversation.ended(end) }

  func connected(_ channel: any Channel) {
    guard url.isSecure, let tls = dialer.tls else { return greet(channel) }
    do {
      try TLSGate.dial(
        on: channel, settings: tls.settings, host: url.host, check: tls.serverCheck,
        timeout: dialer.timing.handshakeTimeout, threadPool: dialer.threadPool, logger: dialer.logger
      ) { [self] result in
        switch result {
        case .success(let channel): greet(channel)
        case .failure(let reason): fail(.tls(reason.description))
        }
      }
    } catch {
      channel.close(promise: nil)
      fail(.tls("\(error)"))
    }
  }

  private func greet(_ channel: any Channel) {
    let handshake = DialledHandshake(hello, conversation)
    let connection = PeerConnection(.dialled, timing: dialer.timing, on: eventLoop, conversation: handshake)
    do {
      guard channel.isActive else { return fail(.closedByPeer) }
      try channel.pipeline.syncOperations.addHandler(connection)
    } catch {
      channel.close(promise: nil)
      fail(.failed("\(error)"))
    }
  }
}

/// Says hello and waits for the welcome.
private final class DialledHandshake: PeerConversation {
  private let hello: PeerHello
  private let next: any PeerConversation
  private weak var connection: PeerConnection?

  init(_ hello: PeerHello, _ next: any PeerConversation) {
    self.hello = hello
    self.next = next
  }

  func began(_ connection: PeerConnection) {
    self.connection = connection
    connection.send(.hello(hello))
  }

  func received(_ frame: PeerFrame) throws(PeerConnectionEnd) {
    guard let connection else { return }
    switch frame {
    case .welcome(let welcome):
      try check(welcome)
      connection.establish(for: hello.purpose)
      connection.conversation = next
      next.began(connection)
    case .description where hello.purpose == .describe:
      try next.received(frame)
    case .refusal(let refusal):
      throw .refused(refusal)
    default:
      throw .misbehaved("something else than an answer to the hello")
    }
  }

  private func check(_ welcome: PeerWelcome) throws(PeerConnectionEnd) {
    guard welcome.clusterID == hello.clusterID else { throw .refused(.wrongCluster(actual: welcome.clusterID)) }
    guard welcome.memberID == hello.addresseeID else { throw .refused(.wrongMember(actual: welcome.memberID)) }
    guard (hello.oldestVersion...hello.newestVersion).contains(welcome.version) else {
      throw .misbehaved("a welcome in version \(welcome.version)")
    }
  }

  func ended(_ end: PeerConnectionEnd) { next.ended(end) }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
