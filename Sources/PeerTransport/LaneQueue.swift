import DequeModule
import PeerProtocol

/// What waits for one connection to a peer. Filled by any thread, emptied by the connection's event loop; each holds
/// the lock around it for a moment only.
struct LaneQueue {
  struct Admission {
    var isAccepted: Bool
    /// The event loop has to be told that there is something to do.
    var wakes: Bool
  }

  private let maxMessages: Int
  private let maxBytes: Int
  /// False while there is no connection, nor one being made.
  private var isOpen = false
  private var frames: Deque<EncodedFrame> = []
  private(set) var byteCount = 0
  /// Whether the event loop will look without being told.
  private var isAwaited = false
  /// Something did not fit, and that has not been reported.
  private var hasOverflowed = false

  init(maxMessages: Int, maxBytes: Int) {
    self.maxMessages = maxMessages
    self.maxBytes = maxBytes
  }

  mutating func append(_ frame: EncodedFrame) -> Admission {
    guard isOpen else { return Admission(isAccepted: false, wakes: false) }
    // A frame above the limit passes when it is alone.
    guard frames.isEmpty || (frames.count < maxMessages && byteCount + frame.byteCount <= maxBytes) else {
      defer { hasOverflowed = true }
      return Admission(isAccepted: false, wakes: !hasOverflowed)
    }
    frames.append(frame)
    byteCount += frame.byteCount
    defer { isAwaited = true }
    return Admission(isAccepted: true, wakes: !isAwaited)
  }

  /// The next frames, together at most `limit` bytes but at least one frame. None when nothing waits; then the next
  /// `append` wakes.
  mutating func take(upTo limit: Int) -> [EncodedFrame] {
    var taken: [EncodedFrame] = []
    var bytes = 0
    while let next = frames.first, taken.isEmpty || bytes + next.byteCount <= limit {
      frames.removeFirst()
      bytes += next.byteCount
      taken.append(next)
    }
    byteCount -= bytes
    isAwaited = !taken.isEmpty
    return taken
  }

  /// Whether something did not fit since the last time.
  mutating func takeOverflow() -> Bool {
    defer { hasOverflowed = false }
    return hasOverflowed
  }

  mutating func open() { isOpen = true }

  /// - Returns: how many messages are dropped with it.
  mutating func close() -> Int {
    defer { self = LaneQueue(maxMessages: maxMessages, maxBytes: maxBytes) }
    return frames.count
  }
}
