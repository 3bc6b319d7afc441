import Logging
import NIOCore
import PeerProtocol
import Primitives
import Synchronization

/// What a connection to a peer needs to know of its surroundings.
struct PeerSurroundings: Sendable {
  var dialer: PeerDialer
  var hello: PeerHello
  var counters: PeerCounters
  var logger: Logger
  /// Messages were lost.
  var lost: @Sendable () -> Void
  /// The peer says that this member has been removed.
  var expelled: @Sendable () -> Void
}

/// One of the two connections by which this member sends messages to a peer: dialled again and again, with a bounded
/// queue before it.
///
/// `send` may be called from any thread; `@unchecked Sendable` because everything else happens on the event loop.
final class MessageLane: PeerConversation, @unchecked Sendable {
  private enum Phase {
    case idle
    case waiting(Scheduled<Void>)
    case dialling(PeerURL)
    case connected(PeerConnection, PeerURL)
    /// For good.
    case closed
  }

  /// What is put into one write, and so into one buffer, unless a single frame is larger.
  private static let writeBytes = 256 * 1024

  private static let maxReported = 32

  private let eventLoop: any EventLoop
  private let surroundings: PeerSurroundings
  private let queue: Mutex<LaneQueue>
  private let isUp = Atomic<Bool>(false)

  // On the event loop:
  private var phase = Phase.idle
  private var urls: [PeerURL] = []
  /// Attempts since the last connection.
  private var attempts = 0
  /// What has been logged since the last connection.
  private var reported: Set<PeerConnectionEnd> = []

  init(_ surroundings: PeerSurroundings, maxMessages: Int, maxBytes: Int, on eventLoop: any EventLoop) {
    self.surroundings = surroundings
    self.eventLoop = eventLoop
    queue = Mutex(LaneQueue(maxMessages: maxMessages, maxBytes: maxBytes))
  }

  // MARK: From any thread

  var isConnected: Bool { isUp.load(ordering: .relaxed) }
  var backlogBytes: Int { queue.withLock { $0.byteCount } }

  func send(_ frame: EncodedFrame) {
    let admission = queue.withLock { $0.append(frame) }
    if !admission.isAccepted { surroundings.counters.messagesDropped.add(1) }
    if admission.wakes { eventLoop.execute { self.drain() } }
  }

  /// Begins to dial. Called again with other URLs: goes on with those.
  func use(_ urls: [PeerURL]) { eventLoop.execute { self.change(urls) } }

  /// The peer has just been heard: it can probably be reached.
  func retryNow() { eventLoop.execute { self.endWait() } }

  func close() { eventLoop.execute { self.shut() } }

  // MARK: Dialling

  private func change(_ urls: [PeerURL]) {
    guard self.urls != urls else { return }
    self.urls = urls
    switch phase {
    case .idle: dial()
    case .waiting:
      attempts = 0
      endWait()
    case .connected(let connection, let url) where !urls.contains(url): connection.close(.released)
    case .connected, .dialling, .closed: break
    }
  }

  private func endWait() {
    guard case .waiting(let timer) = phase else { return }
    timer.cancel()
    dial()
  }

  private func dial() {
    guard !urls.isEmpty else {
      phase = .idle
      return
    }
    let url = urls[attempts % urls.count]
    phase = .dialling(url)
    // What is sent while the connection comes about goes out with it.
    queue.withLock { $0.open() }
    surroundings.dialer.dial(url, surroundings.hello, on: eventLoop, self)
  }

  func began(_ connection: PeerConnection) {
    guard case .dialling(let url) = phase, urls.contains(url) else { return connection.close(.released) }
    phase = .connected(connection, url)
    attempts = 0
    reported = []
    connection.counters = surroundings.counters
    isUp.store(true, ordering: .relaxed)
    surroundings.logger.info("connected to peer", metadata: ["url": "\(url)"])
    drain()
  }

  func received(_ frame: PeerFrame) throws(PeerConnectionEnd) {
    throw .misbehaved("a message on a connection that only takes them")
  }

  func ended(_ end: PeerConnectionEnd) {
    let wasConnected = isUp.exchange(false, ordering: .relaxed)
    let dropped = queue.withLock { $0.close() }
    surroundings.counters.messagesDropped.add(dropped)
    if wasConnected || dropped > 0 { surroundings.lost() }
    if case .closed = phase { return }
    report(end, wasConnected)
    if case .refused(.removed) = end { surroundings.expelled() }
    // The next URL; the wait grows with each round through all of them.
    attempts += wasConnected ? 0 : 1
    let round = urls.isEmpty ? 0 : attempts / urls.count
    phase = .waiting(
      eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: surroundings.dialer.timing.backoff(round)) {
        [weak self] in
        self?.dial()
      })
  }

  /// A failure is logged when it is news.
  private func report(_ end: PeerConnectionEnd, _ wasConnected: Bool) {
    if !wasConnected { surroundings.counters.failures.add(1) }
    if reported.count > Self.maxReported { reported = [] }
    let isNews = reported.insert(end).inserted && end != .released
    let text: Logger.Message = wasConnected ? "connection to peer lost" : "cannot connect to peer"
    surroundings.logger.log(level: isNews ? .warning : .debug, text, metadata: ["reason": "\(end)"])
  }

  private func shut() {
    let old = phase
    phase = .closed
    switch old {
    case .waiting(let timer): timer.cancel()
    case .connected(let connection, _): connection.close(.released)
    case .idle, .dialling, .closed: break
    }
    let dropped = queue.withLock { $0.close() }
    surroundings.counters.messagesDropped.add(dropped)
  }

  // MARK: Sending

  func becameWritable() { drain() }

  /// Writes what waits as far as the connection takes it, and flushes once.
  private func drain() {
    if queue.withLock({ $0.takeOverflow() }) { surroundings.lost() }
    guard case .connected(let connection, _) = phase else { return }
    var count = 0
    while connection.isWritable {
      let frames = queue.withLock { $0.take(upTo: Self.writeBytes) }
      guard !frames.isEmpty else { break }
      count += frames.count
      connection.write(frames)
    }
    guard count > 0 else { return }
    surroundings.counters.messagesSent.add(count)
    connection.flush()
  }
}

extension PeerTiming {
  /// - Parameter round: how often all URLs have failed, from 0.
  func backoff(_ round: Int) -> TimeAmount {
    let doubled = minBackoff.nanoseconds << Int64(min(round, 20))
    let longest = min(max(doubled, minBackoff.nanoseconds), maxBackoff.nanoseconds)
    return .nanoseconds(Int64.random(in: longest / 2...longest))
  }
}
