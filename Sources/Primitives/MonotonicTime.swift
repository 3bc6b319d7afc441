/// A moment on the machine's monotonic clock, in nanoseconds. It does not run back, and the wall clock's jumps do not
/// touch it. Pure code never reads that clock: every event brings the time.
package struct MonotonicTime: Comparable, Hashable, Sendable {
  package var nanoseconds: Int64

  package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  package var milliseconds: Int64 { nanoseconds / 1_000_000 }

  package func advanced(byMilliseconds delta: Int64) -> MonotonicTime {
    MonotonicTime(nanoseconds: nanoseconds + delta * 1_000_000)
  }

  package static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }
}
