import PeerProtocol
import PeerTransport
import Primitives

/// Bytes that no chunk boundary repeats.
struct MemorySource: SnapshotSource {
  let mark: [UInt8] = [4, 2]
  let byteCount: UInt64?
  let content: [UInt8]
  let opened = Watched<[UInt64]>([])

  init(_ count: Int, seed: UInt64, knowsSize: Bool = true) {
    var random = SeededGenerator(seed: seed)
    content = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    byteCount = knowsSize ? UInt64(count) : nil
  }

  func open(at offset: UInt64) throws -> any SnapshotStream {
    opened.change { $0.append(offset) }
    return MemoryStream(content, Int(offset))
  }
}

private final class MemoryStream: SnapshotStream {
  private let content: [UInt8]
  private let position: Watched<Int>

  init(_ content: [UInt8], _ position: Int) {
    self.content = content
    self.position = Watched(position)
  }

  func read(upTo limit: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    position.change { position in
      bytes = Array(content[position...].prefix(limit))
      position += bytes.count
    }
    return bytes
  }
}

final class MemorySink: SnapshotSink {
  struct Content: Sendable {
    var bytes: [UInt8] = []
    /// Those that a restart has made void, too.
    var appended = 0
    var restarts = 0
    var isFinished = false
    var abandoned = 0
  }

  private let content: Watched<Content>

  init(_ content: Watched<Content>) {
    self.content = content
    content.change { $0.bytes = [] }
  }

  func append(_ bytes: [UInt8]) throws(SnapshotRefusal) {
    content.change {
      $0.bytes += bytes
      $0.appended += bytes.count
    }
  }

  func restart() throws(SnapshotRefusal) {
    content.change {
      $0.bytes = []
      $0.restarts += 1
    }
  }

  func finish() throws(SnapshotRefusal) { content.change { $0.isFinished = true } }
  func abandon() { content.change { $0.abandoned += 1 } }
}
