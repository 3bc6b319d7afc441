import Keyspace
import Primitives

/// The watches that are up to date, ready to be matched against what is applied. Guarded by `AppliedState`'s lock.
struct WatchTable {
  private var index = WatchIndex()
  private var watches: [UInt64: Synced] = [:]
  private var nextHandle: UInt64 = 1

  private struct Synced {
    var session: WatchSessionState
    var request: WatchRequest
    /// Events before this revision are not for this watch (a start in the future).
    var from: Int64
  }

  var count: Int { watches.count }

  /// A handle for `remove`.
  mutating func add(_ request: WatchRequest, session: WatchSessionState, from: Int64) -> UInt64 {
    let handle = nextHandle
    nextHandle += 1
    index.register(handle, request.range)
    watches[handle] = Synced(session: session, request: request, from: from)
    return handle
  }

  mutating func remove(_ handle: UInt64) {
    guard watches.removeValue(forKey: handle) != nil else { return }
    _ = index.unregister(handle)
  }

  /// Hands each watch its share of the events of one applied batch. Watches whose session has no room are taken off; the
  /// session catches them up from history once its peer reads again.
  mutating func publish(_ events: [KeyspaceEvent], revision: Int64) {
    guard !watches.isEmpty, !events.isEmpty else { return }
    var shares: [UInt64: [KeyspaceEvent]] = [:]
    for event in events.withPreviousOfEarlierRevisions() {
      index.forEachMatch(event.record.key) { handle in
        guard let watch = watches[handle], event.record.modRevision >= watch.from, watch.request.wants(event) else {
          return
        }
        shares[handle, default: []].append(event)
      }
    }
    for handle in shares.keys.sorted() {
      guard let watch = watches[handle], let share = shares[handle] else { continue }
      if !watch.session.offer(share, handle: handle, watch: watch.request.id, revision: revision) { remove(handle) }
    }
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
