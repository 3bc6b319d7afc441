import PeerProtocol
import PeerTransport
import StateMachine

/// A state as the bytes of its snapshot. It shares the living state's storage and stays as it was; the bytes are made
/// as they are asked for, the same each time.
struct StateSource: SnapshotSource {
  let mark: [UInt8]
  /// Not known before the end.
  let byteCount: UInt64? = nil
  private let state: StateMachine

  /// - Parameter mark: the message that names the state, as bytes.
  init(_ state: StateMachine, mark: [UInt8]) {
    self.state = state
    self.mark = mark
  }

  func open(at offset: UInt64) throws -> any SnapshotStream { Stream(state, from: offset) }

  private final class Stream: SnapshotStream, @unchecked Sendable {
    private static let skippedAtOnceBytes = 1 << 20
    private var writer: StateSnapshotWriter

    init(_ state: StateMachine, from offset: UInt64) {
      writer = StateSnapshotWriter(state)
      var rest = offset
      while rest > 0, let piece = writer.next(maxBytes: Int(min(rest, UInt64(Self.skippedAtOnceBytes)))) {
        rest -= UInt64(piece.count)
      }
    }

    func read(upTo limit: Int) throws -> [UInt8] { writer.next(maxBytes: limit) ?? [] }
  }
}
