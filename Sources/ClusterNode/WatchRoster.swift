import Keyspace
import Primitives

/// One watch, owned by its session. Bound to its event loop.
final class HubWatch {
  let request: WatchRequest
  unowned let session: NodeWatchSession
  /// The first revision that it is to be told of and has not been. Kept up to date while the watch is behind; for one
  /// that is up to date, where it began to be.
  var next: Int64
  var isBehind: Bool

  // Where its roster keeps it.
  fileprivate(set) var group: WatchGroup?
  fileprivate var slot = 0

  init(_ request: WatchRequest, session: NodeWatchSession, next: Int64, isBehind: Bool) {
    self.request = request
    self.session = session
    self.next = next
    self.isBehind = isBehind
  }
}

/// Watches that want the same events: matched once, told with the same object.
final class WatchGroup {
  struct Key: Hashable {
    var range: KeyRange
    var filtersPuts: Bool
    var filtersDeletes: Bool

    init(_ request: WatchRequest) {
      range = request.range
      filtersPuts = request.filtersPuts
      filtersDeletes = request.filtersDeletes
    }
  }

  let key: Key
  let id: Int
  fileprivate(set) var members: [HubWatch] = []
  /// Places, among the events at hand, of those it wants.
  fileprivate(set) var wanted: [Int] = []
  /// The last page of history that held something for it.
  var page = 0

  fileprivate init(_ key: Key, id: Int) {
    self.key = key
    self.id = id
  }

  var isSingleKey: Bool {
    if case .single = key.range { true } else { false }
  }

  fileprivate func wants(_ event: KeyspaceEvent) -> Bool {
    switch event.kind {
    case .put: !key.filtersPuts
    case .delete: !key.filtersDeletes
    }
  }
}

/// Watches grouped by what they want, found by key. Adding, removing and matching do not depend on how many watches a
/// group has. Bound to one event loop.
final class WatchRoster {
  private var index = WatchIndex()
  private var groups: [WatchGroup.Key: WatchGroup] = [:]
  private var groupsByID: [WatchGroup?] = []
  private var freeIDs: [Int] = []
  private var touched: [WatchGroup] = []
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }
  var allGroups: Dictionary<WatchGroup.Key, WatchGroup>.Values { groups.values }

  func add(_ watch: HubWatch) {
    let group = group(for: WatchGroup.Key(watch.request))
    watch.group = group
    watch.slot = group.members.count
    group.members.append(watch)
    count += 1
  }

  func remove(_ watch: HubWatch) {
    guard let group = watch.group else { return }
    let last = group.members.removeLast()
    if last !== watch {
      group.members[watch.slot] = last
      last.slot = watch.slot
    }
    watch.group = nil
    count -= 1
    if group.members.isEmpty { forget(group) }
  }

  private func group(for key: WatchGroup.Key) -> WatchGroup {
    if let group = groups[key] { return group }
    let id = freeIDs.popLast() ?? groupsByID.count
    let group = WatchGroup(key, id: id)
    if id == groupsByID.count { groupsByID.append(group) } else { groupsByID[id] = group }
    groups[key] = group
    index.register(UInt64(id), key.range)
    return group
  }

  private func forget(_ group: WatchGroup) {
    groups[group.key] = nil
    groupsByID[group.id] = nil
    freeIDs.append(group.id)
    index.unregister(UInt64(group.id))
  }

  /// Calls `body` with each group that wants some of the events, and those events. `body` must leave the roster alone.
  func match(_ events: ArraySlice<KeyspaceEvent>, revision: Int64, _ body: (WatchGroup, WatchedEvents) -> Void) {
    guard !events.isEmpty, count > 0 else { return }
    for place in events.indices {
      index.forEachMatch(events[place].record.key) { id in
        guard let group = groupsByID[Int(id)], group.wants(events[place]) else { return }
        if group.wanted.isEmpty { touched.append(group) }
        group.wanted.append(place)
      }
    }
    // Watches of different ranges that want all of it share one object, too.
    var whole: WatchedEvents?
    for group in touched {
      let told: WatchedEvents
      if group.wanted.count == events.count {
        told = whole ?? WatchedEvents(Array(events), revision: revision)
        whole = told
      } else {
        told = WatchedEvents(group.wanted.map { events[$0] }, revision: revision)
      }
      group.wanted.removeAll(keepingCapacity: true)
      body(group, told)
    }
    touched.removeAll(keepingCapacity: true)
  }

  /// The events that one group wants.
  func select(_ events: [KeyspaceEvent], for group: WatchGroup, revision: Int64) -> WatchedEvents? {
    let wanted = events.filter(group.wants)
    return wanted.isEmpty ? nil : WatchedEvents(wanted, revision: revision)
  }
}
