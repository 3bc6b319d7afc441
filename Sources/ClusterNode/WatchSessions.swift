import Keyspace
import NIOCore
import Primitives
import Synchronization

/// The part of a session that the apply loop touches: an outbox with a bound, emptied on the event loop with one hop for
/// however much has gathered.
final class WatchSessionState: Sendable {
  enum Item: Sendable {
    case events(watch: Int64, [KeyspaceEvent], revision: Int64)
    case progress(revision: Int64)
  }

  private struct Outbox {
    var items: [Item] = []
    var bytes = 0
    var hopScheduled = false
    var closed = false
    /// Watches taken off because there was no room, with the first revision each has not been told.
    var fellBehind: [(handle: UInt64, next: Int64)] = []
  }

  private let outbox = Mutex(Outbox())
  private let eventLoop: any EventLoop
  private let drain: @Sendable () -> Void

  init(eventLoop: any EventLoop, drain: @escaping @Sendable () -> Void) {
    self.eventLoop = eventLoop
    self.drain = drain
  }

  /// False when there is no room: the caller takes the watch off.
  func offer(_ events: [KeyspaceEvent], handle: UInt64, watch: Int64, revision: Int64) -> Bool {
    let size = events.reduce(0) { $0 + $1.approximateBytes }
    let (accepted, hop) = outbox.withLock { box -> (Bool, Bool) in
      if box.closed { return (false, false) }
      let accepted = box.bytes == 0 || box.bytes + size <= Limits.maxWatchStreamBacklogBytes
      if accepted {
        box.items.append(.events(watch: watch, events, revision: revision))
        box.bytes += size
      } else {
        box.fellBehind.append((handle, events[0].record.modRevision))
      }
      let hop = !box.hopScheduled
      box.hopScheduled = true
      return (accepted, hop)
    }
    if hop { eventLoop.execute(drain) }
    return accepted
  }

  /// Puts a progress mark behind everything offered so far; false when a watch has just fallen behind. Called with the
  /// applied state's lock held.
  func mark(progress revision: Int64) -> Bool {
    outbox.withLock { box in
      guard box.fellBehind.isEmpty else { return false }
      box.items.append(.progress(revision: revision))
      return true
    }
  }

  func take() -> (items: [Item], fellBehind: [(handle: UInt64, next: Int64)]) {
    outbox.withLock { box in
      let taken = (box.items, box.fellBehind)
      box.items = []
      box.fellBehind = []
      box.bytes = 0
      box.hopScheduled = false
      return taken
    }
  }

  func close() {
    outbox.withLock { box in
      box.closed = true
      box.items = []
      box.fellBehind = []
    }
  }
}

extension KeyspaceEvent {
  /// What an event weighs in a queue: its bytes and about what the wire adds.
  var approximateBytes: Int {
    record.key.count + record.value.count + (previous.map { $0.key.count + $0.value.count } ?? 0) + 64
  }
}

/// One stream of watches, bound to its event loop.
///
/// A watch is *synced* (in the `WatchTable`, fed by the apply loop) or *behind* (reads history in pages on the event
/// loop, without holding the lock between pages). It moves from behind to synced under the lock at the moment when
/// history holds nothing more for it; and from synced to behind when the session's outbox is full. Nothing is skipped.
final class NodeWatchSession: WatchSession {
  private enum Position {
    case synced(handle: UInt64)
    case behind(next: Int64)
  }

  private struct Watch {
    var request: WatchRequest
    var position: Position

    var handle: UInt64? {
      if case .synced(let handle) = position { handle } else { nil }
    }

    var isBehind: Bool {
      if case .behind = position { true } else { false }
    }
  }

  private static let pageEvents = 1_000
  private static let pageBytes = 1 << 20
  /// Versions looked at while the lock is held, however few of them match.
  private static let pageScanned = 20_000

  private let eventLoop: any EventLoop
  private let applied: AppliedState
  private let sink: any WatchSink
  private var state: WatchSessionState!
  private var watches: [Int64: Watch] = [:]
  private var progressRequested = false
  private var catchUpScheduled = false
  private var closed = false
  /// Taken from the outbox while the sink had no room; goes out before anything newer.
  private var held: [WatchSessionState.Item] = []

  init(eventLoop: any EventLoop, applied: AppliedState, sink: any WatchSink) {
    self.eventLoop = eventLoop
    self.applied = applied
    self.sink = sink
    let weak = NIOLoopBound(WeakSession(self), eventLoop: eventLoop)
    state = WatchSessionState(eventLoop: eventLoop) { weak.value.session?.drainOutbox() }
  }

  private final class WeakSession {
    weak var session: NodeWatchSession?
    init(_ session: NodeWatchSession) { self.session = session }
  }

