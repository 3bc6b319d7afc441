import ClusterNode
import DequeModule
import Keyspace
import NIOCore
import Primitives
import Synchronization

/// One watch of the node as something to await. Lives as long as the stream that reads it.
final class WatchSubscription: Sendable {
  let feed: WatchFeed

  init(node: any NodeHandle, eventLoop: any EventLoop, range: KeyRange, startRevision: Int64) {
    let feed = WatchFeed(eventLoop: eventLoop)
    self.feed = feed
    eventLoop.execute {
      let session = node.openWatchSession(on: eventLoop, sink: feed)
      feed.attach(session)
      _ = session.create(WatchRequest(id: 1, range: range, startRevision: startRevision))
    }
  }

  deinit { feed.close() }
}

/// Batches between the event loop that brings them and the task that takes them. The session holds back while much is
/// waiting.
final class WatchFeed: WatchSink {
  private struct State {
    var batches: Deque<WatchBatch> = []
    var pendingBytes = 0
    var isHeldBack = false
    var waiter: CheckedContinuation<WatchBatch?, any Error>?
    var failure: (any Error)?
    var session: NIOLoopBound<any WatchSession>?
    var isClosed = false
  }

  private let eventLoop: any EventLoop
  private let state = Mutex(State())

  init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

  // MARK: The session's side, on the event loop

  func attach(_ session: any WatchSession) {
    let bound = NIOLoopBound(session, eventLoop: eventLoop)
    let isClosed = state.withLock { state in
      if !state.isClosed { state.session = bound }
      return state.isClosed
    }
    if isClosed { session.close() }
  }

  func events(watch id: Int64, _ events: [KeyspaceEvent], revision: Int64) {
    let batch = WatchBatch(events: events, revision: revision)
    let waiter = state.withLock { state -> CheckedContinuation<WatchBatch?, any Error>? in
      if let waiter = state.waiter {
        state.waiter = nil
        return waiter
      }
      state.batches.append(batch)
      state.pendingBytes += Self.bytes(of: batch)
      if state.pendingBytes > Limits.maxWatchStreamBacklogBytes / 2 { state.isHeldBack = true }
      return nil
    }
    waiter?.resume(returning: batch)
  }

  func compacted(watch id: Int64, compactRevision: Int64, revision: Int64) {
    fail(SidecarStoreError.unavailable("the watch's start has been compacted at \(compactRevision)"))
  }

  func progress(revision: Int64) {}

  var pendingBytes: Int { state.withLock { $0.pendingBytes } }

  private static func bytes(of batch: WatchBatch) -> Int {
    batch.events.reduce(0) { $0 + $1.record.key.count + $1.record.value.count + 64 }
  }

  // MARK: The reader's side

  /// The next batch; throws when the watch is over.
  func next() async throws -> WatchBatch? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { take($0) }
    } onCancel: {
      fail(CancellationError())
    }
  }

  private enum Taken {
    case batch(WatchBatch, resuming: NIOLoopBound<any WatchSession>?)
    case failure(any Error)
    case nothing
  }

  private func take(_ continuation: CheckedContinuation<WatchBatch?, any Error>) {
    let taken = state.withLock { state -> Taken in
      if let batch = state.batches.popFirst() {
        state.pendingBytes -= Self.bytes(of: batch)
        guard state.isHeldBack, state.batches.isEmpty else { return .batch(batch, resuming: nil) }
        state.isHeldBack = false
        return .batch(batch, resuming: state.session)
      }
      if let failure = state.failure { return .failure(failure) }
      precondition(state.waiter == nil, "two readers of one watch")
      state.waiter = continuation
      return .nothing
    }
    switch taken {
    case .batch(let batch, let session):
      if let session { eventLoop.execute { session.value.resume() } }
      continuation.resume(returning: batch)
    case .failure(let error): continuation.resume(throwing: error)
    case .nothing: break
    }
  }

  private func fail(_ error: any Error) {
    let waiter = state.withLock { state in
      state.failure = state.failure ?? error
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume(throwing: error)
  }

  func close() {
    let session = state.withLock { state in
      state.isClosed = true
      defer { state.session = nil }
      return state.session
    }
    if let session { eventLoop.execute { session.value.close() } }
  }
}
