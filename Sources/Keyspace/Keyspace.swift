import Primitives

/// CONTRACT SKETCH: signatures that others build on; the bodies are the keyspace author's.
package struct Keyspace: Sendable {
  package init() {}

  /// The current main revision. A fresh keyspace is at 1, as etcd's is.
  package var revision: Int64 { fatalError() }
  /// The revision of the last compaction, 0 when there was none.
  package var compactRevision: Int64 { fatalError() }

  /// Reads at `query.revision` (0 = current). Throws `.compacted` or `.futureRevision`.
  package func range(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult { fatalError() }

  /// Checks what a transaction needs before it may run (revisions of its ranges, keys of `ignoresValue` puts,
  /// leases of its puts), runs the branch its comparisons choose (later operations see earlier ones), and gives all
  /// its changes one new main revision. Nothing changes when it throws. Events in order are appended.
  package mutating func transact(
    _ request: TransactionRequest, leaseExists: (LeaseID) -> Bool, events: inout [KeyspaceEvent]
  ) throws(KeyspaceError) -> TransactionResult { fatalError() }

  /// As a transaction of one put; the fast path.
  package mutating func put(
    _ request: PutRequest, leaseExists: (LeaseID) -> Bool, events: inout [KeyspaceEvent]
  ) throws(KeyspaceError) -> KeyRecord? { fatalError() }

  package mutating func delete(_ request: DeleteRequest, events: inout [KeyspaceEvent]) -> DeleteResult { fatalError() }

  /// Deletes these keys (those that exist) at one new main revision, with a cause: a lease's end.
  package mutating func delete(keys: [Bytes], cause: DeletionCause, events: inout [KeyspaceEvent]) { fatalError() }

  /// Forgets history before `revision`; what is alive at it stays. Throws `.compacted` when it already was,
  /// `.futureRevision` beyond the current one.
  package mutating func compact(to revision: Int64) throws(KeyspaceError) { fatalError() }

  /// Changes at main revisions `from...` inside the ranges, in order, whole revisions only, stopping after about
  /// `limit` events or `maxBytes`. `next` is the first revision not looked at. Throws `.compacted` when `from` is at
  /// or below the compact revision (etcd's rule for watch starts).
  package func history(
    from revision: Int64, in range: KeyRange, wantsPrevious: Bool, limit: Int, maxBytes: Int
  ) throws(KeyspaceError) -> (events: [KeyspaceEvent], next: Int64) { fatalError() }

  /// Logical bytes of all that is kept, for the quota and metrics.
  package var sizeInBytes: Int { fatalError() }
  package var keyCount: Int { fatalError() }

  /// etcd's HashKV idea: equal on members with equal history in (compactRevision, revision].
  package func hash(at revision: Int64) throws(KeyspaceError) -> UInt32 { fatalError() }

  package func encode(into writer: inout ByteWriter) { fatalError() }
  package init(decoding reader: inout ByteReader) throws(DecodingFailure) { fatalError() }
}