  func create(_ request: WatchRequest) -> Int64 {
    let (position, revision) = applied.withLock { contents -> (Position, Int64) in
      let revision = contents.machine.keyspace.revision
      if request.startRevision == 0 || request.startRevision > revision {
        let from = max(request.startRevision, revision + 1)
        return (.synced(handle: contents.watches.add(request, session: state, from: from)), revision)
      }
      return (.behind(next: request.startRevision), revision)
    }
    watches[request.id] = Watch(request: request, position: position)
    if case .behind = position { scheduleCatchUp() }
    return revision
  }

  func cancel(_ id: Int64) {
    guard let watch = watches.removeValue(forKey: id) else { return }
    if case .synced(let handle) = watch.position {
      applied.withLock { $0.watches.remove(handle) }
    }
    answerProgressIfSynced()
  }

  func requestProgress() {
    progressRequested = true
    answerProgressIfSynced()
  }

  func resume() {
    drainOutbox()
    if watches.values.contains(where: \.isBehind) { scheduleCatchUp() }
  }

  func close() {
    guard !closed else { return }
    closed = true
    state.close()
    let handles = watches.values.compactMap(\.handle)
    watches = [:]
    held = []
    if !handles.isEmpty {
      applied.withLock { contents in
        for handle in handles { contents.watches.remove(handle) }
      }
    }
  }

  private var sinkHasRoom: Bool { sink.pendingBytes <= Limits.maxWatchStreamBacklogBytes }

  private func drainOutbox() {
    guard !closed else { return }
    let (items, fellBehind) = state.take()
    held.append(contentsOf: items)
    for (handle, next) in fellBehind {
      guard let (id, _) = watches.first(where: { $0.value.handle == handle }) else { continue }
      watches[id]!.position = .behind(next: next)
    }
    deliverHeld()
    if held.isEmpty, watches.values.contains(where: \.isBehind) { scheduleCatchUp() }
  }

  private func deliverHeld() {
    var delivered = 0
    while delivered < held.count, sinkHasRoom {
      switch held[delivered] {
      case .events(let id, let events, let revision):
        if watches[id] != nil { sink.events(watch: id, events, revision: revision) }
      case .progress(let revision): sink.progress(revision: revision)
      }
      delivered += 1
    }
    held.removeFirst(delivered)
  }

  private func scheduleCatchUp() {
    guard !catchUpScheduled, !closed else { return }
    catchUpScheduled = true
    let bound = NIOLoopBound(self, eventLoop: eventLoop)
    eventLoop.execute { bound.value.catchUp() }
  }

  /// One page for each watch that is behind, then another turn of the loop if there is more.
  private func catchUp() {
    catchUpScheduled = false
    guard !closed, held.isEmpty, sinkHasRoom else { return }
    for (id, watch) in watches {
      guard case .behind(let next) = watch.position else { continue }
      readPage(id, watch.request, from: next)
      if !sinkHasRoom { return }
    }
    if watches.values.contains(where: \.isBehind) { scheduleCatchUp() }
    answerProgressIfSynced()
  }

  private enum Page {
    case events([KeyspaceEvent], position: Position, revision: Int64)
    case compacted(at: Int64, revision: Int64)
  }

  private func readPage(_ id: Int64, _ request: WatchRequest, from next: Int64) {
    let page = applied.withLock { contents -> Page in
      let keyspace = contents.machine.keyspace
      do throws(KeyspaceError) {
        let (events, following) = try keyspace.history(
          from: next, in: request.range, wantsPrevious: request.wantsPrevious, limit: Self.pageEvents,
          maxBytes: Self.pageBytes, allowsCompactRevision: true, maxScanned: Self.pageScanned)
        let position: Position =
          following > keyspace.revision
          ? .synced(handle: contents.watches.add(request, session: state, from: following)) : .behind(next: following)
        let told = events.withPreviousOfEarlierRevisions().filter(request.wants)
        return .events(told, position: position, revision: keyspace.revision)
      } catch {
        return .compacted(at: keyspace.compactRevision, revision: keyspace.revision)
      }
    }
    switch page {
    case .events(let events, let position, let revision):
      watches[id]!.position = position
      if !events.isEmpty { sink.events(watch: id, events, revision: revision) }
    case .compacted(let compactRevision, let revision):
      watches[id] = nil
      sink.compacted(watch: id, compactRevision: compactRevision, revision: revision)
    }
  }

  private func answerProgressIfSynced() {
    guard progressRequested, !closed, !watches.values.contains(where: \.isBehind) else { return }
    let marked = applied.withLock { contents in state.mark(progress: contents.machine.keyspace.revision) }
    guard marked else { return }
    progressRequested = false
    drainOutbox()
  }
}
