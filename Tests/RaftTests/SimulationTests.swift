import Foundation
import Testing

/// Seeded runs of whole clusters under faults. `RAFT_SEEDS=5000` runs more of them; a failure names its seed, and
/// `RAFT_FIRST_SEED=n RAFT_SEEDS=1 RAFT_TELL=1` runs it again and prints everything that happens.
struct SimulationTests {
  static func setting(_ name: String, default value: UInt64) -> UInt64 {
    ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? value
  }

  @Test(arguments: [1, 3, 5]) func staysSafeUnderFaultsAndServesAfterThem(voters: Int) {
    let first = Self.setting("RAFT_FIRST_SEED", default: 1)
    let count = Self.setting("RAFT_SEEDS", default: 100)
    var sum = Cluster.Counts()
    var changes = 0
    var jointChanges = 0
    for seed in first..<first + count {
      var simulation = Simulation(
        voters: voters, seed: seed, tell: Self.setting("RAFT_TELL", default: 0) == 1 ? { print("\(voters):", $0) } : nil
      )
      let result = simulation.run()
      sum += result.counts
      changes += result.changes
      jointChanges += result.jointChanges
      if let violation = result.violations.first { Issue.record("\(voters) voters, seed \(seed): \(violation)") }
      if let problem = result.problem { Issue.record("\(voters) voters, seed \(seed): \(problem)") }
    }
    // The runs did something of everything.
    let runs = Int(count)
    #expect(sum.delivered > 50 * runs)
    #expect(sum.reads > 5 * runs && sum.followerReads > runs)
    #expect(changes > runs && jointChanges > runs / 10)
    #expect(sum.restores > runs / 2 && sum.unwantedStates > runs / 10 && sum.successions > runs / 4)
  }

  @Test func equalSeedsGiveEqualRuns() {
    var first = Simulation(voters: 3, seed: 42)
    var second = Simulation(voters: 3, seed: 42)
    let (one, two) = (first.run(), second.run())
    #expect(one.counts == two.counts && one.changes == two.changes && one.terms == two.terms)
  }
}

extension Cluster.Counts {
  fileprivate static func += (sum: inout Self, more: Self) {
    sum.delivered += more.delivered
    sum.reads += more.reads
    sum.followerReads += more.followerReads
    sum.restores += more.restores
    sum.unwantedStates += more.unwantedStates
    sum.successions += more.successions
  }
}
