import Keyspace
import Primitives
import StateMachine

/// Reads the keyspace without holding the applied state's lock for longer than a moment.
///
/// One key, or any part of a small keyspace, is read under the lock. Everything else is read from a copy taken under
/// it: copying shares all nodes, so it is cheap; the writes that come meanwhile duplicate the few nodes they touch.
/// Either way the answer is one moment of the keyspace, and a compaction cannot come in between.
struct RangeReader<Node: NodeHandle>: Sendable {
  let node: Node

  /// Keys that may be read under the lock.
  private static var maxKeysUnderLock: Int { 1_000 }

  func read(_ query: RangeQuery) throws(KeyspaceError) -> RangeResult {
    let (snapshot, early) = node.read { state -> (Keyspace?, Result<RangeResult, KeyspaceError>?) in
      guard Self.isSmall(query, keyCount: state.keyspace.keyCount) else { return (state.keyspace, nil) }
      return (nil, Result { () throws(KeyspaceError) in try state.keyspace.range(query) })
    }
    if let early { return try early.get() }
    guard let snapshot else { preconditionFailure("neither an answer nor a copy to read it from") }
    return try snapshot.range(query)
  }

  private static func isSmall(_ query: RangeQuery, keyCount: Int) -> Bool {
    if case .single = query.range { return true }
    return keyCount <= maxKeysUnderLock
  }

  /// Runs a transaction that only reads. Its revision is the keyspace's.
  func transact(
    _ request: TransactionRequest
  ) throws(KeyspaceError) -> (result: TransactionResult, revision: Int64) {
    var snapshot = node.read { $0.keyspace }
    var events: [KeyspaceEvent] = []
    let result = try snapshot.transact(request, leaseExists: { _ in false }, events: &events)
    precondition(events.isEmpty, "a transaction that only reads has changed something")
    return (result, snapshot.revision)
  }
}
