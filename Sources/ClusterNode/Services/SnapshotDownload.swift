import EtcdAPI
import FoundationEssentials
import NIOCore
import NIOPosix
import Primitives
import StateMachine
import Wire

/// etcdserverpb.Maintenance/Snapshot: a copy of the state as bytes, padded, and its SHA-256 behind it. The copy shares the
/// state's storage, a thread of the pool makes piece after piece, and no more are made than the client takes.
final class SnapshotDownload<Node: NodeHandle>: GRPCHandler {
  /// As etcd's.
  private static var pieceBytes: Int { 32 * 1024 }
  /// Pieces made while the client takes others.
  private static var aheadBytes: Int { 1024 * 1024 }

  private let call: any GRPCCall
  private let context: ServiceContext<Node>
  private var isStarted = false
  private var isMaking = false
  private var isOver = false
  /// Moves to the pool and back.
  private var body: SnapshotBody?
  private var sentBytes: UInt64 = 0
  private var expectedBytes: UInt64 = 0

  init(_ call: any GRPCCall, _ context: ServiceContext<Node>) {
    self.call = call
    self.context = context
  }

  func receive(_ message: ByteBuffer) {
    guard !isStarted else { return }
    isStarted = true
    do { _ = try EtcdSnapshotRequest(wire: message) } catch {
      finish(EtcdErrors.undecodable(error, streaming: true))
      return
    }
    let bound = NIOLoopBound(self, eventLoop: call.eventLoop)
    context.identify(UnaryCall(call, requestBytes: message.readableBytes)) { bound.value.begin(for: $0.caller) }
  }

  private func begin(for caller: Caller) {
    guard !isOver else { return }
    do throws(GRPCStatus) { try context.authorize(caller, .root) } catch { return finish(error) }
    let machine = context.node.read { copy($0) }
    expectedBytes = UInt64(machine.quotaBytes)
    body = SnapshotBody(machine)
    makeMore()
  }

  func halfClosed() {}

  func cancelled() {
    isOver = true
    body = nil
  }

  func writable() { makeMore() }

  private func finish(_ status: GRPCStatus) {
    isOver = true
    body = nil
    call.finish(status)
  }

  private func makeMore() {
    guard !isMaking, !isOver, call.pendingBytes < Self.aheadBytes, let taken = body else { return }
    body = nil
    isMaking = true
    let loop = call.eventLoop
    let bound = NIOLoopBound(self, eventLoop: loop)
    NIOThreadPool.singleton.submit { _ in
      var body = taken
      var pieces: [[UInt8]] = []
      for _ in 0..<Self.aheadBytes / Self.pieceBytes {
        guard let piece = body.next(maxBytes: Self.pieceBytes) else { break }
        pieces.append(piece)
      }
      let (rest, made) = (body, pieces)
      loop.execute { bound.value.send(made, rest) }
    }
  }

  private func send(_ pieces: [[UInt8]], _ rest: SnapshotBody) {
    isMaking = false
    guard !isOver else { return }
    body = rest
    for piece in pieces {
      var response = EtcdSnapshotResponse()
      response.blob = Data(piece)
      sentBytes += UInt64(piece.count)
      // How long it will be nobody knows before it is written: an estimate that never says "nothing" too early.
      response.remainingBytes = rest.isDone && piece == pieces.last! ? 0 : max(expectedBytes, sentBytes + 1) - sentBytes
      call.send(response.wireBuffer)
    }
    if rest.isDone { finish(.ok) } else { makeMore() }
  }
}

/// A copy of what is applied; a machine that is borrowed cannot be returned as it is.
private func copy(_ machine: borrowing StateMachine) -> StateMachine { copy machine }

/// The bytes of a snapshot file: the state, zeros until the length is a multiple of 512, the SHA-256 of both. etcdctl
/// takes a file for one with a checksum when its size leaves 32 over.
package struct SnapshotBody: Sendable {
  package static let blockBytes = 512

  private enum Part {
    case state
    case tail([UInt8])
    case done
  }

  private var writer: StateSnapshotWriter
  private var hash = SHA256()
  private var count = 0
  private var part = Part.state

  package init(_ machine: StateMachine) { writer = StateSnapshotWriter(machine) }

  package var isDone: Bool {
    if case .done = part { true } else { false }
  }

  /// The next piece, of at most `maxBytes`; nil behind the last one.
  package mutating func next(maxBytes: Int) -> [UInt8]? {
    if case .state = part {
      if let piece = writer.next(maxBytes: maxBytes) {
        hash.update(piece[...])
        count += piece.count
        return piece
      }
      let padding = [UInt8](repeating: 0, count: (Self.blockBytes - count % Self.blockBytes) % Self.blockBytes)
      hash.update(padding[...])
      part = .tail(padding + hash.finish())
    }
    guard case .tail(let bytes) = part else { return nil }
    let piece = Array(bytes.prefix(maxBytes))
    part = piece.count == bytes.count ? .done : .tail(Array(bytes.dropFirst(maxBytes)))
    return piece
  }
}
