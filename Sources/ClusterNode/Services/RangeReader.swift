import Keyspace
import Primitives
import StateMachine

/// Reads the keyspace without holding the applied state's lock, or the event loop, for longer than a moment.
///
/// A few keys whose versions are in memory are read under the lock. Everything else is read from a copy taken under it, so
/// that no writer waits for the engine's disk: copying shares all nodes, so it is cheap; the writes that come meanwhile
/// duplicate the few nodes they touch. Either way the answer is one moment of the keyspace, and a compaction cannot come
/// in between.
struct RangeReader<Node: NodeHandle>: Sendable {
  /// Keys that may be read under the lock.
  private static var maxKeysUnderLock: Int { 256 }
  /// Keys that may be read on an event loop, and their bytes: more than any one key and value can have.
  private static var maxKeysOnLoop: Int { 4_096 }
  private static var maxBytesOnLoop: Int { 2 << 20 }

  enum Reading {
    case done(Result<RangeResult, KeyspaceError>)
    /// Too long for an event loop: to be read from this copy, elsewhere.
    case scan(Keyspace)
  }

  let node: Node

  func read(_ query: RangeQuery) -> Reading {
    let reading = node.read { state -> Reading in
      guard state.keyspace.isAtHand(query.range, revision: query.revision, limit: Self.maxKeysUnderLock) else {
        return .scan(state.keyspace)
      }
      return .done(state.keyspace.outcome(of: query))
    }
    guard case .scan(let copy) = reading, copy.isShort(query.range, limit: Self.maxKeysOnLoop),
      let outcome = copy.outcome(of: query, maxBytes: Self.maxBytesOnLoop)
    else { return reading }
    return .done(outcome)
  }

  /// A copy to run a transaction on that only reads, and whether that is quick enough for an event loop.
  func prepare(_ request: TransactionRequest) -> (copy: Keyspace, isShort: Bool) {
    let copy = node.read { $0.keyspace }
    return (copy, request.ranges.allSatisfy { copy.isShort($0, limit: Self.maxKeysOnLoop / Limits.maxTxnOperations) })
  }
}

extension Keyspace {
  fileprivate func outcome(of query: RangeQuery) -> Result<RangeResult, KeyspaceError> {
    do throws(KeyspaceError) { return .success(try range(query)) } catch { return .failure(error) }
  }

  /// nil when it is too much.
  fileprivate func outcome(of query: RangeQuery, maxBytes: Int) -> Result<RangeResult, KeyspaceError>? {
    do throws(KeyspaceError) { return try range(query, maxBytes: maxBytes).map { .success($0) } } catch {
      return .failure(error)
    }
  }

  /// Runs a transaction that only reads. Its revision is the keyspace's.
  func answer(_ request: TransactionRequest) throws(KeyspaceError) -> TransactionResult {
    var copy = self
    var events: [KeyspaceEvent] = []
    let result = try copy.transact(request, leaseExists: { _ in false }, events: &events)
    precondition(events.isEmpty, "a transaction that only reads has changed something")
    return result
  }
}

extension TransactionRequest {
  /// Nothing but ranges, in both branches, however deep: it needs no log entry.
  var isReadOnly: Bool { success.allSatisfy(\.isReadOnly) && failure.allSatisfy(\.isReadOnly) }

  /// All that it may look at.
  fileprivate var ranges: [KeyRange] {
    comparisons.map(\.range)
      + (success + failure).flatMap { operation -> [KeyRange] in
        switch operation {
        case .range(let query): [query.range]
        case .delete(let request): [request.range]
        case .put: []
        case .transaction(let inner): inner.ranges
        }
      }
  }
}

extension Operation {
  fileprivate var isReadOnly: Bool {
    switch self {
    case .range: true
    case .put, .delete: false
    case .transaction(let inner): inner.isReadOnly
    }
  }
}
