import Primitives

extension Keyspace {
  /// Changes at main revisions `from...` inside the ranges, in order, whole revisions only, stopping after about
  /// `limit` events or `maxBytes`. `next` is the first revision not looked at. Throws `.compacted` when `from` is at
  /// or below the compact revision.
  ///
  /// etcd itself lets a watch start *at* the compact revision (checked on 3.4.23; the tombstones of that revision are
  /// kept for it): `allowsCompactRevision` does so too. The events of that revision have no `previous`.
  ///
  /// `maxScanned` bounds how many versions of other keys are passed over in one call (whole revisions again).
  package func history(
    from revision: Int64, in range: KeyRange, wantsPrevious: Bool, limit: Int, maxBytes: Int,
    allowsCompactRevision: Bool = false, maxScanned: Int = .max
  ) throws(KeyspaceError) -> (events: [KeyspaceEvent], next: Int64) {
    guard revision > compactedRevision || (allowsCompactRevision && revision == compactedRevision) else {
      throw .compacted(compactRevision: compactRevision)
    }
    var collector = EventCollector(
      limit: limit, maxBytes: maxBytes, maxScanned: maxScanned, next: max(revision, self.revision + 1))
    if case .single(let key) = range {
      collectHistory(of: key, from: revision, wantsPrevious: wantsPrevious, into: &collector)
    } else {
      log.forEach(from: revision) { ordinal, version in
        guard collector.admits(version.revision.main) else { return false }
        if range.contains(version.key), isKept(version, ordinal: ordinal) {
          collector.append(event(for: version, ordinal: ordinal, wantsPrevious: wantsPrevious))
        }
        return true
      }
    }
    return (collector.events, collector.next)
  }

  /// One key's changes need no walk over the log: the index knows its versions.
  private func collectHistory(
    of key: Bytes, from revision: Int64, wantsPrevious: Bool, into collector: inout EventCollector
  ) {
    guard let (_, history) = index.find(key) else { return }
    let first = max(history.firstIndex(after: revision - 1), history.expendableCount(at: compactedRevision))
    guard first < history.count else { return }
    for index in first..<history.count {
      let ordinal = history[index].ordinal
      guard collector.admits(history[index].main) else { return }
      collector.append(event(for: log[ordinal], ordinal: ordinal, wantsPrevious: wantsPrevious))
    }
  }

  private func event(for version: StoredVersion, ordinal: UInt64, wantsPrevious: Bool) -> KeyspaceEvent {
    var previous: KeyRecord?
    if wantsPrevious, version.revision.main > compactedRevision,
      let before = index.find(version.key)?.history.predecessor(of: ordinal), !before.isTombstone
    {
      previous = log[before.ordinal].record
    }
    return KeyspaceEvent(kind: version.kind, record: version.record, previous: previous)
  }
}

/// Gathers events until a limit is reached and the revision at hand is over.
private struct EventCollector {
  let limit: Int
  let maxBytes: Int
  let maxScanned: Int
  var next: Int64

  private(set) var events: [KeyspaceEvent] = []
  private var byteCount = 0
  private var scannedCount = 0
  private var currentMain: Int64?

  init(limit: Int, maxBytes: Int, maxScanned: Int, next: Int64) {
    self.limit = limit
    self.maxBytes = maxBytes
    self.maxScanned = maxScanned
    self.next = next
  }

  /// Whether a version at main revision `main` may be looked at; when not, the history ends before it.
  mutating func admits(_ main: Int64) -> Bool {
    if let currentMain, currentMain != main,
      events.count >= limit || byteCount >= maxBytes || scannedCount >= maxScanned
    {
      next = main
      return false
    }
    currentMain = main
    scannedCount += 1
    return true
  }

  mutating func append(_ event: KeyspaceEvent) {
    byteCount += event.record.key.count + event.record.value.count
    if let previous = event.previous { byteCount += previous.key.count + previous.value.count }
    events.append(event)
  }
}
