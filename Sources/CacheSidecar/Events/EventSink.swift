import NIOCore
import SidecarCore
import Synchronization

/// Where a subscriber's lines go. May be used from any thread; calls come one at a time.
package protocol EventSink: AnyObject, Sendable {
  /// Collects; `flush` sends.
  func send(_ bytes: [UInt8])
  /// Ends one round of sends. True when this sink has had all it can take and the subscriber is to be detached.
  func flush() -> Bool
  /// Sends what is left and these last bytes, then closes.
  func close(after bytes: [UInt8])
  /// More unsent bytes than is good: nothing more is read for it until it becomes writable.
  var isCongested: Bool { get }
}

/// The connection below an outlet. Lives on its event loop.
package protocol EventTransport: AnyObject {
  func write(_ bytes: ByteBuffer)
  /// Bytes written that the peer has not yet taken.
  var pendingBytes: Int { get }
  func close()
}

/// A connection that streams until it ends: counts what the peer has taken, says when it is congested, closes it when
/// it takes nothing for too long, and keeps it alive with heartbeats.
package final class StreamOutlet: EventSink {
  package struct Timing: Sendable {
    package var stallMilliseconds: Int64
    package var heartbeatMilliseconds: Int64
  }

  /// Unsent bytes above which a connection counts as congested, and below which it is writable again.
  static let highWaterBytes = 256 * 1024
  static let lowWaterBytes = 64 * 1024
  private static let checkInterval = TimeAmount.milliseconds(250)

  /// Bytes given to this outlet and taken by the peer; the rest waits here, in the event loop's queue or in the
  /// channel.
  private struct Counters {
    var collected: [UInt8] = []
    var given = 0
    var taken = 0
    var isCongested = false
    var isClosed = false
  }

  /// What lives on the event loop.
  private final class Core {
    let transport: any EventTransport
    var written = 0
    var progressAt = NIODeadline.now()
    var heartbeatAt = NIODeadline.now()
    var checks: RepeatedTask?

    init(_ transport: any EventTransport) { self.transport = transport }
  }

  private let eventLoop: any EventLoop
  private let counters = Mutex(Counters())
  private let core: NIOLoopBound<Core>
  private let timing: Timing
  private let onWritable: @Sendable () -> Void
  private let onHeartbeat: @Sendable () -> Void

  /// On the event loop.
  package init(
    _ transport: any EventTransport, on eventLoop: any EventLoop, timing: Timing,
    onWritable: @escaping @Sendable () -> Void, onHeartbeat: @escaping @Sendable () -> Void
  ) {
    self.eventLoop = eventLoop
    self.timing = timing
    self.onWritable = onWritable
    self.onHeartbeat = onHeartbeat
    core = NIOLoopBound(Core(transport), eventLoop: eventLoop)
    core.value.checks = eventLoop.scheduleRepeatedTask(initialDelay: Self.checkInterval, delay: Self.checkInterval) {
      [weak self] task in
      if let self { self.check() } else { task.cancel() }
    }
  }

  package var isCongested: Bool {
    counters.withLock { counters in
      counters.isCongested = counters.isCongested || counters.given - counters.taken > Self.highWaterBytes
      return counters.isCongested
    }
  }

  package func send(_ bytes: [UInt8]) {
    counters.withLock { counters in
      guard !counters.isClosed else { return }
      counters.collected.append(contentsOf: bytes)
      counters.given += bytes.count
    }
  }

  @discardableResult
  package func flush() -> Bool {
    let bytes = takeCollected()
    if !bytes.isEmpty { eventLoop.execute { self.write(bytes) } }
    return false
  }

  package func close(after bytes: [UInt8]) {
    send(bytes)
    let rest = takeCollected()
    eventLoop.execute {
      if !rest.isEmpty { self.write(rest) }
      self.core.value.transport.close()
    }
  }

  /// The connection is gone. On the event loop.
  package func transportClosed() {
    core.value.checks?.cancel()
    core.value.checks = nil
    counters.withLock { $0.isClosed = true }
  }

  private func takeCollected() -> [UInt8] {
    counters.withLock { counters in
      let bytes = counters.collected
      counters.collected = []
      return bytes
    }
  }

  private func write(_ bytes: [UInt8]) {
    let core = core.value
    // Time without anything to take is no stall.
    if core.transport.pendingBytes == 0 { core.progressAt = .now() }
    core.written += bytes.count
    core.transport.write(ByteBuffer(bytes: bytes))
    measure()
  }

  /// How far the peer is. Called whenever it may have taken something. On the event loop.
  package func measure() {
    let taken = core.value.written - core.value.transport.pendingBytes
    let becameWritable = counters.withLock { counters in
      if taken != counters.taken { core.value.progressAt = .now() }
      counters.taken = taken
      guard counters.isCongested, counters.given - taken <= Self.lowWaterBytes else { return false }
      counters.isCongested = false
      return true
    }
    if becameWritable { onWritable() }
  }

  private func check() {
    measure()
    let core = core.value
    let now = NIODeadline.now()
    if core.transport.pendingBytes > 0 {
      if now - core.progressAt >= .milliseconds(timing.stallMilliseconds) { core.transport.close() }
    } else if now - core.heartbeatAt >= .milliseconds(timing.heartbeatMilliseconds) {
      core.heartbeatAt = now
      onHeartbeat()
    }
  }
}

/// The one answer of a long poll: complete with the first round of events, or when its time is over.
package final class PollSink: EventSink {
  package enum Outcome: Sendable {
    case events([UInt8])
    case nothing
    /// Closed by the subscriber's side, with its last word.
    case closed([UInt8])
  }

  private struct State {
    var collected: [UInt8] = []
    var finish: (@Sendable (Outcome) -> Void)?
  }

  private let state: Mutex<State>

  /// `finish` is called once.
  package init(finish: @escaping @Sendable (Outcome) -> Void) { state = Mutex(State(finish: finish)) }

  package var isCongested: Bool { false }

  package func send(_ bytes: [UInt8]) { state.withLock { $0.collected.append(contentsOf: bytes) } }

  package func flush() -> Bool {
    let bytes = state.withLock { $0.collected }
    guard !bytes.isEmpty else { return false }
    complete(.events(bytes))
    return true
  }

  package func close(after bytes: [UInt8]) { complete(.closed(bytes)) }

  package func complete(_ outcome: Outcome) {
    let finish = state.withLock { state in
      defer { state.finish = nil }
      return state.finish
    }
    finish?(outcome)
  }
}
