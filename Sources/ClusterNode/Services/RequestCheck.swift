import EtcdAPI
import Foundation
import Keyspace
import Primitives
import Wire

/// What etcd refuses before it proposes anything (its v3rpc layer), in etcd's order.
enum RequestCheck {
  static func check(_ request: EtcdRangeRequest) throws(GRPCStatus) {
    if request.key.isEmpty { throw EtcdErrors.emptyKey }
    if case .UNRECOGNIZED = request.sortOrder { throw EtcdErrors.invalidSortOption }
    if case .UNRECOGNIZED = request.sortTarget { throw EtcdErrors.invalidSortOption }
  }

  static func check(_ request: EtcdPutRequest) throws(GRPCStatus) {
    if request.key.isEmpty { throw EtcdErrors.emptyKey }
    if request.ignoreValue, !request.value.isEmpty { throw EtcdErrors.valueProvided }
    if request.ignoreLease, request.lease != 0 { throw EtcdErrors.leaseProvided }
  }

  static func check(_ request: EtcdDeleteRangeRequest) throws(GRPCStatus) {
    if request.key.isEmpty { throw EtcdErrors.emptyKey }
  }

  static func check(_ request: EtcdTxnRequest, maxOperations: Int) throws(GRPCStatus) {
    try checkOperations(request, maxOperations: maxOperations, depth: 1)
    _ = try WrittenKeys(request.success)
    _ = try WrittenKeys(request.failure)
  }

  /// The longest of the three lists counts against the limit; what is left of it is the limit of inner transactions.
  /// How deep they nest is bounded too, by what the log can hold; etcd's only bound is that each level uses up an
  /// operation.
  private static func checkOperations(
    _ request: EtcdTxnRequest, maxOperations: Int, depth: Int
  ) throws(GRPCStatus) {
    let longest = max(request.compare.count, request.success.count, request.failure.count)
    if longest > maxOperations || depth > Limits.maxTransactionDepth { throw EtcdErrors.tooManyOperations }
    for compare in request.compare where compare.key.isEmpty { throw EtcdErrors.emptyKey }
    for operation in request.success { try check(operation, maxOperations - longest, depth) }
    for operation in request.failure { try check(operation, maxOperations - longest, depth) }
  }

  private static func check(_ operation: EtcdRequestOp, _ maxOperations: Int, _ depth: Int) throws(GRPCStatus) {
    switch operation.request {
    case .requestRange(let request): try check(request)
    case .requestPut(let request): try check(request)
    case .requestDeleteRange(let request): try check(request)
    case .requestTxn(let request): try checkOperations(request, maxOperations: maxOperations, depth: depth + 1)
    case nil: throw EtcdErrors.keyNotFound
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
  private(set) var puts: Set<Bytes> = []
  private(set) var deletes = KeyIntervals()

  init(_ operations: [EtcdRequestOp]) throws(GRPCStatus) {
    for case .requestDeleteRange(let request)? in operations.lazy.map(\.request) {
      deletes.insert(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd))
    }
    for case .requestTxn(let request)? in operations.lazy.map(\.request) {
      try add(request)
    }
    for case .requestPut(let request)? in operations.lazy.map(\.request) {
      try addPut(Bytes(request.key))
    }
  }

  private mutating func add(_ inner: EtcdTxnRequest) throws(GRPCStatus) {
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
  mutating func insert(key: Bytes, rangeEnd: Bytes) {
    let end = rangeEnd.isEmpty ? key.successor : rangeEnd
    guard key < end else { return }
    intervals.append((key, end))
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
