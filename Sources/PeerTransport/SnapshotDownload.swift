import NIOCore
import NIOPosix
import PeerProtocol
import Primitives

/// The receiving end of one connection of a snapshot's transfer: passes what comes to a thread that may block, one
/// bundle at a time, and tells the sender how far it is.
final class SnapshotDownload: PeerConversation {
  private enum Work: Sendable {
    case offer(SnapshotOffer)
    case chunk([UInt8], offset: UInt64)
    case end(byteCount: UInt64, checksum: UInt32)
  }

  /// The transfer as this connection has it.
  private struct Share: Sendable {
    var reception: SnapshotReception
    var owner: UInt64
  }

  /// What a bundle of work came to.
  private struct Report: Sendable {
    var share: Share?
    var outcome: SnapshotReception.Outcome
    /// The offer was among it.
    var begins: Bool
  }

  private let sender: UInt64
  private let receptions: SnapshotReceptions
  private let threadPool: NIOThreadPool
  private let memory: TimeAmount
  private let didEnd: (PeerConnectionEnd) -> Void
  private var connection: PeerConnection?
  private var eventLoop: (any EventLoop)?
  private var share: Share?
  private var waiting: [Work] = []
  private var waitingBytes = 0
  private var isWorking = false
  private var hasOffer = false

  /// - Parameter memory: how long a transfer is kept for a connection that goes on.
  init(
    from sender: UInt64, receptions: SnapshotReceptions, threadPool: NIOThreadPool, memory: TimeAmount,
    didEnd: @escaping (PeerConnectionEnd) -> Void
  ) {
    self.sender = sender
    self.receptions = receptions
    self.threadPool = threadPool
    self.memory = memory
    self.didEnd = didEnd
  }

  func began(_ connection: PeerConnection) {
    self.connection = connection
    eventLoop = connection.eventLoop
  }

  func received(_ frame: PeerFrame) throws(PeerConnectionEnd) {
    switch frame {
    case .snapshot(.offer(let offer)) where !hasOffer:
      hasOffer = true
      waiting.append(.offer(offer))
    case .snapshot(.chunk(let offset, let bytes)) where hasOffer:
      waiting.append(.chunk(bytes, offset: offset))
      waitingBytes += bytes.count
      // A sender that heeds its window stays far below.
      guard waitingBytes <= 2 * Limits.snapshotWindowBytes else { throw .misbehaved("more than its window") }
    case .snapshot(.end(let byteCount, let checksum)) where hasOffer:
      waiting.append(.end(byteCount: byteCount, checksum: checksum))
    default:
      throw .misbehaved("something that does not belong into a snapshot's transfer")
    }
    work()
  }

  private func work() {
    guard !isWorking, !waiting.isEmpty, let connection else { return }
    isWorking = true
    let (bundle, share) = (waiting, share)
    waiting.removeAll(keepingCapacity: true)
    waitingBytes = 0
    let (sender, receptions) = (sender, receptions)
    threadPool.runIfActive(eventLoop: connection.eventLoop) { Self.perform(bundle, share, sender, receptions) }
      .assumeIsolated().whenComplete { [self] result in
        isWorking = false
        switch result {
        case .success(let result): answer(result)
        // The pool has been shut down.
        case .failure(let error): self.connection?.close(.failed("\(error)"))
        }
        work()
      }
  }

  /// On a thread that may block. Stops at the first thing that ends the connection.
  private static func perform(
    _ bundle: [Work], _ share: Share?, _ sender: UInt64, _ receptions: SnapshotReceptions
  ) -> Report {
    var result = Report(share: share, outcome: .misbehaved("something before its offer"), begins: false)
    for work in bundle {
      switch work {
      case .offer(let offer):
        do throws(SnapshotRefusal) {
          let (reception, owner) = try receptions.begin(offer, from: sender)
          result.share = Share(reception: reception, owner: owner)
          result.outcome = reception.adopt(by: owner)
          result.begins = true
        } catch {
          result.outcome = .verdict(.refused(error))
        }
      case .chunk(let bytes, let offset):
        guard let share = result.share else { return result }
        result.outcome = share.reception.append(bytes, at: offset, by: share.owner)
      case .end(let byteCount, let checksum):
        guard let share = result.share else { return result }
        result.outcome = share.reception.finish(byteCount: byteCount, checksum: checksum, by: share.owner)
      }
      guard case .kept = result.outcome else { return result }
    }
    return result
  }

  private func answer(_ result: Report) {
    share = result.share
    guard let connection else {
      // Cut while the offer was looked at.
      if result.begins { leave() }
      return
    }
    switch result.outcome {
    case .kept(let offset):
      connection.send(.snapshot(result.begins ? .resume(offset: offset) : .acknowledged(offset: offset)))
    case .verdict(let verdict):
      connection.close(after: .snapshot(.verdict(verdict)), .released)
    case .misbehaved(let what):
      connection.close(.misbehaved(what))
    case .notYours:
      connection.close(.replaced)
    }
  }

  func ended(_ end: PeerConnectionEnd) {
    leave()
    connection = nil
    waiting = []
    didEnd(end)
  }

  /// Another connection may go on, but not for ever.
  private func leave() {
    guard let share, let eventLoop else { return }
    let (receptions, threadPool) = (receptions, threadPool)
    eventLoop.scheduleTask(in: memory) {
      threadPool.submit { _ in receptions.forget(share.reception, by: share.owner) }
    }
  }
}
