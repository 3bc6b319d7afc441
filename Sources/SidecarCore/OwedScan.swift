import Keyspace
import Primitives

/// Finds what is owed: records that say LIVE and have no marker. Walks records and markers, both in key order, side by
/// side.
package struct OwedScan: Sendable {
  package struct Owed: Hashable, Sendable {
    package var entry: EntryName
    package var record: EntryRecord
    package var recordRevision: Int64
  }

  package private(set) var owed: [Owed] = []
  package private(set) var totals: [String: CacheTotals] = [:]
  /// Keys whose values could not be read: reported, left alone.
  package private(set) var unreadable: [Bytes] = []
  private let layout: StoreLayout

  package init(layout: StoreLayout) { self.layout = layout }

  /// One page: records in key order, and every marker key in the same interval of entries, in key order.
  package mutating func add(records: [KeyRecord], markerKeys: [Bytes]) {
    var markers = markerKeys[...]
    let recordPrefixCount = layout.allRecords.count
    let markerPrefixCount = layout.allMarkers.count
    for stored in records {
      guard let entry = layout.entry(of: stored.key), let record = try? EntryRecord(decoding: stored.value) else {
        unreadable.append(stored.key)
        continue
      }
      totals[entry.cache, default: CacheTotals()].add(record)
      let path = stored.key.array[recordPrefixCount...]
      while let marker = markers.first, marker.array[markerPrefixCount...].lexicographicallyPrecedes(path) {
        markers = markers.dropFirst()
      }
      let isMarked = markers.first.map { $0.array[markerPrefixCount...] == path } ?? false
      if !isMarked, record.state == .live {
        owed.append(Owed(entry: entry, record: record, recordRevision: stored.modRevision))
      }
    }
  }

  /// The interval of markers that belongs to a page of records: from the first to the last entry, both included.
  package func markerRange(for records: [KeyRecord]) -> KeyRange? {
    guard let first = records.first, let last = records.last else { return nil }
    let count = layout.allRecords.count
    return .halfOpen(
      start: layout.allMarkers + Bytes(first.key.array[count...]),
      end: (layout.allMarkers + Bytes(last.key.array[count...])).successor)
  }

  package mutating func takeOwed() -> [Owed] {
    defer { owed = [] }
    return owed
  }
}
