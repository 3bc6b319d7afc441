import Primitives

extension Keyspace {
  /// As a transaction of one put; the fast path.
  package mutating func put(
    _ request: PutRequest, leaseExists: (LeaseID) -> Bool, events: inout [KeyspaceEvent]
  ) throws(KeyspaceError) -> KeyRecord? {
    if request.lease != 0, !leaseExists(request.lease) { throw .leaseNotFound }
    var change = nextChange
    let previous = try apply(request, at: &change, events: &events)
    commit(change)
    return previous
  }

  package mutating func delete(_ request: DeleteRequest, events: inout [KeyspaceEvent]) -> DeleteResult {
    var change = nextChange
    let result = apply(request, at: &change, events: &events)
    commit(change)
    return result
  }

  /// Deletes these keys (those that exist) at one new main revision, with a cause: a lease's end.
  package mutating func delete(keys: [Bytes], cause: DeletionCause, events: inout [KeyspaceEvent]) {
    var change = nextChange
    for key in keys {
      guard let (key, history) = index.find(key), history.isAlive else { continue }
      _ = bury(key, history.latest, cause: cause, at: &change, events: &events)
    }
    commit(change)
  }

  /// Puts at `change`, which moves on to the next sub-revision. Answers the previous record when it was asked for.
  mutating func apply(
    _ request: PutRequest, at change: inout Revision, events: inout [KeyspaceEvent]
  ) throws(KeyspaceError) -> KeyRecord? {
    var value = request.value
    var lease = request.lease
    if request.ignoresValue || request.ignoresLease {
      guard let current = currentRecord(request.key) else { throw .keyNotFound }
      if request.ignoresValue { value = current.value }
      if request.ignoresLease { lease = current.lease }
    }
    let reference = VersionReference(main: change.main, ordinal: log.nextOrdinal, isTombstone: false)
    let (key, before) = index.append(reference, to: request.key)
    var previous: KeyRecord?
    if let before, !before.isTombstone { previous = log[before.ordinal].record }
    let record = KeyRecord(
      key: key, value: value, createRevision: previous?.createRevision ?? change.main, modRevision: change.main,
      version: (previous?.version ?? 0) + 1, lease: lease)
    log.append(StoredVersion(record, sub: change.sub, kind: .put))
    change.sub += 1
    if previous == nil { keyCount += 1 }
    events.append(KeyspaceEvent(kind: .put, record: record, previous: previous))
    return request.wantsPrevious ? previous : nil
  }

  mutating func apply(
    _ request: DeleteRequest, at change: inout Revision, events: inout [KeyspaceEvent]
  ) -> DeleteResult {
    var doomed: [(key: Bytes, latest: VersionReference)] = []
    index.forEach(in: request.range) { key, history in
      if history.isAlive { doomed.append((key, history.latest)) }
      return true
    }
    var previous: [KeyRecord] = []
    for (key, latest) in doomed {
      let record = bury(key, latest, cause: .deleted, at: &change, events: &events)
      if request.wantsPrevious { previous.append(record) }
    }
    return DeleteResult(deleted: Int64(doomed.count), previous: previous)
  }

  /// Ends the life of a key that exists, whose version `latest` is. Answers the record that it had.
  private mutating func bury(
    _ key: Bytes, _ latest: VersionReference, cause: DeletionCause, at change: inout Revision,
    events: inout [KeyspaceEvent]
  ) -> KeyRecord {
    let previous = log[latest.ordinal].record
    let tombstone = KeyRecord(key: key, value: Bytes(), createRevision: 0, modRevision: change.main, version: 0)
    let reference = VersionReference(main: change.main, ordinal: log.nextOrdinal, isTombstone: true)
    _ = index.append(reference, to: key)
    log.append(StoredVersion(tombstone, sub: change.sub, kind: .delete(cause)))
    change.sub += 1
    keyCount -= 1
    events.append(KeyspaceEvent(kind: .delete(cause), record: tombstone, previous: previous))
    return previous
  }
}
