import NIOCore
import Synchronization
import Wire

/// An answer of some size: handed to the wire piece by piece as the client takes it, and given up when the client takes
/// nothing for too long. Holds itself until then.
final class LargeAnswer {
  /// Less than this is handed over at once.
  static let minBytes = 256 * 1024

  private static let pieceBytes = 64 * 1024
  /// What may wait for the client outside of here.
  private static let aheadBytes = 256 * 1024

  private let stream: any HTTPStream
  private var json: ByteBuffer
  private let stallTimeout: TimeAmount
  private var done: (() -> Void)?
  private var timer: Scheduled<Void>?
  private var lastPendingBytes = 0

  init(_ stream: any HTTPStream, _ json: ByteBuffer, stallTimeout: TimeAmount, done: @escaping () -> Void) {
    self.stream = stream
    self.json = json
    self.stallTimeout = stallTimeout
    self.done = done
  }

  func start() {
    stream.onClose = { self.finish() }
    stream.onWritable = { self.write() }
    watch()
    write()
  }

  private func write() {
    while json.readableBytes > 0, stream.pendingBytes < Self.aheadBytes {
      stream.write(json.readSlice(length: min(Self.pieceBytes, json.readableBytes))!)
    }
    guard json.readableBytes == 0 else { return stream.notifyWhenDrained() }
    stream.end()
    finish()
  }

  private func watch() {
    timer = stream.eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: stallTimeout) {
      guard self.done != nil else { return }
      let unread = self.json.readableBytes + self.stream.pendingBytes
      guard unread != self.lastPendingBytes else { return self.stream.abort() }
      self.lastPendingBytes = unread
      self.watch()
    }
  }

  private func finish() {
    timer?.cancel()
    timer = nil
    json = ByteBuffer()
    let done = done
    self.done = nil
    done?()
  }
}

/// What large answers take of the memory, all together.
final class AnswerBudget: Sendable {
  /// An answer as it came, as JSON, and on its way to the client.
  private static let bytesPerByte = 4

  private let limit: Int
  private let used = Mutex(0)

  init(limit: Int) { self.limit = limit }

  /// Room for an answer of this size; nil when there is none.
  func take(_ bytes: Int) -> Int? {
    let cost = bytes * Self.bytesPerByte
    return used.withLock { used in
      guard used + cost <= limit else { return nil }
      used += cost
      return cost
    }
  }

  func give(back cost: Int) { used.withLock { $0 -= cost } }
}
