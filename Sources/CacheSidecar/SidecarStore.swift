import Keyspace
import Primitives
import StateMachine

/// The store as the sidecar needs it: a subset of etcd's API, in batches. Two implementations: the node in this process
/// (`EmbeddedStore`), later an etcd cluster over gRPC. The sidecar's logic never knows which.
package protocol SidecarStore: Sendable {
  /// Linearizable.
  func range(_ query: RangeQuery) async throws(SidecarStoreError) -> RangeResult

  /// The present records of these keys, nil for those that are absent; one consistent read.
  func get(_ keys: [Bytes]) async throws(SidecarStoreError) -> [KeyRecord?]

  /// Independent transactions, each atomic by itself and at a revision of its own, in order, one result each. On the
  /// embedded node up to `Transition.maxCommitBytes` are one commit of the log, which nobody sees half.
  func commit(_ transitions: [Transition]) async throws(SidecarStoreError) -> [TransitionOutcome]

  /// Renews leases; the granted TTL in ms for each, 0 when a lease is gone. Answered when committed.
  func renew(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [Int64]

  /// Milliseconds left and granted TTL of each lease, nil for a lease that is gone.
  func timeToLive(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [LeaseTime?]

  /// Changes under a prefix from a revision on, each revision whole, in order. Ends with an error when the start was
  /// compacted: the caller scans and starts again.
  func watch(prefix: Bytes, from revision: Int64) -> AsyncThrowingStream<WatchBatch, any Error>
}

package struct WatchBatch: Sendable {
  package var events: [KeyspaceEvent]
  /// Everything up to this revision has been seen.
  package var revision: Int64

  package init(events: [KeyspaceEvent], revision: Int64) {
    self.events = events
    self.revision = revision
  }
}

package struct LeaseTime: Hashable, Sendable {
  package var remainingMilliseconds: Int64
  package var grantedMilliseconds: Int64

  package init(remainingMilliseconds: Int64, grantedMilliseconds: Int64) {
    self.remainingMilliseconds = remainingMilliseconds
    self.grantedMilliseconds = grantedMilliseconds
  }
}

/// One guarded change. When the comparisons hold, `grants` are granted, `operations` run and `revokes` end; else nothing
/// happens. All at once: a lease that has lost its marker must not be renewed by anybody who has not heard of that.
package struct Transition: Sendable {
  /// Well below what one log entry takes.
  package static let maxCommitBytes = 1024 * 1024

  package var comparisons: [Comparison]
  package var grants: [LeaseGrant]
  package var operations: [Operation]
  /// Leases that end with this transition without their keys dying (the keys have been deleted or re-put here).
  package var revokes: [LeaseID]

  package init(
    comparisons: [Comparison] = [], grants: [LeaseGrant] = [], operations: [Operation] = [], revokes: [LeaseID] = []
  ) {
    self.comparisons = comparisons
    self.grants = grants
    self.operations = operations
    self.revokes = revokes
  }
}

package enum TransitionOutcome: Sendable {
  case done(results: [OperationResult], revision: Int64)
  /// The guard failed: somebody else was first. Read again.
  case conflict
}

package enum SidecarStoreError: Error, Sendable {
  /// Nothing is known of the outcome (time-out, connection lost). Idempotent work may be repeated.
  case unavailable(String)
  case refused(String)
  case spaceExceeded
}
