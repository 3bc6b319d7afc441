import Primitives

/// Which branch a transaction takes, and those that the transactions nested in that branch take, in order. All are
/// chosen on the state before the outermost transaction, as etcd does (its `compareToPath`).
private struct ChosenPath {
  var succeeded: Bool
  var nested: [ChosenPath] = []
}

extension TransactionRequest {
  fileprivate func operations(on path: ChosenPath) -> [Operation] { path.succeeded ? success : failure }

  /// Calls `body` with the operations that will run, in order, nested ones in their place.
  fileprivate func forEachOperation(
    on path: ChosenPath, _ body: (Operation) throws(KeyspaceError) -> Void
  ) throws(KeyspaceError) {
    var nested = path.nested.makeIterator()
    for operation in operations(on: path) {
      if case .transaction(let request) = operation {
        guard let path = nested.next() else { preconditionFailure("a nested transaction without a path") }
        try request.forEachOperation(on: path, body)
      } else {
        try body(operation)
      }
    }
  }
}

extension Keyspace {
  /// Checks what a transaction needs before it may run (revisions of its ranges, keys of `ignoresValue` puts,
  /// leases of its puts), runs the branch its comparisons choose (later operations see earlier ones), and gives all
  /// its changes one new main revision. Nothing changes when it throws. Events in order are appended.
  ///
  /// etcd's API refuses a transaction that puts a key twice, or puts and deletes it; that check is the service's. Here
  /// such a transaction simply runs in order.
  package mutating func transact(
    _ request: TransactionRequest, leaseExists: (LeaseID) -> Bool, events: inout [KeyspaceEvent]
  ) throws(KeyspaceError) -> TransactionResult {
    let path = choosePath(of: request)
    try check(request, on: path, leaseExists: leaseExists)
    var change = nextChange
    guard mayFailMidway(request, on: path) else {
      let result = try run(request, on: path, at: &change, events: &events)
      commit(change)
      return result
    }
    let before = self
    let eventCount = events.count
    do throws(KeyspaceError) {
      let result = try run(request, on: path, at: &change, events: &events)
      commit(change)
      return result
    } catch {
      self = before
      events.removeSubrange(eventCount...)
      throw error
    }
  }

  private func choosePath(of request: TransactionRequest) -> ChosenPath {
    var path = ChosenPath(succeeded: request.comparisons.allSatisfy(holds))
    for case .transaction(let nested) in request.operations(on: path) {
      path.nested.append(choosePath(of: nested))
    }
    return path
  }

  /// etcd's order: first everything about puts, then the revisions of ranges.
  private func check(
    _ request: TransactionRequest, on path: ChosenPath, leaseExists: (LeaseID) -> Bool
  ) throws(KeyspaceError) {
    try request.forEachOperation(on: path) { operation throws(KeyspaceError) in
      guard case .put(let put) = operation else { return }
      if put.ignoresValue || put.ignoresLease, currentRecord(put.key) == nil { throw .keyNotFound }
      if put.lease != 0, !leaseExists(put.lease) { throw .leaseNotFound }
    }
    try request.forEachOperation(on: path) { operation throws(KeyspaceError) in
      guard case .range(let query) = operation, query.revision != 0 else { return }
      if query.revision > revision { throw .futureRevision }
      if query.revision < compactedRevision { throw .compacted(compactRevision: compactRevision) }
    }
  }

  /// Whether a put that builds on its key's present record could miss it, because something before it deletes.
  private func mayFailMidway(_ request: TransactionRequest, on path: ChosenPath) -> Bool {
    var (deletes, ignores) = (false, false)
    func look(_ request: TransactionRequest, _ path: ChosenPath) {
      var nested = path.nested.makeIterator()
      for operation in request.operations(on: path) {
        switch operation {
        case .put(let put): if put.ignoresValue || put.ignoresLease { ignores = true }
        case .delete: deletes = true
        case .transaction(let request): if let path = nested.next() { look(request, path) }
        case .range: break
        }
      }
    }
    look(request, path)
    return deletes && ignores
  }

  private mutating func run(
    _ request: TransactionRequest, on path: ChosenPath, at change: inout Revision, events: inout [KeyspaceEvent]
  ) throws(KeyspaceError) -> TransactionResult {
    var nested = path.nested.makeIterator()
    var results: [OperationResult] = []
    let operations = request.operations(on: path)
    results.reserveCapacity(operations.count)
    for operation in operations {
      switch operation {
      case .range(let query):
        let current = change.sub > 0 ? change.main : revision
        results.append(.range(try range(query, asOf: current)))
      case .put(let put):
        results.append(.put(previous: try apply(put, at: &change, events: &events)))
      case .delete(let delete):
        results.append(.delete(apply(delete, at: &change, events: &events)))
      case .transaction(let request):
        guard let path = nested.next() else { preconditionFailure("a nested transaction without a path") }
        results.append(.transaction(try run(request, on: path, at: &change, events: &events)))
      }
    }
    return TransactionResult(succeeded: path.succeeded, results: results)
  }
}

extension Keyspace {
  /// Whether every key of the range satisfies the comparison now; with no key in the range see `Comparison`.
  private func holds(_ comparison: Comparison) -> Bool {
    var anyKey = false
    var allHold = true
    index.forEach(in: comparison.range) { _, history in
      guard history.isAlive else { return true }
      anyKey = true
      allHold = comparison.holds(for: log[history.latest.ordinal].record)
      return allHold
    }
    if anyKey { return allHold }
    if case .value = comparison.target { return false }
    return comparison.holds(
      for: KeyRecord(key: Bytes(), value: Bytes(), createRevision: 0, modRevision: 0, version: 0))
  }
}

extension Comparison {
  fileprivate func holds(for record: KeyRecord) -> Bool {
    switch target {
    case .version(let version): holds(record.version, version)
    case .createRevision(let revision): holds(record.createRevision, revision)
    case .modRevision(let revision): holds(record.modRevision, revision)
    case .value(let value): holds(record.value, value)
    case .lease(let lease): holds(record.lease, lease)
    }
  }

  private func holds<Field: Comparable>(_ actual: Field, _ wanted: Field) -> Bool {
    switch result {
    case .equal: actual == wanted
    case .greater: actual > wanted
    case .less: actual < wanted
    case .notEqual: actual != wanted
    }
  }
}
