import Primitives

/// CONTRACT SKETCH: signatures that others build on; the bodies are the author's.
/// Deadlines of leases on the lease clock. A value type with COW storage; no clock of its own.
package struct LeaseTable: Sendable {
  package init() {}
  package var count: Int { fatalError() }
  package var ids: [LeaseID] { fatalError() }
  package func contains(_ id: LeaseID) -> Bool { fatalError() }
  /// Refuses an ID that exists (false).
  package mutating func grant(_ id: LeaseID, ttlMilliseconds: Int64, at clock: LeaseClock) -> Bool { fatalError() }
  /// The granted TTL in ms, nil when unknown.
  package mutating func renew(_ id: LeaseID, at clock: LeaseClock) -> Int64? { fatalError() }
  package mutating func remove(_ id: LeaseID) -> Bool { fatalError() }
  package func deadline(of id: LeaseID) -> LeaseClock? { fatalError() }
  package func grantedTTLMilliseconds(of id: LeaseID) -> Int64? { fatalError() }
  /// Up to `limit` leases whose deadline is at or before `clock`; does not remove them.
  package func due(at clock: LeaseClock, limit: Int) -> [LeaseID] { fatalError() }
  /// A lower bound of the earliest deadline: when a shell should look again. Nil when there is no lease.
  package var nextDeadline: LeaseClock? { fatalError() }
}
