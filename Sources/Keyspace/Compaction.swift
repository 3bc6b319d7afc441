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

  /// Removes what the last compaction has made unreachable from the next `maxKeys` keys. Answers whether there is
  /// more to do.
  @discardableResult
  package mutating func compactStep(maxKeys: Int) -> Bool {
    guard let cursor = compactionCursor else { return false }
    var keysLeft = max(1, maxKeys)
    var shortened: [(key: Bytes, count: Int)] = []
    var expendable: [UInt64] = []
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
      for index in 0..<count { expendable.append(history[index].ordinal) }
      return true
    }
    for ordinal in expendable { log.remove(ordinal) }
    for (key, count) in shortened { index.forget(count, of: key) }
    compactionCursor = next
    return next != nil
  }

  /// Whether the last compaction keeps this version of the log. Once the walk is over, the log holds no others.
  func isKept(_ version: StoredVersion, ordinal: UInt64) -> Bool {
    guard compactionCursor != nil, version.revision.main <= compactedRevision else { return true }
    guard let (_, history) = index.find(version.key) else {
      preconditionFailure("a version whose key is not in the index")
    }
    return history.keeps(ordinal: ordinal, compactedAt: compactedRevision)
  }
}
