import Keyspace
import Primitives

/// A lease to be granted together with a change.
package struct EntryLease: Hashable, Sendable {
  package var id: LeaseID
  package var ttlMilliseconds: Int64

  package init(id: LeaseID, ttlMilliseconds: Int64) {
    self.id = id
    self.ttlMilliseconds = ttlMilliseconds
  }
}

/// One guarded step of one entry: what `before` becomes, and the transaction that does it or does nothing.
package struct EntryChange: Hashable, Sendable {
  package var entry: EntryName
  package var before: EntryRecord?
  package var after: EntryRecord?
  package var comparisons: [Comparison]
  package var grants: [EntryLease]
  package var operations: [Operation]
  /// Leases that have lost their marker by this change.
  package var revokes: [LeaseID]

  package init(
    entry: EntryName, before: EntryRecord?, after: EntryRecord?, comparisons: [Comparison], grants: [EntryLease] = [],
    operations: [Operation], revokes: [LeaseID] = []
  ) {
    self.entry = entry
    self.before = before
    self.after = after
    self.comparisons = comparisons
    self.grants = grants
    self.operations = operations
    self.revokes = revokes
  }
}

/// An entry as the store holds it: its two keys, read together.
package struct StoredEntry: Hashable, Sendable {
  package var entry: EntryName
  package var record: EntryRecord?
  /// The record's mod revision, 0 when there is none: the guard of every change.
  package var recordRevision: Int64 = 0
  package var marker: EntryMarker?
  package var markerRevision: Int64 = 0
  package var lease: LeaseID = 0

  package init(
    _ entry: EntryName, record: KeyRecord?, marker: KeyRecord?
  ) throws(DecodingFailure) {
    self.entry = entry
    if let record {
      self.record = try EntryRecord(decoding: record.value)
      recordRevision = record.modRevision
    }
    if let marker {
      self.marker = try EntryMarker(decoding: marker.value)
      markerRevision = marker.modRevision
      lease = marker.lease
    }
  }

  /// Whether the journal's item of this number is in force: only then is it told to anybody.
  package func isEvicting(as sequence: UInt64) -> Bool {
    if case .evicting(sequence, _)? = record?.state { true } else { false }
  }
}

extension Comparison {
  package static func isAbsent(_ key: Bytes) -> Comparison {
    Comparison(.single(key), .equal, .createRevision(0))
  }

  /// Unchanged since it was read; `revision` 0 means absent.
  package static func isAt(_ key: Bytes, revision: Int64) -> Comparison {
    Comparison(.single(key), .equal, .modRevision(revision))
  }
}
