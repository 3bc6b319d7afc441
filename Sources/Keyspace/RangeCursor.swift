import Primitives

/// A range read piece by piece, in the order of its keys, from one moment of the keyspace: it holds a copy, which
/// shares what it can with the original. A copy of the cursor reads the rest again.
package struct RangeCursor: Sendable {
  private let keyspace: Keyspace
  private let revision: Int64
  /// What has not been visited; nil when the end was reached.
  private var rest: KeyRange?

  /// At `revision`, 0 or less being the current one. Throws `.compacted` or `.futureRevision`.
  package init(_ keyspace: Keyspace, _ range: KeyRange, revision: Int64) throws(KeyspaceError) {
    self.revision = try keyspace.revision(toRead: revision, asOf: keyspace.revision)
    self.keyspace = keyspace
    rest = range
  }

  /// Visits the records that follow, until `body` answers false: that record counts as visited.
  package mutating func visit(_ body: (KeyRecord) -> Bool) {
    guard let range = rest else { return }
    var last: Bytes?
    keyspace.index.forEach(in: range) { key, history in
      guard let version = history.visible(at: revision) else { return true }
      guard !body(keyspace.log[version.ordinal].record) else { return true }
      last = key
      return false
    }
    rest = last.flatMap { range.after($0) }
  }

  /// Passes over the records that follow and counts them, without a look at their versions.
  package mutating func countRest() -> Int {
    guard let range = rest else { return 0 }
    var count = 0
    keyspace.index.forEach(in: range) { _, history in
      if history.visible(at: revision) != nil { count += 1 }
      return true
    }
    rest = nil
    return count
  }
}

extension KeyRange {
  /// The part of the range behind `key`, which lies in it; nil when there is none.
  fileprivate func after(_ key: Bytes) -> KeyRange? {
    switch self {
    case .single: nil
    case .halfOpen(_, let end): .halfOpen(start: key.successor, end: end)
    case .from: .from(key.successor)
    }
  }
}

extension Keyspace {
  /// Whether a read of the range touches at most `limit` keys, those counted that are deleted by now. Looks at no more
  /// than that.
  package func isShort(_ range: KeyRange, limit: Int) -> Bool {
    if case .single = range { return true }
    var count = 0
    index.forEach(in: range) { _, _ in
      count += 1
      return count <= limit
    }
    return count <= limit
  }
}
