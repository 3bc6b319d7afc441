import Primitives

/// The lease clock as the leader reads it: what the clock stood at when this leadership became ready, plus the monotonic
/// time since. Followers know it from the leader's beats; without those the clock stands still at what has been applied.
///
/// A leadership is ready when the first entry of its term has been applied: then every earlier stamp is known, so the
/// clock goes on where the last leader's last stamp left it and the time without a leader is not counted.
package struct LeaderClock: Sendable {
  private enum Phase {
    case standing(LeaseClock)
    /// Another member leads and has told its clock.
    case followed(base: LeaseClock, since: MonotonicTime, until: MonotonicTime)
    case running(base: LeaseClock, since: MonotonicTime)
  }

  private var phase = Phase.standing(.zero)

  package init() {}

  package mutating func start(from base: LeaseClock, at now: MonotonicTime) {
    phase = .running(base: base, since: now)
  }

  /// No longer leader: the clock stands at what has been applied.
  package mutating func stop(at applied: LeaseClock) {
    phase = .standing(applied)
  }

  /// What the leader's clock showed; believed to go on for `validMilliseconds`, and to stand still then: there may be no
  /// leader any more.
  package mutating func follow(_ told: LeaseClock, at now: MonotonicTime, validMilliseconds: Int64) {
    phase = .followed(base: told, since: now, until: now.advanced(byMilliseconds: validMilliseconds))
  }

  package var isRunning: Bool {
    if case .running = phase { true } else { false }
  }

  package func read(at now: MonotonicTime) -> LeaseClock {
    switch phase {
    case .standing(let clock): clock
    case .followed(let base, let since, let until): Self.clock(base, since, min(now, until))
    case .running(let base, let since): Self.clock(base, since, now)
    }
  }

  private static func clock(_ base: LeaseClock, _ since: MonotonicTime, _ now: MonotonicTime) -> LeaseClock {
    base.advanced(byMilliseconds: (now.nanoseconds - since.nanoseconds) / 1_000_000)
  }

  /// The latest deadline that has passed for certain. A stamp is a moment rounded down to its millisecond, and so is a
  /// deadline: a lease that was stamped late in its millisecond has almost one more to live than the two stamps tell.
  package func latestPassedDeadline(at now: MonotonicTime) -> LeaseClock {
    read(at: now).advanced(byMilliseconds: -Self.stampMilliseconds)
  }

  /// When a deadline will have passed for certain, for timers. Nil while the clock stands.
  package func end(of deadline: LeaseClock) -> MonotonicTime? {
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
