import Keyspace
import Primitives
import StateMachine

/// Reads ranges of any size without holding the applied state's lock for long: in pages, all at the revision of the
/// first one, so that the answer is one moment of the keyspace.
struct RangeReader<Node: NodeHandle>: Sendable {
  let node: Node

  /// Keys that one hold of the lock reads.
  static var pageKeys: Int64 { 1_000 }
  private static var attempts: Int { 3 }

  func read(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult {
    guard Self.canBePaged(query) else { return try readAtOnce(query) }
    for _ in 0..<Self.attempts {
      if let result = try readPages(query) { return result }
    }
    return try readAtOnce(query)
  }

  /// A single key, a count, or an answer in another order than the keyspace's own takes one hold.
  private static func canBePaged(_ query: RangeQuery) -> Bool {
    if case .single = query.range { return false }
    return !query.countOnly && query.sortTarget == .key && query.sortOrder != .descend
      && (query.limit == 0 || query.limit > pageKeys)
  }

  private func readAtOnce(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult {
    try node.read { state in
      Result { () throws(KeyspaceError) in try state.keyspace.range(query) }
    }.get()
  }

  /// Nil when a compaction took the revision away between two pages: the caller asked for the current state, so it
  /// gets a newer one. (A query that names its revision is told that it was compacted, as it would be a moment later.)
  private func readPages(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult? {
    var page = query
    page.limit = Self.pageKeys
    var whole = try readAtOnce(page)
    page.revision = query.revision == 0 ? whole.revision : query.revision
    while whole.more, query.limit == 0 || whole.records.count < query.limit, let last = whole.records.last {
      page.range = Self.rest(of: query.range, after: last.key)
      if query.limit > 0 { page.limit = min(Self.pageKeys, query.limit - Int64(whole.records.count)) }
      do throws(KeyspaceError) {
        let next = try readAtOnce(page)
        whole.records += next.records
        whole.more = next.more
      } catch .compacted where query.revision == 0 {
        return nil
      }
    }
    return whole
  }

  private static func rest(of range: KeyRange, after key: Bytes) -> KeyRange {
    switch range {
    case .halfOpen(_, let end): .halfOpen(start: key.successor, end: end)
    case .single, .from: .from(key.successor)
    }
  }
}
