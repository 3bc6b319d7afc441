import Primitives

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Builds a keyspace from references to versions, all of which are in an archive: keys in rising order, each with its
/// references in the order they were made. Refuses what no history of a keyspace can look like.
package struct KeyspaceLoader: Sendable {
  /// A key that is alive on a lease.
  package struct Attachment: Sendable {
    package var key: Bytes
    package var lease: LeaseID
  }

  /// Attachments of keys that are complete, for the caller to take out from time to time.
  package var attachments: [Attachment] = []

  private let revision: Int64
  private let compactedRevision: Int64
  private let nextOrdinal: UInt64
  private var builder = KeyIndexBuilder()
  private var keyCount = 0
  private var needsCompaction = false
  /// Of the latest version of the builder's last key.
  private var lastLease: LeaseID = 0

  /// Keys that came too late for the builder, with the lease of their latest version.
  private var strays: [Bytes: (history: KeyHistory, lease: LeaseID)] = [:]

  package init(revision: Int64, compactedRevision: Int64, nextOrdinal: UInt64) {
    self.revision = revision
    self.compactedRevision = compactedRevision
    self.nextOrdinal = nextOrdinal
  }

  /// A kept version. A key out of order (a long one) is accepted at the cost of a search, but all of its versions must
  /// come so, or none.
  /// - Parameter lease: of the version; 0 for none and for tombstones.
  package mutating func add(
    key: UnsafeRawBufferPointer, _ reference: VersionReference, lease: LeaseID
  ) throws(DecodingFailure) {
    guard reference.main >= 1, reference.main <= revision, reference.ordinal < nextOrdinal else {
      throw .malformed(offset: 0, "a version beyond the revision")
    }
    guard lease == 0 || !reference.isTombstone else { throw .malformed(offset: 0, "a tombstone on a lease") }
    let order = builder.lastKey.map { Self.compare(key, $0) } ?? 1
    if order > 0 {
      try checkFirst(reference)
      settleLast()
      builder.append(Bytes(Array(key)), reference)
      lastLease = lease
    } else if order == 0 {
      try Self.check(reference, after: builder.lastHistory.latest)
      builder.appendToLast(reference)
      lastLease = lease
    } else {
      try addStray(Bytes(Array(key)), reference, lease: lease)
    }
  }

  private mutating func addStray(
    _ key: Bytes, _ reference: VersionReference, lease: LeaseID
  ) throws(DecodingFailure) {
    if var (history, _) = strays.removeValue(forKey: key) {
      try Self.check(reference, after: history.latest)
      history.append(reference)
      strays[key] = (history, lease)
    } else {
      try checkFirst(reference)
      strays[key] = (KeyHistory(reference), lease)
    }
  }

  /// A history begins with a put; or, after a compaction at its revision, with a tombstone.
  private func checkFirst(_ reference: VersionReference) throws(DecodingFailure) {
    guard !reference.isTombstone || reference.main <= compactedRevision else {
      throw .malformed(offset: 0, "a history that begins with a deletion")
    }
  }

  private static func check(
    _ reference: VersionReference, after previous: VersionReference
  ) throws(DecodingFailure) {
    guard previous.ordinal < reference.ordinal, previous.main <= reference.main else {
      throw .malformed(offset: 0, "versions of a key out of order")
    }
    guard !previous.isTombstone || !reference.isTombstone else {
      throw .malformed(offset: 0, "a deletion of a key that is not there")
    }
  }

  private mutating func settleLast() {
    guard let key = builder.lastKey else { return }
    settle(key, builder.lastHistory, lease: lastLease)
  }

  private mutating func settle(_ key: Bytes, _ history: KeyHistory, lease: LeaseID) {
    if !needsCompaction { needsCompaction = history.expendableCount(at: compactedRevision) > 0 }
    guard history.isAlive else { return }
    keyCount += 1
    if lease != 0 { attachments.append(Attachment(key: key, lease: lease)) }
  }

  /// Completes the last keys, whose attachments are to be taken out afterwards. A compaction that had not come to its
  /// end begins its walk again.
  package mutating func finish(
    archive: any VersionArchive, archivedBytes: Int
  ) throws(DecodingFailure) -> Keyspace {
    settleLast()
    var keyspace = Keyspace()
    keyspace.index = builder.finish()
    for (key, (history, lease)) in strays {
      guard keyspace.index.find(key) == nil else { throw .malformed(offset: 0, "a key in two places") }
      for position in 0..<history.count { _ = keyspace.index.append(history[position], to: key) }
      settle(key, history, lease: lease)
    }
    keyspace.revision = revision
    keyspace.compactedRevision = compactedRevision
    keyspace.keyCount = keyCount
    keyspace.compactionCursor = needsCompaction ? Bytes() : nil
    keyspace.log = VersionLog(
      archive: archive, nextOrdinal: nextOrdinal, revision: revision, archivedBytes: archivedBytes)
    return keyspace
  }

  @inline(__always)
  private static func compare(_ left: UnsafeRawBufferPointer, _ right: Bytes) -> Int {
    right.array.withUnsafeBytes { right in
      let common = min(left.count, right.count)
      if common > 0 {
        let order = memcmp(left.baseAddress!, right.baseAddress!, common)
        if order != 0 { return Int(order) }
      }
      return left.count - right.count
    }
  }
}
