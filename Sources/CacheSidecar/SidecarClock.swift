#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The sidecar's two clocks, in milliseconds. Deadlines belong to the store's lease clock and to neither of them.
package struct SidecarClock: Sendable {
  /// Never runs back. Measures the renewal window.
  package var monotonicMilliseconds: @Sendable () -> Int64
  /// Since 1970, for people.
  package var wallMilliseconds: @Sendable () -> Int64

  package init(
    monotonicMilliseconds: @escaping @Sendable () -> Int64, wallMilliseconds: @escaping @Sendable () -> Int64
  ) {
    self.monotonicMilliseconds = monotonicMilliseconds
    self.wallMilliseconds = wallMilliseconds
  }

  package static let system = SidecarClock(
    monotonicMilliseconds: { read(CLOCK_MONOTONIC) }, wallMilliseconds: { read(CLOCK_REALTIME) })

  private static func read(_ clock: clockid_t) -> Int64 {
    var time = timespec()
    guard clock_gettime(clock, &time) == 0 else { preconditionFailure("the system has no clock \(clock)") }
    return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
  }
}
