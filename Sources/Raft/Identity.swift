/// A member of the cluster; never 0.
package typealias NodeID = UInt64
package typealias Term = UInt64
/// Position in the log. The first entry ever has index 1; 0 means "before everything".
package typealias LogIndex = UInt64

/// Milliseconds of this process's monotonic clock. Raft never reads a clock; every event brings the time.
package struct Instant: Hashable, Comparable, Sendable {
  package var milliseconds: Int64

  package init(milliseconds: Int64) { self.milliseconds = milliseconds }

  /// A deadline that no clock reaches: nothing is due.
  package static let never = Instant(milliseconds: .max)

  package static func < (a: Instant, b: Instant) -> Bool { a.milliseconds < b.milliseconds }

  func advanced(byMilliseconds delta: Int64) -> Instant { Instant(milliseconds: milliseconds + delta) }
}
