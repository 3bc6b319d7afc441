import Engine
import Keyspace
import Primitives
import StateMachine
import Storage
import TestSupport
import Testing

@Suite struct StateEngineTests {
  @Test func aFreshEngineHoldsAnEmptyState() throws {
    var world = try EngineWorld()
    #expect(world.machine.encoded() == StateMachine().encoded())
    try world.reopen()
    #expect(world.machine.encoded() == StateMachine().encoded())
  }

  /// Entries, cuts, commits with entries behind them, starts: what was committed is there, and nothing else is.
  @Test(arguments: 1...12)
  func whatIsCommittedIsThereAfterAStart(seed: UInt64) throws {
    var world = try EngineWorld(seed: seed)
    for _ in 0..<25 {
      world.live(entries: world.pick(0..<30))
      let committed = world.machine.encoded()
      try world.commit { world in
        if world.pick(0..<2) == 0 { world.live(entries: world.pick(0..<10)) }
      }
      #expect(try world.stateAfterKill() == committed)
      if world.pick(0..<3) == 0 {
        try world.reopen()
        #expect(world.machine.encoded() == committed)
      }
    }
    #expect(try world.verification().problem == nil)
  }

  @Test func syncedCommitsAreTheSame() throws {
    var world = try EngineWorld(seed: 99, options: EngineOptions())
    for _ in 0..<3 {
      world.live(entries: 20)
      let state = world.machine.encoded()
      try world.commit()
      try world.reopen()
      #expect(world.machine.encoded() == state)
    }
  }

  @Test func whatIsNotCommittedIsGone() throws {
    var world = try EngineWorld()
    world.apply(.put("a"))
    let committed = world.machine.encoded()
    try world.commit()
    world.apply(.put("b"))
    try world.reopen()
    #expect(world.machine.encoded() == committed)
  }

  @Test func aKeyWithManyVersionsIsWrittenAndCompacted() throws {
    var world = try EngineWorld()
    for _ in 0..<100 {
      for _ in 0..<10 { world.apply((0..<100).map { _ in .put("hot") }) }
      try world.commit()
    }
    world.apply(.put("cold"), .compact(revision: world.machine.keyspace.revision - 10))
    world.machine.advanceCompaction(maxKeys: .max)
    let state = world.machine.encoded()
    try world.commit()
    try world.reopen()
    #expect(world.machine.encoded() == state)
    #expect(try world.verification().versionCount == 12)
  }

  @Test func aGreatCutIsCommittedAtOnce() throws {
    var world = try EngineWorld()
    let count = 20_000
    for start in stride(from: 1, through: count, by: 1_000) {
      world.apply(
        (start..<start + 1_000).flatMap {
          [.grant(LeaseID($0), 1_000), .put(Bytes("entry/\($0)"), lease: LeaseID($0))]
        })
    }
    try world.commit()
    world.expireAll(at: 5_000)
    #expect(world.machine.keyspace.keyCount == 0)
    let state = world.machine.encoded()
    try world.commit()
    try world.reopen()
    #expect(world.machine.encoded() == state)
    let report = try world.verification()
    #expect(report.problem == nil)
    #expect(report.versionCount == UInt64(2 * count))
    #expect(report.leaseCount == 0)
  }

  @Test func ofSeveralChangesToALeaseTheLastOneHolds() throws {
    var world = try EngineWorld()
    world.apply(.grant(7), .leaseRevoke(id: 7), .grant(8), .grant(7, 5_000), .leaseRevoke(id: 8))
    let state = world.machine.encoded()
    try world.commit()
    world.apply(.leaseRevoke(id: 7))
    try world.commit()
    world.apply(.grant(7, 5_000))
    try world.commit()
    #expect(try world.verification().leaseCount == 1)
    try world.reopen()
    #expect(world.machine.leases.count == 1)
    #expect(world.machine.encoded().count == state.count)
  }

  // MARK: Genesis

