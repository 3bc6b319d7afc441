import Primitives

/// Where one version of a key stands: the main revision that made it, its place in the version log, and whether it is
/// a tombstone. 16 bytes.
package struct VersionReference: Hashable, Sendable {
  package let main: Int64
  private let tagged: UInt64

  package init(main: Int64, ordinal: UInt64, isTombstone: Bool) {
    self.main = main
    self.tagged = ordinal << 1 | (isTombstone ? 1 : 0)
  }

  package var ordinal: UInt64 { tagged >> 1 }
  package var isTombstone: Bool { tagged & 1 == 1 }
}

/// All kept versions of one key, oldest first: etcd's generations, which tombstones end. A key that was written once
/// (the common case) needs no allocation of its own; versions before the latest are in an array.
struct KeyHistory {
  private(set) var latest: VersionReference
  private var older: [VersionReference] = []

  init(_ first: VersionReference) { latest = first }

  var count: Int { older.count + 1 }
  var isAlive: Bool { !latest.isTombstone }

  subscript(index: Int) -> VersionReference { index < older.count ? older[index] : latest }

  mutating func append(_ reference: VersionReference) {
    older.append(latest)
    latest = reference
  }

  /// The version that a read at main revision `revision` sees, nil when there was none or it is a tombstone.
  @inline(__always)
  func visible(at revision: Int64) -> VersionReference? {
    if latest.main <= revision { return latest.isTombstone ? nil : latest }
    let index = firstIndex(after: revision)
    guard index > 0, !self[index - 1].isTombstone else { return nil }
    return self[index - 1]
  }

  /// The index of the first version made after main revision `revision`; `count` when there is none.
  func firstIndex(after revision: Int64) -> Int {
    if latest.main <= revision { return count }
    var low = 0
    var high = older.count
    while low < high {
      let middle = (low + high) / 2
      if older[middle].main <= revision { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The version right before the one at `ordinal`.
  func predecessor(of ordinal: UInt64) -> VersionReference? {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if self[middle].ordinal < ordinal { low = middle + 1 } else { high = middle }
    }
    return low > 0 ? self[low - 1] : nil
  }

  /// How many of the oldest versions a compaction at `revision` forgets: all before the newest one at or below it,
  /// and that one too when it is a tombstone of an earlier revision. A tombstone of `revision` itself is kept, so
  /// that a reader who resumes there still learns of the deletion (etcd since 3.5.16).
  func expendableCount(at revision: Int64) -> Int {
    let index = firstIndex(after: revision)
    guard index > 0 else { return 0 }
    let newest = self[index - 1]
    return newest.isTombstone && newest.main < revision ? index : index - 1
  }

  /// Whether a compaction at `revision` keeps the version at `ordinal`.
  func keeps(ordinal: UInt64, compactedAt revision: Int64) -> Bool {
    let expendable = expendableCount(at: revision)
    return expendable == 0 || (expendable < count && ordinal >= self[expendable].ordinal)
  }

  /// Drops the oldest `expendable` versions, of which there must be fewer than `count`.
  mutating func dropFirst(_ expendable: Int) {
    precondition(expendable < count, "a history without versions belongs to no key")
    older.removeFirst(expendable)
    if older.isEmpty { older = [] }
  }
}
