import Keyspace
import NIOCore
import Primitives

/// One stream of watches on its event loop's hub.
final class NodeWatchSession: WatchSession {
  let sink: any WatchSink
  let sharesBudget: Bool
  /// Kept up by the hub: how many of the watches read history.
  var behindCount = 0
  /// Progress may be reported from this revision on.
  var progressTarget: Int64 = 0

  private let hub: WatchHub
  /// The hub does not keep the state alive, its sessions do.
  private let applied: AppliedState
  private var watches: [Int64: HubWatch] = [:]
  private var isClosed = false

  init(eventLoop: any EventLoop, applied: AppliedState, sink: any WatchSink) {
    self.applied = applied
    self.sink = sink
    sharesBudget = sink.sharesBacklogBudget
    hub = applied.withLock { contents in contents.watches.hub(on: eventLoop, applied) }
    hub.open(self)
  }

  // MARK: What the stream asks for

  func create(_ request: WatchRequest) -> Int64 {
    guard !isClosed, let (watch, revision) = hub.add(request, of: self) else { return 0 }
    watches[request.id] = watch
    return revision
  }

  func cancel(_ id: Int64) {
    guard let watch = watches.removeValue(forKey: id) else { return }
    hub.remove(watch)
    hub.answerProgress()
    hub.restIfIdle()
  }

  func requestProgress() {
    if !isClosed { hub.requestProgress(self) }
  }

  func toldThrough(_ id: Int64) -> Int64? {
    guard let watch = watches[id], !watch.isBehind else { return nil }
    _ = hub.synchronize()
    return max(hub.position, min(watch.next - 1, progressTarget))
  }

  func resume() { hub.hasDrained(self) }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    for watch in watches.values { hub.remove(watch) }
    watches = [:]
    hub.close(self)
  }

  // MARK: What the hub does

  /// Whether the client has taken enough of what it was sent.
  var hasRoom: Bool {
    sink.pendingBytes <= (sharesBudget ? hub.sharedBacklogBytes : Limits.maxWatchStreamBacklogBytes)
  }

  func awaitRoom() { sink.notifyWhenDrained() }

  func tell(_ watch: HubWatch, _ events: WatchedEvents) { sink.tell(watch: watch.request.id, events) }

  func announceCompaction(at revision: Int64) { sink.compactionBegan(at: revision) }

  func end(_ watch: HubWatch, compactRevision: Int64, revision: Int64) {
    watches[watch.request.id] = nil
    hub.remove(watch)
    sink.compacted(watch: watch.request.id, compactRevision: compactRevision, revision: revision)
  }
}