  private static let genesis = StateMachine.genesis(
    clusterID: 5, members: [ClusterMember(id: 7, name: "a", peerURLs: ["http://a:2380"])], membershipBytes: [1, 2])

  @Test func aNewClustersMemberBeginsWithItsGenesis() throws {
    let place = TemporaryDirectory()
    let options = EngineOptions(unsafeNoSync: true)
    // What a crash in the middle of the first start leaves.
    try TemporaryDirectory.write([UInt8](repeating: 0, count: 10_000), to: "\(place.path)/next.mdb")
    let other = StateMachine.genesis(clusterID: 6, members: [], membershipBytes: [])
    for genesis in [Self.genesis, other, nil] {
      let (engine, machine) = try StateEngine.open(directory: place.path, options: options, genesis: genesis)
      #expect(machine.encoded() == Self.genesis.encoded(), "the first one holds")
      #expect((machine.appliedIndex, machine.appliedTerm, machine.cluster.id) == (1, 1, 5))
      engine.close()
    }
    #expect(try StateVerification.verify(directory: place.path).cluster == Self.genesis.cluster)
  }

  @Test func aMemberThatJoinsBeginsWithNothing() throws {
    let place = TemporaryDirectory()
    let options = EngineOptions(unsafeNoSync: true)
    for genesis in [nil, Self.genesis] {
      let (engine, machine) = try StateEngine.open(directory: place.path, options: options, genesis: genesis)
      #expect((machine.appliedIndex, machine.cluster.id) == (0, 0))
      engine.close()
    }
  }

  // MARK: Space

  /// The map's ceiling stands for a full disk: nothing changes, and once there is space the same changes go through.
  @Test func withoutSpaceNothingChanges() throws {
    var world = try EngineWorld(options: EngineOptions(unsafeNoSync: true, mapBytes: 1 << 20))
    world.apply(.put("small"))
    let committed = world.machine.encoded()
    try world.commit()
    world.apply((0..<300).map { .put(Bytes("big/\($0)"), Bytes([UInt8](repeating: 1, count: 5_000))) })
    let state = world.machine.encoded()
    let changes = world.machine.cut()
    for _ in 0..<2 {
      let error = #expect(throws: StorageError.self) { try world.engine.commit(changes) }
      guard case .io(let failure) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(failure.isOutOfSpace)
    }
    #expect(try world.stateAfterKill() == committed)

    world.engine.close()
    world.release()
    let (engine, _) = try StateEngine.open(directory: world.directory, options: EngineOptions(unsafeNoSync: true))
    _ = try engine.commit(changes)
    engine.close()
    #expect(try world.stateAfterKill() == state)
  }

  @Test func freedPagesAreUsedAgain() throws {
    var world = try EngineWorld()
    for round in 0..<30 {
      world.apply((0..<200).map { .put(Bytes("key/\($0)"), Bytes([UInt8](repeating: UInt8(round), count: 500))) })
      world.apply(.compact(revision: world.machine.keyspace.revision))
      world.machine.advanceCompaction(maxKeys: .max)
      try world.commit()
    }
    let sizes = world.engine.sizes
    #expect(sizes.inUseBytes < 1 << 20)
    #expect(sizes.fileBytes < 2 << 20)
    #expect(sizes.fileBytes >= sizes.inUseBytes)
  }

  @Test func oneProcessOpensItOnce() throws {
    let world = try EngineWorld()
    #expect(throws: StorageError.self) {
      try StateEngine.open(directory: world.directory, options: EngineOptions())
    }
  }
}

extension EngineWorld {
  /// Lets the clock run to `milliseconds` and expires what is due, in commands as large as a leader's.
  mutating func expireAll(at milliseconds: Int64) {
    setClock(milliseconds)
    apply(.tick)
    while true {
      let due = machine.expiryBatch(at: LeaseClock(milliseconds: milliseconds)).ids
      if due.isEmpty { return }
      apply(.leaseExpire(ids: due))
    }
  }
}
