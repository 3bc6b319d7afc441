import Keyspace
import NIOCore
import Primitives

/// Where applied changes leave for the watches. Guarded by `AppliedState`'s lock, which a publication holds for as long
/// as it takes to leave one reference for each event loop, however many watches there are: each loop's hub finds out
/// which of its watches are concerned.
struct WatchTable {
  let counters: WatchCounters
  private var hubs: [ObjectIdentifier: WatchHub] = [:]
  private var compactRevision: Int64 = 0

  init(counters: WatchCounters = WatchCounters()) { self.counters = counters }

  /// The hub of an event loop, made when it is first asked for.
  mutating func hub(on eventLoop: any EventLoop, _ applied: AppliedState) -> WatchHub {
    if let hub = hubs[ObjectIdentifier(eventLoop)] { return hub }
    let hub = WatchHub(eventLoop: eventLoop, applied: applied, counters: counters)
    hubs[ObjectIdentifier(eventLoop)] = hub
    return hub
  }

  /// Passes on the events of one applied batch: whole revisions, in order, up to the keyspace's `revision`. A compaction
  /// in the batch is announced behind them, to watches that want to know of progress.
  mutating func publish(_ events: [KeyspaceEvent], revision: Int64, compactRevision: Int64) {
    let isCompaction = compactRevision > self.compactRevision
    self.compactRevision = compactRevision
    guard !hubs.isEmpty, !events.isEmpty || isCompaction else { return }
    let batch = PublishedBatch(events: events, revision: revision)
    for hub in hubs.values {
      if hub.inbox.post(batch, compactRevision: isCompaction ? compactRevision : nil) { hub.wake() }
    }
  }

  /// The state was replaced by a later one (a snapshot from another member): what happened after `revision` was not
  /// published. Watches read it from history, or learn that it has been compacted.
  mutating func skipped(after revision: Int64) {
    for hub in hubs.values where hub.inbox.postGap(from: revision + 1) { hub.wake() }
  }
}

/// Events of whole revisions on their way to the watches.
struct PublishedBatch {
  let events: [KeyspaceEvent]
  /// The keyspace's when they had been applied.
  let revision: Int64
  let bytes: Int

  init(events: [KeyspaceEvent], revision: Int64) {
    self.events = events
    self.revision = revision
    bytes = events.reduce(0) { $0 + $1.approximateBytes }
  }
}

extension WatchRequest {
  func wants(_ event: KeyspaceEvent) -> Bool {
    switch event.kind {
    case .put: !filtersPuts
    case .delete: !filtersDeletes
    }
  }
}
