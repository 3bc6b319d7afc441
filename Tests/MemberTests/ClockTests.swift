import Member
import Primitives
import StateMachine
import Testing

private func at(_ milliseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: milliseconds * 1_000_000) }
private func clock(_ milliseconds: Int64) -> LeaseClock { LeaseClock(milliseconds: milliseconds) }

/// The lease clock as a member reads it.
@Suite struct LeaderClockTests {
  private var leader = LeaderClock()

  @Test("A leader's clock goes on from where it was, with monotonic time, in whole milliseconds rounded down")
  mutating func running() {
    leader.start(from: clock(500), at: at(10_000))
    #expect(leader.isRunning)
    #expect(leader.read(at: at(10_000)) == clock(500))
    #expect(leader.read(at: at(10_250)) == clock(750))
    #expect(leader.read(at: MonotonicTime(nanoseconds: 10_250_999_999)) == clock(750))
  }

  @Test("Without leadership it stands at what has been applied")
  mutating func standing() {
    #expect(!leader.isRunning)
    #expect(leader.read(at: at(99)) == .zero)
    leader.start(from: clock(500), at: at(10_000))
    leader.stop(at: clock(620))
    #expect(!leader.isRunning)
    #expect(leader.read(at: at(99_000)) == clock(620))
  }

  @Test("What another leader told goes on for as long as that is believed, and stands still then")
  mutating func followed() {
    leader.follow(clock(500), at: at(10_000), validMilliseconds: 1_000)
    #expect(!leader.isRunning)
    #expect(leader.read(at: at(10_400)) == clock(900))
    #expect(leader.read(at: at(11_000)) == clock(1_500))
    #expect(leader.read(at: at(60_000)) == clock(1_500))
    leader.follow(clock(1_600), at: at(60_000), validMilliseconds: 1_000)
    #expect(leader.read(at: at(60_100)) == clock(1_700))
  }

  @Test("A deadline has passed for certain a millisecond after the clock shows it, and the timer says the same moment")
  mutating func deadlines() throws {
    leader.start(from: clock(500), at: at(10_000))
    #expect(leader.latestPassedDeadline(at: at(10_100)) == clock(599))
    let end = try #require(leader.end(of: clock(600)))
    #expect(end == at(10_101))
    #expect(leader.latestPassedDeadline(at: end) >= clock(600))
    #expect(leader.latestPassedDeadline(at: MonotonicTime(nanoseconds: end.nanoseconds - 1)) < clock(600))
  }

  @Test("A clock that stands has no timers, and a deadline beyond all time has none either")
  mutating func noTimers() {
    #expect(leader.end(of: clock(600)) == nil)
    leader.follow(clock(500), at: at(10_000), validMilliseconds: 1_000)
    #expect(leader.end(of: clock(600)) == nil, "expiries are the leader's")
    leader.start(from: clock(-5), at: at(10_000))
    #expect(leader.end(of: clock(.max - 1)) == nil)
  }
}

/// Which clock a new leader takes up.
@Suite struct HeardClockTests {
  private var heard = HeardClock()

  private static func applied(_ milliseconds: Int64, stampTerm: UInt64) -> MemberCore.AppliedMark {
    var mark = MemberCore.AppliedMark(StateMachine())
    mark.clock = clock(milliseconds)
    mark.stampTerm = stampTerm
    return mark
  }

  @Test("What the leader told since its last stamp counts, so that its leases do not live longer by that time")
  mutating func told() {
    heard.note(clock(900), term: 3)
    #expect(heard.start(behind: Self.applied(500, stampTerm: 3)) == clock(900))
    #expect(heard.start(behind: Self.applied(950, stampTerm: 3)) == clock(950), "never behind what is applied")
  }

  @Test("Beats that overtake each other do not set the clock back")
  mutating func overtaken() {
    heard.note(clock(900), term: 3)
    heard.note(clock(800), term: 3)
    #expect(heard.start(behind: Self.applied(500, stampTerm: 3)) == clock(900))
  }

  @Test("The next leader's clock counts alone, though it is behind: it went on from less")
  mutating func nextLeader() {
    heard.note(clock(900), term: 3)
    heard.note(clock(600), term: 4)
    #expect(heard.start(behind: Self.applied(500, stampTerm: 4)) == clock(600))
  }

  @Test("The clock of a leader that another one has stamped after is not taken up: it would end leases early")
  mutating func formerLeader() {
    heard.note(clock(900), term: 3)
    #expect(heard.start(behind: Self.applied(600, stampTerm: 4)) == clock(600))
    #expect(heard.start(behind: Self.applied(600, stampTerm: 2)) == clock(900))
  }
}
