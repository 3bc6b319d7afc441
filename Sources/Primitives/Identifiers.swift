/// A lease's identity, as on etcd's wire. 0 means "no lease".
package typealias LeaseID = Int64

/// The place of one change in the keyspace's history: `main` rises by one with each transaction that changes
/// something, `sub` numbers the changes inside it from 0.
@usableFromInline
package struct Revision: Hashable, Comparable, Sendable, CustomStringConvertible {
  @usableFromInline package var main: Int64
  @usableFromInline package var sub: Int64

  @inlinable
  package init(main: Int64, sub: Int64 = 0) {
    self.main = main
    self.sub = sub
  }

  @inlinable
  package static func < (left: Revision, right: Revision) -> Bool {
    left.main != right.main ? left.main < right.main : left.sub < right.sub
  }

  @usableFromInline package var description: String { "\(main).\(sub)" }
}

/// A moment on the lease clock: milliseconds of leadership since the cluster began (see `Leases`). Never wall time.
@usableFromInline
package struct LeaseClock: Hashable, Comparable, Sendable, CustomStringConvertible {
  @usableFromInline package var milliseconds: Int64

  @inlinable
  package init(milliseconds: Int64) { self.milliseconds = milliseconds }

  package static let zero = LeaseClock(milliseconds: 0)

  @inlinable
  package static func < (left: LeaseClock, right: LeaseClock) -> Bool { left.milliseconds < right.milliseconds }

  /// Saturates instead of trapping: a TTL of 9,000,000,000 s is legal.
  @inlinable
  package func advanced(byMilliseconds delta: Int64) -> LeaseClock {
    let (sum, overflow) = milliseconds.addingReportingOverflow(delta)
    return LeaseClock(milliseconds: overflow ? .max : sum)
  }

  @usableFromInline package var description: String { "\(milliseconds)ms" }
}
