import PeerProtocol
import Synchronization

/// One snapshot on its way in. Outlives its connections: the one that was cut and the one that goes on. All its methods
/// block and are called on threads that may.
final class SnapshotReception: Sendable {
  /// The outcome of a step for the connection that took it.
  enum Outcome: Hashable {
    case kept(offset: UInt64)
    case verdict(SnapshotVerdict)
    case misbehaved(String)
    /// A newer connection goes on with the transfer.
    case notYours
  }

  private struct State {
    var receiving: SnapshotReceiving
    var sink: (any SnapshotSink)?
    /// The connection that may go on; a cut one may still have chunks on their way to the disk.
    var owner: UInt64 = 0
    /// Once it is over.
    var verdict: SnapshotVerdict?
  }

  let offer: SnapshotOffer
  let sender: UInt64
  private let state: Mutex<State>

  init(_ offer: SnapshotOffer, from sender: UInt64, sink: any SnapshotSink) {
    self.offer = offer
    self.sender = sender
    state = Mutex(State(receiving: SnapshotReceiving(offer), sink: sink))
  }

  /// A connection takes over. Waits for what its predecessor is about.
  func adopt(by owner: UInt64) -> Outcome {
    state.withLock { state in
      if let verdict = state.verdict { return .verdict(verdict) }
      state.owner = owner
      return .kept(offset: state.receiving.offset)
    }
  }

  /// - Returns: `kept`, or why the connection is to end.
  func append(_ bytes: [UInt8], at offset: UInt64, by owner: UInt64) -> Outcome {
    state.withLock { state in
      if let verdict = state.verdict { return .verdict(verdict) }
      guard state.owner == owner, let sink = state.sink else { return .notYours }
      guard let step = state.receiving.step(start: offset) else { return .misbehaved("a chunk from elsewhere") }
      do throws(SnapshotRefusal) {
        if step == .restart {
          state.receiving.restart()
          try sink.restart()
        }
        try sink.append(bytes)
      } catch {
        return .verdict(Self.end(&state, .refused(error)))
      }
      state.receiving.append(bytes)
      return .kept(offset: state.receiving.offset)
    }
  }

  func finish(byteCount: UInt64, checksum: UInt32, by owner: UInt64) -> Outcome {
    state.withLock { state in
      if let verdict = state.verdict { return .verdict(verdict) }
      guard state.owner == owner, let sink = state.sink else { return .notYours }
      guard state.receiving.isComplete(byteCount: byteCount, checksum: checksum) else {
        return .verdict(Self.end(&state, .refused(.corrupt)))
      }
      do throws(SnapshotRefusal) {
        try sink.finish()
      } catch {
        return .verdict(Self.end(&state, .refused(error)))
      }
      return .verdict(Self.end(&state, .accepted))
    }
  }

  func isOwned(by owner: UInt64) -> Bool { state.withLock { $0.owner == owner } }

  /// The rest will not be waited for; no effect when it is over.
  func abandon(_ refusal: SnapshotRefusal) {
    state.withLock { state in
      if state.verdict == nil { _ = Self.end(&state, .refused(refusal)) }
    }
  }

  private static func end(_ state: inout State, _ verdict: SnapshotVerdict) -> SnapshotVerdict {
    state.verdict = verdict
    if verdict != .accepted { state.sink?.abandon() }
    state.sink = nil
    return verdict
  }
}

/// The one snapshot that a member takes at a time, and what came of it for a sender that missed the answer.
final class SnapshotReceptions: Sendable {
  private struct State {
    var current: SnapshotReception?
    var lastOwner: UInt64 = 0
    var isClosed = false
  }

  private let receiver: any PeerReceiver
  private let state = Mutex(State())
  /// Held while the receiver is asked, so that two offers do not overtake each other.
  private let asking = Mutex(())

  init(_ receiver: any PeerReceiver) { self.receiver = receiver }

  /// A connection brings an offer: the transfer goes on, or a new one takes the place of any other. Blocks.
  func begin(
    _ offer: SnapshotOffer, from sender: UInt64
  ) throws(SnapshotRefusal) -> (reception: SnapshotReception, owner: UInt64) {
    let result = asking.withLock { _ -> Result<(SnapshotReception, UInt64), SnapshotRefusal> in
      let (current, owner) = state.withLock { state in
        state.lastOwner += 1
        return (state.current, state.lastOwner)
      }
      if let current, current.offer == offer, current.sender == sender { return .success((current, owner)) }
      do throws(SnapshotRefusal) {
        let sink = try receiver.snapshotOffered(offer, from: sender)
        let reception = SnapshotReception(offer, from: sender, sink: sink)
        guard replace(with: reception) else {
          sink.abandon()
          return .failure(.failed("the member is stopping"))
        }
        return .success((reception, owner))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  private func replace(with reception: SnapshotReception?) -> Bool {
    let (old, isClosed) = state.withLock { state in
      guard !state.isClosed else { return (nil as SnapshotReception?, true) }
      defer { state.current = reception }
      return (state.current, false)
    }
    old?.abandon(.superseded)
    return !isClosed
  }

  /// The last connection is long gone: unless another one has gone on, it is over. Blocks.
  func forget(_ reception: SnapshotReception, by owner: UInt64) {
    guard reception.isOwned(by: owner) else { return }
    let isCurrent = state.withLock { state in
      guard state.current === reception else { return false }
      state.current = nil
      return true
    }
    if isCurrent { reception.abandon(.failed("no connection went on with the transfer")) }
  }

  /// Blocks.
  func close() {
    let old = state.withLock { state in
      state.isClosed = true
      defer { state.current = nil }
      return state.current
    }
    old?.abandon(.failed("the member is stopping"))
  }
}
