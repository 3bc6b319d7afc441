import Primitives

/// One version of one key as it is stored. The kind is a put, or a deletion with its cause (a tombstone, whose value,
/// create revision, version and lease are empty).
package struct StoredVersion: Hashable, Sendable {
  package var key: Bytes
  package var value: Bytes
  package var revision: Revision
  package var createRevision: Int64
  package var version: Int64
  package var lease: LeaseID
  package var kind: KeyspaceEvent.Kind

  package init(_ record: KeyRecord, sub: Int64, kind: KeyspaceEvent.Kind) {
    key = record.key
    value = record.value
    revision = Revision(main: record.modRevision, sub: sub)
    createRevision = record.createRevision
    version = record.version
    lease = record.lease
    self.kind = kind
  }

  package var record: KeyRecord {
    KeyRecord(
      key: key, value: value, createRevision: createRevision, modRevision: revision.main, version: version,
      lease: lease)
  }

  /// What the version counts against the quota: its bytes and a fixed share for its bookkeeping.
  package var sizeInBytes: Int { key.count + value.count + Self.bookkeepingBytes }
  private static let bookkeepingBytes = 96
}
