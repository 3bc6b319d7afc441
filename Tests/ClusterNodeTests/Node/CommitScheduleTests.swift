import ClusterNode
import Primitives
import Testing

/// When the engine commits: a value, so that no test waits.
@Suite struct CommitScheduleTests {
  private static func moment(_ milliseconds: Int64) -> MonotonicTime {
    MonotonicTime(nanoseconds: milliseconds * 1_000_000)
  }

  private func milliseconds(_ schedule: CommitSchedule, _ pending: CommitSchedule.Pending) -> Int64? {
    schedule.nextStart(pending)?.milliseconds
  }

  @Test func nothingIsCommittedWhileNothingIsApplied() {
    #expect(CommitSchedule(openedAt: Self.moment(0)).nextStart(.nothing) == nil)
  }

  @Test func changesWaitForARestThatGrowsWithTheCommits() {
    var schedule = CommitSchedule(openedAt: Self.moment(1_000))
    #expect(milliseconds(schedule, .changes) == 1_100)
    schedule.noteCommit(from: Self.moment(1_100), to: Self.moment(1_105))
    #expect(milliseconds(schedule, .changes) == 1_205, "a short commit: the shortest rest")
    schedule.noteCommit(from: Self.moment(1_500), to: Self.moment(1_550))
    #expect(milliseconds(schedule, .changes) == 2_000, "no more than a tenth of the time")
    schedule.noteCommit(from: Self.moment(2_000), to: Self.moment(3_000))
    #expect(milliseconds(schedule, .changes) == 5_000, "two seconds are the longest rest")
    #expect(milliseconds(schedule, .urgent) == 3_000, "no rest when memory or log are full")
  }

  @Test func aClockThatTicksIsStoredOnceAMinute() {
    var schedule = CommitSchedule(openedAt: Self.moment(0))
    schedule.noteCommit(from: Self.moment(0), to: Self.moment(500))
    #expect(milliseconds(schedule, .clockOnly) == 60_500)
  }

  @Test func afterAFailureItIsTriedEverySecondUntilItSucceeds() {
    var schedule = CommitSchedule(openedAt: Self.moment(0))
    schedule.noteFailure(at: Self.moment(700))
    for pending in [CommitSchedule.Pending.nothing, .clockOnly, .changes, .urgent] {
      #expect(milliseconds(schedule, pending) == 1_700)
    }
    schedule.noteCommit(from: Self.moment(1_700), to: Self.moment(1_701))
    #expect(schedule.nextStart(.nothing) == nil)
  }
}
