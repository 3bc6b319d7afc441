import Primitives

/// The lease clock as the leader reads it: what the clock stood at when this leadership became ready, plus the monotonic
/// time since. Everybody else sees the clock stand still at what has been applied.
///
/// A leadership is ready when the first entry of its term has been applied: then every earlier stamp is known, so the
/// clock goes on where the last leader's last stamp left it and the time without a leader is not counted.
struct LeaderClock: Sendable {
  private enum Phase {
    case standing(LeaseClock)
    case running(base: LeaseClock, since: MonotonicTime)
  }

  private var phase = Phase.standing(.zero)

  mutating func start(from base: LeaseClock, at now: MonotonicTime) {
    phase = .running(base: base, since: now)
  }

  /// No longer leader: the clock stands at what has been applied.
  mutating func stop(at applied: LeaseClock) {
    phase = .standing(applied)
  }

  var isRunning: Bool {
    if case .running = phase { true } else { false }
  }

  func read(at now: MonotonicTime) -> LeaseClock {
    switch phase {
    case .standing(let clock): clock
    case .running(let base, let since): base.advanced(byMilliseconds: (now.nanoseconds - since.nanoseconds) / 1_000_000)
    }
  }

  /// The latest deadline that has passed for certain. A stamp is a moment rounded down to its millisecond, and so is a
  /// deadline: a lease that was stamped late in its millisecond has almost one more to live than the two stamps tell.
  func latestPassedDeadline(at now: MonotonicTime) -> LeaseClock {
    read(at: now).advanced(byMilliseconds: -Self.stampMilliseconds)
  }

  /// When a deadline will have passed for certain, for timers. Nil while the clock stands.
  func end(of deadline: LeaseClock) -> MonotonicTime? {
    moment(of: deadline.advanced(byMilliseconds: Self.stampMilliseconds))
  }

  /// What one stamp covers.
  private static let stampMilliseconds: Int64 = 1

  /// When the clock will show `clock`. Nil while it stands.
  private func moment(of clock: LeaseClock) -> MonotonicTime? {
    guard case .running(let base, let since) = phase else { return nil }
    let (delta, overflow) = clock.milliseconds.subtractingReportingOverflow(base.milliseconds)
    guard !overflow, delta < Int64.max / 2_000_000 else { return nil }
    return since.advanced(byMilliseconds: delta)
  }
}
