import Foundation
import Testing

/// Seeded runs of whole clusters under faults. `RAFT_SEEDS=5000` runs more of them; a failure names its seed, and
/// `RAFT_FIRST_SEED=n RAFT_SEEDS=1` runs it again.
struct SimulationTests {
  static func setting(_ name: String, default value: UInt64) -> UInt64 {
    ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? value
  }

  @Test(arguments: [1, 3, 5]) func staysSafeUnderFaultsAndServesAfterThem(voters: Int) {
    let first = Self.setting("RAFT_FIRST_SEED", default: 1)
    let count = Self.setting("RAFT_SEEDS", default: 100)
    var delivered = 0
    var reads = 0
    for seed in first..<first + count {
      var simulation = Simulation(voters: voters, seed: seed)
      let result = simulation.run()
      delivered += result.delivered
      reads += result.reads
      if let violation = result.violations.first { Issue.record("\(voters) voters, seed \(seed): \(violation)") }
      if let problem = result.problem { Issue.record("\(voters) voters, seed \(seed): \(problem)") }
    }
    // The runs did something.
    #expect(delivered > 20 * voters * Int(count))
    #expect(reads > Int(count))
  }

  @Test func equalSeedsGiveEqualRuns() {
    var first = Simulation(voters: 3, seed: 42)
    var second = Simulation(voters: 3, seed: 42)
    let (one, two) = (first.run(), second.run())
    #expect(one.delivered == two.delivered && one.reads == two.reads && one.terms == two.terms)
  }
}
