import Keyspace
import Primitives
import Wire

/// What etcd refuses before it proposes anything (its v3rpc layer), in etcd's order.
enum RequestCheck {
  static func check(_ query: RangeQuery) throws(GRPCStatus) {
    let flaw = query.flaw
    if flaw == .noOperation { throw EtcdErrors.keyNotFound }
    if query.range.hasEmptyKey { throw EtcdErrors.emptyKey }
    if flaw == .unknownSortOption { throw EtcdErrors.invalidSortOption }
  }

  static func check(_ request: PutRequest) throws(GRPCStatus) {
    if request.key.isEmpty { throw EtcdErrors.emptyKey }
    if request.ignoresValue, !request.value.isEmpty { throw EtcdErrors.valueProvided }
    if request.ignoresLease, request.lease != 0 { throw EtcdErrors.leaseProvided }
  }

  static func check(_ request: DeleteRequest) throws(GRPCStatus) {
    if request.range.hasEmptyKey { throw EtcdErrors.emptyKey }
  }

  static func check(_ request: TransactionRequest, maxOperations: Int) throws(GRPCStatus) {
    try checkOperations(request, maxOperations: maxOperations, depth: 1)
    try WrittenKeys.check(request.success)
    try WrittenKeys.check(request.failure)
  }

  /// The longest of the three lists counts against the limit; what is left of it is the limit of inner transactions.
  /// How deep they nest is bounded too, by what the log can hold; etcd's only bound is that each level uses up an
  /// operation.
  private static func checkOperations(
    _ request: TransactionRequest, maxOperations: Int, depth: Int
  ) throws(GRPCStatus) {
    let longest = max(request.comparisons.count, request.success.count, request.failure.count)
    if longest > maxOperations || depth > Limits.maxTransactionDepth { throw EtcdErrors.tooManyOperations }
    for comparison in request.comparisons where comparison.range.hasEmptyKey { throw EtcdErrors.emptyKey }
    for operation in request.success { try check(operation, maxOperations - longest, depth) }
    for operation in request.failure { try check(operation, maxOperations - longest, depth) }
  }

  private static func check(_ operation: Operation, _ maxOperations: Int, _ depth: Int) throws(GRPCStatus) {
    switch operation {
    case .range(let query): try check(query)
    case .put(let request): try check(request)
    case .delete(let request): try check(request)
    case .transaction(let request): try checkOperations(request, maxOperations: maxOperations, depth: depth + 1)
    }
  }
}

extension KeyRange {
  fileprivate var hasEmptyKey: Bool {
    switch self {
    case .single(let key), .from(let key), .halfOpen(start: let key, end: _): key.isEmpty
    }
  }
}

/// What one list of operations would write, inner transactions included: refused when a key is put twice, or put and
/// deleted, where both could happen.
///
/// etcd's rule (checkIntervals): a put clashes with every delete of its own list; with the deletes of inner
/// transactions that stand before its own transaction; and a put of the list itself with all inner ones too. The two
/// branches of one inner transaction exclude each other, so they may put the same key.
private struct WrittenKeys {
  /// Puts that are compared with each other one by one, which for so few beats a set.
  private static let fewPuts = 16

  private(set) var puts: Set<Bytes> = []
  private(set) var deletes = KeyIntervals()

  static func check(_ operations: [Operation]) throws(GRPCStatus) {
    if !areFewDistinctPuts(operations) { _ = try WrittenKeys(operations) }
  }

  /// The common case, settled without an allocation: few puts, beside ranges only, and no key twice.
  private static func areFewDistinctPuts(_ operations: [Operation]) -> Bool {
    guard operations.count <= fewPuts else { return false }
    for (position, operation) in operations.enumerated() {
      switch operation {
      case .range: continue
      case .delete, .transaction: return false
      case .put(let put):
        for case .put(let earlier) in operations[..<position] where earlier.key == put.key { return false }
      }
    }
    return true
  }

  private init(_ operations: [Operation]) throws(GRPCStatus) {
    for case .delete(let request) in operations { deletes.insert(request.range) }
    for case .transaction(let request) in operations { try add(request) }
    for case .put(let request) in operations { try addPut(request.key) }
  }

  private mutating func add(_ inner: TransactionRequest) throws(GRPCStatus) {
    let success = try WrittenKeys(inner.success)
    let failure = try WrittenKeys(inner.failure)
    for key in success.puts { try addPut(key) }
    for key in failure.puts {
      if success.puts.contains(key) { continue }
      try addPut(key)
    }
    deletes.formUnion(success.deletes)
    deletes.formUnion(failure.deletes)
  }

  private mutating func addPut(_ key: Bytes) throws(GRPCStatus) {
    if deletes.contains(key) { throw EtcdErrors.duplicateKey }
    guard puts.insert(key).inserted else { throw EtcdErrors.duplicateKey }
  }
}

/// A set of keys made of intervals. Sorted and merged when first asked after a change, so that a large transaction
/// costs n log n and not n².
struct KeyIntervals {
  private var intervals: [(start: Bytes, end: Bytes)] = []
  private var sorted = true

  /// An empty or inverted interval adds nothing. As in etcd's check, a `range_end` of one zero byte is taken for the
  /// key that it is and not for "everything from here on": such a delete may stand beside any put.
  mutating func insert(_ range: KeyRange) {
    let (start, end) =
      switch range {
      case .single(let key): (key, key.successor)
      case .halfOpen(let start, let end): (start, end)
      case .from(let start): (start, Bytes([0]))
      }
    guard start < end else { return }
    intervals.append((start, end))
    sorted = false
  }

  mutating func formUnion(_ other: KeyIntervals) {
    guard !other.intervals.isEmpty else { return }
    intervals += other.intervals
    sorted = false
  }

  mutating func contains(_ key: Bytes) -> Bool {
    if !sorted { sort() }
    // The last interval that starts at or before the key.
    var low = 0
    var high = intervals.count
    while low < high {
      let middle = (low + high) / 2
      if intervals[middle].start <= key { low = middle + 1 } else { high = middle }
    }
    return low > 0 && key < intervals[low - 1].end
  }

  private mutating func sort() {
    intervals.sort { $0.start < $1.start }
    var merged: [(start: Bytes, end: Bytes)] = []
    for interval in intervals {
      if let last = merged.last, interval.start <= last.end {
        merged[merged.count - 1].end = max(interval.end, last.end)
      } else {
        merged.append(interval)
      }
    }
    intervals = merged
    sorted = true
  }
}
