import Primitives

extension Keyspace {
  /// How many keys each write looks at while a compaction is under way, so that it ends even if nobody drives it.
  static let compactionKeysPerWrite = 32

  /// Forgets history before `revision`; what is alive at it stays. Throws `.compacted` when it already was,
  /// `.futureRevision` beyond the current one.
  ///
  /// For readers it has happened when this returns. The memory is given back by `compactStep`, a bounded number of
  /// keys a call: every write makes a small step, and an idle owner may call it. A newer compaction starts the walk
  /// anew and covers what an unfinished one left.
  package mutating func compact(to revision: Int64) throws(KeyspaceError) {
    guard revision > compactedRevision else { throw .compacted(compactRevision: compactRevision) }
    guard revision <= self.revision else { throw .futureRevision }
    compactedRevision = revision
    compactionCursor = Bytes()
  }

  /// For a store that is restored from a copy: moves the revision `amount` on and forgets all history up to there, so
  /// that clients which have seen revisions beyond the copy's never see one twice with another content, and watchers
  /// learn that they have to read anew (etcdutl's `--bump-revision` with `--mark-compacted`). False, and nothing
  /// changes, when `amount` is not positive or leads beyond what revisions can count.
  package mutating func bumpRevision(by amount: Int64) -> Bool {
    let (bumped, isOver) = revision.addingReportingOverflow(amount)
    guard amount > 0, !isOver, bumped < Self.revisionCeiling else { return false }
    revision = bumped
    compactedRevision = bumped
    compactionCursor = Bytes()
    return true
  }

  /// Removes what the last compaction has made unreachable from the next `maxKeys` keys. Answers whether there is
  /// more to do.
  @discardableResult
  package mutating func compactStep(maxKeys: Int) -> Bool {
    guard let cursor = compactionCursor else { return false }
    var keysLeft = max(1, maxKeys)
    var shortened: [(key: Bytes, count: Int)] = []
    var expendable: [(reference: VersionReference, key: Bytes)] = []
    var next: Bytes?
    index.forEach(in: .from(cursor)) { key, history in
      guard keysLeft > 0 else {
        next = key
        return false
      }
      keysLeft -= 1
      let count = history.expendableCount(at: compactedRevision)
      guard count > 0 else { return true }
      shortened.append((key, count))
      for index in 0..<count { expendable.append((history[index], key)) }
      return true
    }
    for (reference, key) in expendable { log.remove(reference, of: key) }
    for (key, count) in shortened { index.forget(count, of: key) }
    compactionCursor = next
    return next != nil
  }

  /// Whether the last compaction keeps this version of the log. While its walk is under way the log holds others too,
  /// and as long as the archive has not heard of all removals a walk over it comes by those.
  func isKept(_ version: StoredVersion, ordinal: UInt64) -> Bool {
    guard version.revision.main <= compactedRevision, compactionCursor != nil || log.mayVisitRemoved else {
      return true
    }
    return index.find(version.key)?.history.keeps(ordinal: ordinal, compactedAt: compactedRevision) ?? false
  }
}
