import Primitives

/// Which watchers a changed key concerns. Watchers of one key are found by hash; watchers of ranges in a tree of
/// intervals, in time that grows with the logarithm of the number of distinct ranges and with the number of matches.
/// Watchers of the same range share one place, so ten thousand watchers of one prefix cost one visit.
package struct WatchIndex: Sendable {
  package typealias WatcherID = UInt64

  private var rangesByWatcher: [WatcherID: KeyRange] = [:]
  private var watchersByKey: [Bytes: [WatcherID]] = [:]
  private var intervals = IntervalTree()

  package init() {}

  /// How many watchers are registered.
  package var count: Int { rangesByWatcher.count }
  package var isEmpty: Bool { rangesByWatcher.isEmpty }

  package func range(of watcher: WatcherID) -> KeyRange? { rangesByWatcher[watcher] }

  /// Registers a watcher; an identity may be registered once at a time. An empty range is legal and matches nothing.
  package mutating func register(_ watcher: WatcherID, _ range: KeyRange) {
    let replaced = rangesByWatcher.updateValue(range, forKey: watcher)
    precondition(replaced == nil, "a watcher that is already registered")
    switch range {
    case .single(let key): watchersByKey[key, default: []].append(watcher)
    case .halfOpen, .from: if let interval = Interval(range) { intervals.insert(watcher, interval) }
    }
  }

  /// Forgets a watcher. Answers false when there is none of this identity.
  @discardableResult
  package mutating func unregister(_ watcher: WatcherID) -> Bool {
    guard let range = rangesByWatcher.removeValue(forKey: watcher) else { return false }
    switch range {
    case .single(let key):
      watchersByKey[key]?.removeAll { $0 == watcher }
      if watchersByKey[key]?.isEmpty == true { watchersByKey[key] = nil }
    case .halfOpen, .from:
      if let interval = Interval(range) { intervals.remove(watcher, interval) }
    }
    return true
  }

  /// Calls `body` once with each watcher whose range holds `key`, in no promised order.
  @inline(__always)
  package func forEachMatch(_ key: Bytes, _ body: (WatcherID) -> Void) {
    if let watchers = watchersByKey[key] {
      for watcher in watchers { body(watcher) }
    }
    intervals.forEachMatch(key, body)
  }

  /// The watchers whose range holds `key`, in no promised order.
  package func matches(_ key: Bytes) -> [WatcherID] {
    var found: [WatcherID] = []
    forEachMatch(key) { found.append($0) }
    return found
  }
}
