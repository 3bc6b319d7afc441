import Logging
import NIOCore
import NIOPosix
import PeerProtocol
import Primitives

/// Brings one snapshot to a peer, over as many connections as it takes.
///
/// `@unchecked Sendable`: after `start` everything happens on the event loop.
final class SnapshotUpload: PeerConversation, @unchecked Sendable {
  typealias Completion = @Sendable (Result<Void, SnapshotFailure>) -> Void

  private let source: any SnapshotSource
  private let urls: [PeerURL]
  private let surroundings: PeerSurroundings
  private let eventLoop: any EventLoop
  private let completion: Completion

  // On the event loop:
  private var sending: SnapshotSending
  private var connection: PeerConnection?
  private var stream: (any SnapshotStream)?
  private var isReading = false
  /// Rises with each connection, so that what was read for the one before is not taken for this one's.
  private var generation = 0
  /// Connections without progress.
  private var attempts = 0
  private var reached: UInt64 = 0
  private var timer: Scheduled<Void>?
  private var isOver = false

  init(
    _ source: any SnapshotSource, to urls: [PeerURL], _ surroundings: PeerSurroundings,
    on eventLoop: any EventLoop, completion: @escaping Completion
  ) {
    self.source = source
    self.urls = urls
    self.surroundings = surroundings
    self.eventLoop = eventLoop
    self.completion = completion
    sending = SnapshotSending(
      SnapshotOffer(
        transferID: UInt64.random(in: 0 ... .max), mark: source.mark, byteCount: source.byteCount))
  }

  /// From any thread, as `cancel`.
  func start() { eventLoop.execute { self.dial() } }

  func cancel(_ failure: SnapshotFailure) { eventLoop.execute { self.finish(.failure(failure)) } }

  private func dial() {
    guard !isOver else { return }
    guard !urls.isEmpty else { return finish(.failure(.unreachable("it has no usable URL"))) }
    surroundings.dialer.dial(urls[attempts % urls.count], surroundings.hello, on: eventLoop, self)
  }

  func began(_ connection: PeerConnection) {
    guard !isOver else { return connection.close(.released) }
    self.connection = connection
    connection.counters = surroundings.counters
    connection.send(.snapshot(.offer(sending.offer)))
  }

  func received(_ frame: PeerFrame) throws(PeerConnectionEnd) {
    switch frame {
    case .snapshot(.resume(let offset)) where stream == nil && !isReading:
      open(at: sending.resume(held: offset))
    case .snapshot(.acknowledged(let offset)):
      guard sending.acknowledge(offset) else { throw .misbehaved("an acknowledgement of what was not sent") }
      pump()
    case .snapshot(.verdict(let verdict)):
      switch verdict {
      case .accepted: finish(.success(()))
      case .refused(let refusal): finish(.failure(.refused(refusal)))
      }
    default:
      throw .misbehaved("something that does not answer a snapshot")
    }
  }

  func becameWritable() { pump() }

  private func open(at offset: UInt64) {
    let source = source
    onPool({ try source.open(at: offset) }) { [self] stream in
      self.stream = stream
      pump()
    }
  }

  /// Reads and sends the next chunk while the receiver and the connection take more.
  private func pump() {
    guard !isReading, let stream, let connection, connection.isWritable, sending.hasWindow else { return }
    onPool({ try stream.read(upTo: Limits.snapshotChunkBytes) }) { [self] bytes in
      guard bytes.count <= Limits.snapshotChunkBytes else {
        return finish(.failure(.source("it gave more bytes than were asked for")))
      }
      self.connection?.send(.snapshot(sending.frame(bytes)))
      pump()
    }
  }

  /// One thing at a time. What comes too late for its connection is thrown away.
  private func onPool<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value, then: @escaping (Value) -> Void
  ) {
    isReading = true
    let begun = generation
    surroundings.dialer.threadPool.runIfActive(eventLoop: eventLoop, body)
      .assumeIsolated().whenComplete { [self] result in
        guard !isOver, begun == generation else { return }
        isReading = false
        switch result {
        case .success(let value): then(value)
        case .failure(let error): finish(.failure(.source("\(error)")))
        }
      }
  }

  func ended(_ end: PeerConnectionEnd) {
    connection = nil
    stream = nil
    isReading = false
    generation += 1
    guard !isOver else { return }
    if sending.acknowledged > reached { attempts = 0 }
    reached = max(reached, sending.acknowledged)
    attempts += 1
    guard attempts < surroundings.dialer.timing.maxSnapshotAttempts else {
      return finish(.failure(.unreachable("\(end)")))
    }
    surroundings.logger.info(
      "snapshot interrupted; it goes on", metadata: ["offset": "\(sending.acknowledged)", "reason": "\(end)"])
    let wait = surroundings.dialer.timing.backoff((attempts - 1) / max(1, urls.count))
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: wait) { self.dial() }
  }

  private func finish(_ result: Result<Void, SnapshotFailure>) {
    guard !isOver else { return }
    isOver = true
    timer?.cancel()
    stream = nil
    connection?.close(.released)
    completion(result)
  }
}
