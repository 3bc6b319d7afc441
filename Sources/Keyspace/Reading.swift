import Primitives

extension Keyspace {
  /// Reads at `query.revision` (0 = current). Throws `.compacted` or `.futureRevision`.
  package func range(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult {
    try range(query, asOf: revision)
  }

  /// As `range`, for a reader to whom `current` is the current revision: inside a transaction that has made changes,
  /// the one it is making.
  func range(_ query: RangeQuery, asOf current: Int64) throws(KeyspaceError) -> RangeResult {
    guard query.revision <= current else { throw .futureRevision }
    let revision = query.revision > 0 ? query.revision : current
    guard revision >= compactedRevision else { throw .compacted(compactRevision: compactRevision) }

    // etcd reads the whole range when it has to sort or to filter, and otherwise one record more than the limit.
    let fetchesAll = query.sortOrder != .none || query.filtersRevisions || query.limit <= 0
    let fetchCount = query.countOnly ? 0 : fetchesAll ? Int.max : Int(clamping: query.limit).advancedClamping(by: 1)
    var records: [KeyRecord] = []
    var count: Int64 = 0
    index.forEach(in: query.range) { _, history in
      if let version = history.visible(at: revision) {
        count += 1
        if records.count < fetchCount { records.append(log[version.ordinal].record) }
      }
      return true
    }
    if query.filtersRevisions { records.removeAll { !query.admits($0) } }
    query.sort(&records)
    let more = query.limit > 0 && records.count > query.limit
    if more { records.removeSubrange(Int(query.limit)...) }
    if query.keysOnly {
      for index in records.indices { records[index].value = Bytes() }
    }
    return RangeResult(records: records, count: count, more: more, revision: current)
  }
}

extension RangeQuery {
  fileprivate var filtersRevisions: Bool {
    minModRevision != 0 || maxModRevision != 0 || minCreateRevision != 0 || maxCreateRevision != 0
  }

  fileprivate func admits(_ record: KeyRecord) -> Bool {
    (maxModRevision == 0 || record.modRevision <= maxModRevision)
      && (minModRevision == 0 || record.modRevision >= minModRevision)
      && (maxCreateRevision == 0 || record.createRevision <= maxCreateRevision)
      && (minCreateRevision == 0 || record.createRevision >= minCreateRevision)
  }

  /// Sorts records that are in ascending order of their keys. A target other than the key without an order means
  /// ascending; etcd has then already cut the records to one more than the limit (seen on 3.4.23). Records that tie
  /// stay in the order of their keys.
  fileprivate func sort(_ records: inout [KeyRecord]) {
    let isDescending = sortOrder == .descend
    switch sortTarget {
    case .key: if isDescending { records.reverse() }
    case .version: records.sort(by: \.version, isDescending)
    case .create: records.sort(by: \.createRevision, isDescending)
    case .mod: records.sort(by: \.modRevision, isDescending)
    case .value: records.sort(by: \.value, isDescending)
    }
  }
}

extension [KeyRecord] {
  fileprivate mutating func sort<Field: Comparable>(by field: (KeyRecord) -> Field, _ isDescending: Bool) {
    sort { left, right in
      let (leftField, rightField) = (field(left), field(right))
      if leftField == rightField { return left.key < right.key }
      return isDescending ? leftField > rightField : leftField < rightField
    }
  }
}

extension Int {
  fileprivate func advancedClamping(by distance: Int) -> Int {
    let (sum, overflow) = addingReportingOverflow(distance)
    return overflow ? .max : sum
  }
}
