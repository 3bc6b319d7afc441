import Primitives

extension Keyspace {
  /// Reads at `query.revision` (0 = current). Throws `.compacted` or `.futureRevision`.
  package func range(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult {
    try range(query, asOf: revision)
  }

  /// As `range`; nil once the records read have more than `maxBytes`, wanted or not.
  package func range(_ query: RangeQuery, maxBytes: Int) throws(KeyspaceError) -> RangeResult? {
    var isTooLarge = false
    let result = try range(query, asOf: revision, maxBytes: maxBytes, isTooLarge: &isTooLarge)
    return isTooLarge ? nil : result
  }

  /// Whether a read of the range at this revision (0: the current one) touches at most `limit` keys, and none of the
  /// archive's: then it costs next to nothing.
  package func isAtHand(_ range: KeyRange, revision: Int64, limit: Int) -> Bool {
    let revision = revision > 0 ? revision : self.revision
    var count = 0
    var isAtHand = true
    index.forEach(in: range) { _, history in
      count += 1
      if let version = history.visible(at: revision), !log.isRecent(version.ordinal) { isAtHand = false }
      isAtHand = isAtHand && count <= limit
      return isAtHand
    }
    return isAtHand
  }

  /// The revision that a reader means, to whom `current` is the current one; 0 or less asks for that.
  func revision(toRead asked: Int64, asOf current: Int64) throws(KeyspaceError) -> Int64 {
    guard asked <= current else { throw .futureRevision }
    let revision = asked > 0 ? asked : current
    guard revision >= compactedRevision else { throw .compacted(compactRevision: compactRevision) }
    return revision
  }

  /// As `range`, for a reader to whom `current` is the current revision: inside a transaction that has made changes,
  /// the one it is making.
  func range(_ query: RangeQuery, asOf current: Int64) throws(KeyspaceError) -> RangeResult {
    var isTooLarge = false
    return try range(query, asOf: current, maxBytes: .max, isTooLarge: &isTooLarge)
  }

  private func range(
    _ query: RangeQuery, asOf current: Int64, maxBytes: Int, isTooLarge: inout Bool
  ) throws(KeyspaceError) -> RangeResult {
    let revision = try revision(toRead: query.revision, asOf: current)

    let fetchCount = query.fetchCount
    var records: [KeyRecord] = []
    var count: Int64 = 0
    var bytesLeft = maxBytes
    index.forEach(in: query.range) { _, history in
      guard let version = history.visible(at: revision) else { return true }
      count += 1
      guard records.count < fetchCount else { return true }
      let record = log[version.ordinal].record
      bytesLeft -= record.key.count + record.value.count
      records.append(record)
      return bytesLeft >= 0
    }
    if bytesLeft < 0 { isTooLarge = true }
    let more = query.arrange(&records)
    if query.keysOnly {
      for index in records.indices { records[index].value = Bytes() }
    }
    return RangeResult(records: records, count: count, more: more, revision: current)
  }
}

/// What has been read of a range, to be sorted and sifted.
protocol FoundRecord {
  var record: KeyRecord { get }
}

extension KeyRecord: FoundRecord {
  var record: KeyRecord { self }
}

extension RangeQuery {
  /// How many records have to be read: etcd reads the whole range when it has to sort or to filter, and otherwise one
  /// record more than the limit.
  var fetchCount: Int {
    if countOnly { return 0 }
    if sortOrder != .none || filtersRevisions || limit <= 0 { return .max }
    return Int(clamping: limit).advancedClamping(by: 1)
  }

  /// Leaves out what the filters do not admit, sorts, and cuts at the limit: answers whether that took some away.
  func arrange(_ records: inout [some FoundRecord]) -> Bool {
    if filtersRevisions { records.removeAll { !admits($0.record) } }
    sort(&records)
    guard limit > 0, records.count > limit else { return false }
    records.removeSubrange(Int(limit)...)
    return true
  }

  private var filtersRevisions: Bool {
    minModRevision != 0 || maxModRevision != 0 || minCreateRevision != 0 || maxCreateRevision != 0
  }

  private func admits(_ record: KeyRecord) -> Bool {
    (maxModRevision == 0 || record.modRevision <= maxModRevision)
      && (minModRevision == 0 || record.modRevision >= minModRevision)
      && (maxCreateRevision == 0 || record.createRevision <= maxCreateRevision)
      && (minCreateRevision == 0 || record.createRevision >= minCreateRevision)
  }

  /// Sorts records that are in ascending order of their keys. A target other than the key without an order means
  /// ascending; etcd has then already cut the records to one more than the limit (seen on 3.4.23). Records that tie
  /// stay in the order of their keys.
  private func sort(_ records: inout [some FoundRecord]) {
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

extension Array where Element: FoundRecord {
  fileprivate mutating func sort<Field: Comparable>(by field: (KeyRecord) -> Field, _ isDescending: Bool) {
    sort { left, right in
      let (leftField, rightField) = (field(left.record), field(right.record))
      if leftField == rightField { return left.record.key < right.record.key }
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
