import Keyspace
import Primitives

/// The keyspace as one would write it without caring for speed: the list of all changes ever made, replayed for each
/// question. What the real one is held against.
struct NaiveKeyspace {
  private(set) var changes: [KeyspaceEvent] = []
  private(set) var revision: Int64 = 1
  private(set) var compactedRevision: Int64 = -1

  func state(at revision: Int64) -> [Bytes: KeyRecord] {
    var state: [Bytes: KeyRecord] = [:]
    for change in changes where change.record.modRevision <= revision {
      state[change.record.key] = change.kind == .put ? change.record : nil
    }
    return state
  }

  func range(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult { try range(query, asOf: revision) }

  private func range(_ query: RangeQuery, asOf current: Int64) throws(KeyspaceError) -> RangeResult {
    if query.revision > current { throw .futureRevision }
    let revision = query.revision == 0 ? current : query.revision
    if revision < compactedRevision { throw .compacted(compactRevision: max(0, compactedRevision)) }
    let all = state(at: revision).values.filter { query.range.contains($0.key) }.sorted { $0.key < $1.key }
    var records = query.countOnly ? [] : all
    let hasFilter = [
      query.minModRevision, query.maxModRevision, query.minCreateRevision, query.maxCreateRevision,
    ].contains { $0 != 0 }
    if query.limit > 0, query.sortOrder == .none, !hasFilter { records = Array(records.prefix(Int(query.limit) + 1)) }
    records = records.filter {
      (query.minModRevision == 0 || $0.modRevision >= query.minModRevision)
        && (query.maxModRevision == 0 || $0.modRevision <= query.maxModRevision)
        && (query.minCreateRevision == 0 || $0.createRevision >= query.minCreateRevision)
        && (query.maxCreateRevision == 0 || $0.createRevision <= query.maxCreateRevision)
    }
    let sign: Int64 = query.sortOrder == .descend ? -1 : 1
    records.sort { left, right in
      let order = sign * Self.order(left, right, by: query.sortTarget)
      return order == 0 ? left.key < right.key : order < 0
    }
    let more = query.limit > 0 && records.count > query.limit
    if more { records = Array(records.prefix(Int(query.limit))) }
    if query.keysOnly { for index in records.indices { records[index].value = Bytes() } }
    return RangeResult(records: records, count: Int64(all.count), more: more, revision: current)
  }

  private static func order(_ left: KeyRecord, _ right: KeyRecord, by target: SortTarget) -> Int64 {
    switch target {
    case .key: Int64(left.key.compare(right.key))
    case .value: Int64(left.value.compare(right.value))
    case .version: left.version - right.version
    case .create: left.createRevision - right.createRevision
    case .mod: left.modRevision - right.modRevision
    }
  }

  /// Runs a transaction; nothing changes when it throws. Every other change is a transaction of one operation.
  mutating func transact(
    _ request: TransactionRequest, leaseExists: (LeaseID) -> Bool
  ) throws(KeyspaceError) -> TransactionResult {
    let before = state(at: revision)
    let operations = Self.flatten(request, on: before)
    for case .put(let put) in operations {
      if put.ignoresValue || put.ignoresLease, before[put.key] == nil { throw .keyNotFound }
      if put.lease != 0, !leaseExists(put.lease) { throw .leaseNotFound }
    }
    for case .range(let query) in operations where query.revision != 0 {
      if query.revision > revision { throw .futureRevision }
      if query.revision < compactedRevision { throw .compacted(compactRevision: max(0, compactedRevision)) }
    }
    let saved = self
    do throws(KeyspaceError) {
      let count = changes.count
      let result = try run(request, chosenOn: before)
      if changes.count > count { revision += 1 }
      return result
    } catch {
      self = saved
      throw error
    }
  }

  private static func branch(of request: TransactionRequest, on state: [Bytes: KeyRecord]) -> (Bool, [Operation]) {
    let succeeded = request.comparisons.allSatisfy { holds($0, on: state) }
    return (succeeded, succeeded ? request.success : request.failure)
  }

  private static func flatten(_ request: TransactionRequest, on state: [Bytes: KeyRecord]) -> [Operation] {
    branch(of: request, on: state).1.flatMap { operation in
      if case .transaction(let nested) = operation { flatten(nested, on: state) } else { [operation] }
    }
  }

  private mutating func run(
    _ request: TransactionRequest, chosenOn before: [Bytes: KeyRecord]
  ) throws(KeyspaceError) -> TransactionResult {
    let (succeeded, operations) = Self.branch(of: request, on: before)
    var results: [OperationResult] = []
    for operation in operations {
      switch operation {
      case .range(let query):
        let hasChanged = (changes.last?.record.modRevision ?? 0) > revision
        results.append(.range(try range(query, asOf: hasChanged ? revision + 1 : revision)))
      case .put(let put): results.append(.put(previous: try apply(put)))
      case .delete(let delete): results.append(.delete(apply(delete)))
      case .transaction(let nested): results.append(.transaction(try run(nested, chosenOn: before)))
      }
    }
    return TransactionResult(succeeded: succeeded, results: results)
  }

  private mutating func apply(_ put: PutRequest) throws(KeyspaceError) -> KeyRecord? {
    let previous = state(at: .max)[put.key]
    if put.ignoresValue || put.ignoresLease, previous == nil { throw .keyNotFound }
    let record = KeyRecord(
      key: put.key, value: put.ignoresValue ? previous!.value : put.value,
      createRevision: previous?.createRevision ?? revision + 1, modRevision: revision + 1,
      version: (previous?.version ?? 0) + 1, lease: put.ignoresLease ? previous!.lease : put.lease)
    changes.append(KeyspaceEvent(kind: .put, record: record, previous: previous))
    return put.wantsPrevious ? previous : nil
  }

  private mutating func apply(_ delete: DeleteRequest) -> DeleteResult {
    let doomed = state(at: .max).values.filter { delete.range.contains($0.key) }.sorted { $0.key < $1.key }
    for previous in doomed {
      let tombstone = KeyRecord(
        key: previous.key, value: "", createRevision: 0, modRevision: revision + 1, version: 0)
      changes.append(KeyspaceEvent(kind: .delete(.deleted), record: tombstone, previous: previous))
    }
    return DeleteResult(deleted: Int64(doomed.count), previous: delete.wantsPrevious ? doomed : [])
  }

  private static func holds(_ comparison: Comparison, on state: [Bytes: KeyRecord]) -> Bool {
    let records = state.values.filter { comparison.range.contains($0.key) }
    if records.isEmpty {
      if case .value = comparison.target { return false }
      return holds(comparison, for: KeyRecord(key: "", value: "", createRevision: 0, modRevision: 0, version: 0))
    }
    return records.allSatisfy { holds(comparison, for: $0) }
  }

  private static func holds(_ comparison: Comparison, for record: KeyRecord) -> Bool {
    let order: Int
    switch comparison.target {
    case .version(let version): order = Int(record.version - version)
    case .createRevision(let revision): order = Int(record.createRevision - revision)
    case .modRevision(let revision): order = Int(record.modRevision - revision)
    case .value(let value): order = record.value.compare(value)
    case .lease(let lease): order = Int(record.lease - lease)
    }
    switch comparison.result {
    case .equal: return order == 0
    case .notEqual: return order != 0
    case .less: return order < 0
    case .greater: return order > 0
    }
  }

  mutating func compact(to revision: Int64) throws(KeyspaceError) {
    if revision <= compactedRevision { throw .compacted(compactRevision: max(0, compactedRevision)) }
    if revision > self.revision { throw .futureRevision }
    compactedRevision = revision
  }

  func history(from revision: Int64, in range: KeyRange) throws(KeyspaceError) -> [KeyspaceEvent] {
    if revision <= compactedRevision { throw .compacted(compactRevision: max(0, compactedRevision)) }
    return changes.filter { $0.record.modRevision >= revision && range.contains($0.record.key) }
  }
}
