import Keyspace
import Primitives

/// Turns ended leases into evictions. The watch on all markers tells of them promptly, the scan (`OwedScan`) finds those
/// of which no watch has told; either way an entry is evicted only as it stands when it is read: LIVE and without marker.
package struct EvictionPlanner: Sendable {
  /// A marker that is gone.
  package struct EndedMarker: Hashable, Sendable {
    package var entry: EntryName
    /// Its lease ran out; otherwise somebody has deleted it.
    package var hasExpired: Bool
    package var revision: Int64
  }

  package let layout: StoreLayout
  package let policies: [String: CachePolicy]

  package init(layout: StoreLayout, policies: [String: CachePolicy]) {
    self.layout = layout
    self.policies = policies
  }

  /// The markers that went with these changes, in their order; of one entry's only the last.
  package func endedMarkers(in events: [KeyspaceEvent]) -> [EndedMarker] {
    var ended: [EndedMarker] = []
    var places: [EntryName: Int] = [:]
    for event in events {
      guard case .delete(let cause) = event.kind, event.record.key.hasPrefix(layout.allMarkers),
        let entry = layout.entry(of: event.record.key)
      else { continue }
      let marker = EndedMarker(entry: entry, hasExpired: cause == .leaseExpired, revision: event.record.modRevision)
      if let place = places[entry] {
        ended[place] = marker
      } else {
        places[entry] = ended.count
        ended.append(marker)
      }
    }
    return ended
  }

  /// The eviction of an entry whose marker was seen to go; nil when it lives again or was evicted meanwhile.
  package func candidate(for stored: StoredEntry, after marker: EndedMarker) -> EvictionCandidate? {
    guard stored.marker == nil, let record = stored.record, record.state == .live else { return nil }
    return EvictionCandidate(
      entry: stored.entry, record: record, recordRevision: stored.recordRevision, reason: .expired,
      idleMilliseconds: marker.hasExpired ? grantedMilliseconds(stored.entry, record) : 0)
  }

  package func candidate(for owed: OwedScan.Owed) -> EvictionCandidate {
    EvictionCandidate(
      entry: owed.entry, record: owed.record, recordRevision: owed.recordRevision, reason: .expired,
      idleMilliseconds: grantedMilliseconds(owed.entry, owed.record))
  }

  /// An entry whose lease ran out has been unused for as long as it was granted.
  private func grantedMilliseconds(_ entry: EntryName, _ record: EntryRecord) -> Int64 {
    policies[entry.cache]?.terms(for: entry.key, ttlMilliseconds: record.ttlMilliseconds).grantedMilliseconds
      ?? record.ttlMilliseconds
  }
}
