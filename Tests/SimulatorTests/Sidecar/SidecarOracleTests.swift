import Testing

/// The oracle of the caches can fail: each mistake of a sidecar is found out, and by the rule that it breaks.
@Suite("Simulator: the oracle finds out")
struct SidecarOracleTests {
  struct Case: Sendable {
    var mistake: SidecarMistake
    /// What one of the violations says.
    var says: [String]
  }

  private static let mostSeeds: UInt64 = 20

  @Test(
    "A sidecar that goes wrong",
    arguments: [
      Case(
        mistake: .evictsUnguarded,
        says: ["while its lease runs", "which the journal knows otherwise", "goes alive", "early", "while it is as"]),
      Case(mistake: .renewsNothing, says: ["ms early"]),
      Case(mistake: .settlesAlone, says: ["without mirror", "without janitor"]),
      Case(mistake: .skipsDeliveries, says: ["without mirror", "without janitor"]),
      Case(mistake: .deliversUnchecked, says: ["lives again or is gone", "which was never decided"]),
      Case(mistake: .neverScans, says: ["at the end"]),
    ])
  func mistakes(_ tried: Case) throws {
    for seed in 1...Self.mostSeeds {
      let world = World(seed: seed, memberCount: 3, mistake: tried.mistake)
      defer { world.end() }
      try world.run(faultMilliseconds: 20_000, quietMilliseconds: 12_000)
      guard let violation = world.oracle.violations.first else { continue }
      print("\(tried.mistake): seed \(seed): \(violation)")
      #expect(tried.says.contains { violation.contains($0) }, "\(violation)")
      return
    }
    Issue.record("\(tried.mistake) is not found out in \(Self.mostSeeds) seeds")
  }
}
