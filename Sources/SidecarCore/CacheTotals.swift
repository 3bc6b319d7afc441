import Primitives

/// Entries and bytes of one cache, by state.
package struct CacheTotals: Hashable, Sendable {
  package var liveEntries: Int64 = 0
  package var liveBytes: Int64 = 0
  package var evictingEntries: Int64 = 0
  package var evictingBytes: Int64 = 0

  package init() {}

  package mutating func add(_ record: EntryRecord, _ count: Int64 = 1) {
    switch record.state {
    case .live:
      liveEntries &+= count
      liveBytes &+= count &* record.sizeBytes
    case .evicting:
      evictingEntries &+= count
      evictingBytes &+= count &* record.sizeBytes
    }
  }

  package mutating func add(_ other: CacheTotals) {
    liveEntries &+= other.liveEntries
    liveBytes &+= other.liveBytes
    evictingEntries &+= other.evictingEntries
    evictingBytes &+= other.evictingBytes
  }
}

/// The totals of all caches: a count taken at one revision plus every change committed after it. A new count may go on
/// while changes come in.
package struct TotalsBook: Sendable {
  package private(set) var totals: [String: CacheTotals] = [:]
  /// Whether a count has been finished: before that, only changes since the start are in `totals`.
  package private(set) var isExact = false
  private var sinceCount: [(revision: Int64, cache: String, change: CacheTotals)]?

  package init() {}

  /// Call before the revision of the count is known.
  package mutating func beginCount() { sinceCount = [] }

  package mutating func abandonCount() { sinceCount = nil }

  /// `counted` is exact as of `revision`.
  package mutating func finishCount(_ counted: [String: CacheTotals], at revision: Int64) {
    totals = counted
    for entry in sinceCount ?? [] where entry.revision > revision {
      totals[entry.cache, default: CacheTotals()].add(entry.change)
    }
    sinceCount = nil
    isExact = true
  }

  /// `entry` changed from `before` to `after` at `revision`.
  package mutating func note(cache: String, before: EntryRecord?, after: EntryRecord?, revision: Int64) {
    var change = CacheTotals()
    if let before { change.add(before, -1) }
    if let after { change.add(after) }
    guard change != CacheTotals() else { return }
    totals[cache, default: CacheTotals()].add(change)
    sinceCount?.append((revision, cache, change))
  }
}
