import Primitives

/// A range that has to be sorted or sifted before it can be answered: the records as places in the log of one moment of
/// the keyspace. What it holds grows with their number, not with their values, which are read again one by one.
package struct RangeSelection: Sendable {
  private struct Found: FoundRecord {
    var record: KeyRecord
    var ordinal: UInt64
    var bytes: Int
  }

  private let keyspace: Keyspace
  private let keysOnly: Bool
  private let ordinals: [UInt64]
  /// As in `RangeResult`.
  package let count: Int64
  package let more: Bool
  /// The sum of what `measure` said of the records that are left.
  package let measuredBytes: Int

  /// Throws `.compacted` or `.futureRevision`.
  /// - Parameter measure: of each record as it will be read, without its value when only keys are wanted.
  package init(_ keyspace: Keyspace, _ query: RangeQuery, measure: (KeyRecord) -> Int) throws(KeyspaceError) {
    let revision = try keyspace.revision(toRead: query.revision, asOf: keyspace.revision)
    let fetchCount = query.fetchCount
    var found: [Found] = []
    var count: Int64 = 0
    keyspace.index.forEach(in: query.range) { _, history in
      guard let version = history.visible(at: revision) else { return true }
      count += 1
      guard found.count < fetchCount else { return true }
      var record = keyspace.log[version.ordinal].record
      let value = record.value
      if query.keysOnly { record.value = Bytes() }
      let bytes = measure(record)
      record.value = query.sortTarget == .value ? value : Bytes()
      found.append(Found(record: record, ordinal: version.ordinal, bytes: bytes))
      return true
    }
    more = query.arrange(&found)
    ordinals = found.map(\.ordinal)
    measuredBytes = found.reduce(0) { $0 + $1.bytes }
    self.count = count
    self.keyspace = keyspace
    keysOnly = query.keysOnly
  }

  /// How many records there are.
  package var recordCount: Int { ordinals.count }

  package subscript(place: Int) -> KeyRecord {
    var record = keyspace.log[ordinals[place]].record
    if keysOnly { record.value = Bytes() }
    return record
  }
}
