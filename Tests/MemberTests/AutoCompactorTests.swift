import Member
import Primitives
import Testing

/// When history is given up, and how much of it, on a clock of the test's own: etcd's rules.
struct AutoCompactorTests {
  /// Looks each minute (or at each of `stepSeconds`) while the revision grows by one a step. What it asks for is done,
  /// unless `fails` says otherwise. Answers the times and revisions of all that was asked for.
  private func compactions(
    _ rule: AutoCompactionRule, forMinutes minutes: Int64, stepSeconds: Int64 = 60, startRevision: Int64 = 1_000,
    leads: (Int64) -> Bool = { _ in true }, fails: (Int64) -> Bool = { _ in false },
    growsUntil idle: Int64 = .max
  ) -> [Compaction] {
    var found: [Compaction] = []
    var compacted: Int64 = 0
    let start = MonotonicTime(nanoseconds: 77_000_000_000)
    var compactor = AutoCompactor(rule, at: start)
    for step in 0...(minutes * 60 / stepSeconds) {
      let seconds = step * stepSeconds
      let minute = seconds / 60
      let now = start.advanced(byMilliseconds: seconds * 1_000)
      let revision = startRevision + min(step, idle)
      let target = compactor.look(at: now, revision: revision, compacted: compacted, leads: leads(minute))
      guard let target else { continue }
      found.append(Compaction(minute: minute, revision: target, kept: revision - target))
      if !fails(minute) { compacted = target }
    }
    return found
  }

  private struct Compaction: Equatable {
    var minute: Int64
    var revision: Int64
    /// Revisions behind the current one, which are minutes here.
    var kept: Int64
  }

  @Test func aShortPeriodIsKeptAndCompactedOncePerPeriod() {
    let found = compactions(.periodic(retentionMilliseconds: 10 * 60_000), forMinutes: 45)
    #expect(found.map(\.minute) == [10, 20, 30, 40])
    #expect(found.map(\.revision) == [1_000, 1_009, 1_019, 1_029])
    #expect(found.allSatisfy { $0.kept >= 10 }, "what is younger than the period stays")
  }

  @Test func aLongPeriodIsCompactedHourly() {
    let found = compactions(.periodic(retentionMilliseconds: 24 * 3_600_000), forMinutes: 27 * 60)
    #expect(found.map(\.minute) == [1_440, 1_500, 1_560, 1_620])
    let aDay: ClosedRange<Int64> = 1_440...1_446
    #expect(found.allSatisfy { aDay.contains($0.kept) })
  }

  @Test func aFailureIsTriedAgainAfterATenthOfThePeriod() {
    let found = compactions(
      .periodic(retentionMilliseconds: 60 * 60_000), forMinutes: 140, fails: { $0 < 72 })
    #expect(found.map(\.minute) == [60, 66, 72, 132])
  }

  @Test func aNewLeaderKnowsWhatWasCurrentAPeriodAgo() {
    let found = compactions(.periodic(retentionMilliseconds: 60 * 60_000), forMinutes: 170, leads: { $0 >= 100 })
    #expect(found.map(\.minute) == [102, 162])
    let anHour: ClosedRange<Int64> = 60...66
    #expect(found.allSatisfy { anHour.contains($0.kept) })
  }

  @Test func whereNothingIsWrittenNothingIsAskedForTwice() {
    let found = compactions(.periodic(retentionMilliseconds: 10 * 60_000), forMinutes: 200, growsUntil: 3)
    #expect(found.map(\.revision) == [1_000, 1_003])
  }

  @Test func aNumberOfRevisionsIsKeptWithALookEveryFiveMinutes() {
    let found = compactions(.revision(kept: 100), forMinutes: 16)
    #expect(found.map(\.minute) == [5, 10, 15])
    #expect(found.allSatisfy { $0.kept == 100 })
  }

  @Test func fewerRevisionsThanAreToBeKeptAreLeftAlone() {
    #expect(compactions(.revision(kept: 100), forMinutes: 60, startRevision: 1) == [])
    #expect(compactions(.revision(kept: 100), forMinutes: 60, growsUntil: 0).map(\.minute) == [5])
    #expect(compactions(.revision(kept: 1), forMinutes: 60, leads: { _ in false }) == [])
  }

  @Test func offIsOff() {
    #expect(compactions(.off, forMinutes: 3_000) == [])
  }

  @Test func periodsOfSecondsAreKeptToo() {
    let found = compactions(.periodic(retentionMilliseconds: 10_000), forMinutes: 1, stepSeconds: 1)
    #expect(found.map(\.kept) == [10, 11, 11, 11, 11, 11])
  }
}
