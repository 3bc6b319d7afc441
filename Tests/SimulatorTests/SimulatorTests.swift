import Foundation
import Testing

/// Whole clusters under all faults at once. `SIMULATOR_SEEDS=10000` runs that many, `SIMULATOR_SEED=…` one again, with the
/// trace of its last moments. Under `SWIFT_DETERMINISTIC_HASHING=1` a seed is the same run each time; without it the order
/// of a dictionary's keys may differ.
@Suite("Simulator", .serialized)
struct SimulatorTests {
  private static let defaultSeeds = 200
  private static let firstSeed: UInt64 = 1

  @Test("Nothing acknowledged is lost, nothing happens twice, no lease expires early, and the cluster recovers")
  func wholeClusters() throws {
    let environment = ProcessInfo.processInfo.environment
    if let text = environment["SIMULATOR_SEED"], let seed = UInt64(text) {
      try Self.run(seed, tracing: true)
      return
    }
    let count = environment["SIMULATOR_SEEDS"].flatMap(UInt64.init) ?? UInt64(Self.defaultSeeds)
    let first = environment["SIMULATOR_FIRST"].flatMap(UInt64.init) ?? Self.firstSeed
    var totals = Totals()
    for seed in first..<first + count { totals.add(try Self.run(seed, tracing: false)) }
    print(totals.text)
  }

  @Test(
    "A member whose state changes by itself finds out, leader or not, and nobody else does", arguments: [true, false])
  func damage(ofLeader: Bool) throws {
    let world = World(seed: 7, memberCount: 3, hasSidecars: false)
    world.faults.isOver = true
    try world.begin()
    try world.run(forMilliseconds: 5_000)
    let leader = try #require(world.members.values.first { $0.life?.core.isLeader == true }?.id)
    let victim = try #require(world.members.keys.first { ($0 == leader) == ofLeader })
    world.oracle.damaged = [victim]
    world.members[victim]!.life!.machine.applyMembership([1])
    try world.run(forMilliseconds: 10_000)
    #expect(world.oracle.violations == [])
    #expect(world.oracle.found == [victim])
    if ofLeader { #expect(world.members[victim]!.life!.core.isLeader == false) }
  }

  @Test("The leader compacts by its rule, whoever that is, and all members with it")
  func autoCompaction() throws {
    let world = World(seed: 8, memberCount: 3)
    world.faults.isOver = true
    try world.begin()
    try world.run(forMilliseconds: 8_000)
    let first = world.members.values.map { $0.life!.machine.keyspace.compactRevision }
    #expect(first.allSatisfy { $0 > 1 })
    let leader = try #require(world.members.values.first { $0.life?.core.isLeader == true }?.id)
    world.crash(leader, losingPower: false)
    try world.run(forMilliseconds: 10_000)
    let alive = world.members.values.compactMap { $0.life?.machine.keyspace }
    let highest = first.max() ?? 0
    #expect(alive.count == 2)
    #expect(alive.allSatisfy { $0.compactRevision > highest && $0.compactRevision < $0.revision })
    #expect(world.oracle.violations == [])
  }

  @discardableResult
  private static func run(_ seed: UInt64, tracing: Bool) throws -> World {
    let world = World(seed: seed, memberCount: seed % 3 == 0 ? 5 : 3, hasSidecars: seed % 2 == 0)
    defer { world.end() }
    world.trace.isOn = tracing
    try world.run(faultMilliseconds: 20_000, quietMilliseconds: 12_000)
    if !world.oracle.violations.isEmpty {
      Issue.record("seed \(seed): \(world.oracle.violations.prefix(5).joined(separator: "; "))")
      if tracing { print(world.trace.text) }
    }
    return world
  }

  struct Totals {
    var steps = 0
    var succeeded = 0
    var unknown = 0
    var refused = 0
    var expiries = 0
    var hits = 0
    var evictions = 0
    var revivals = 0
    var faults: [String: Int] = [:]

    mutating func add(_ world: World) {
      steps += world.steps
      succeeded += world.clients.succeeded
      unknown += world.clients.unknown
      refused += world.clients.failed
      expiries += world.oracle.expiryCount
      hits += world.cacheUsers.accepted
      evictions += world.cacheOracle.evictions.count
      revivals += world.cacheOracle.cancelledCount
      faults.merge(world.faults.counts) { $0 + $1 }
    }

    var text: String {
      let names = faults.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
      return "simulator: \(steps) steps, \(succeeded) requests answered, \(refused) refused, \(unknown) unknown, "
        + "\(expiries) leases expired, \(hits) hits accepted, \(evictions) evictions of which \(revivals) were called off; "
        + names
    }
  }
}
