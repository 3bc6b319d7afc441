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

  /// When the clock will show `clock`, for timers. Nil while it stands.
  func moment(of clock: LeaseClock) -> MonotonicTime? {
    guard case .running(let base, let since) = phase else { return nil }
    let (delta, overflow) = clock.milliseconds.subtractingReportingOverflow(base.milliseconds)
    guard !overflow, delta < Int64.max / 2_000_000 else { return nil }
    return since.advanced(byMilliseconds: delta)
  }
}
