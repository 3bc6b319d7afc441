import Engine
import Keyspace
import Primitives
import StateMachine
import Storage
import TestSupport
import Testing

/// A leader's state in the place of ours, whatever comes in between.
@Suite struct ReplacementTests {
  private static func snapshot(of machine: StateMachine, in place: TemporaryDirectory) throws -> String {
    try TemporaryDirectory.write(machine.encoded(), to: "\(place.path)/snapshot")
    return "\(place.path)/snapshot"
  }

  private static func leader(seed: UInt64) throws -> EngineWorld {
    var leader = try EngineWorld(seed: seed)
    leader.live(entries: 150)
    try leader.commit()
    leader.live(entries: 30)
    return leader
  }

  @Test(arguments: 1...6 as ClosedRange<UInt64>, [true, false])
  func anotherStateTakesThePlaceOfAll(seed: UInt64, unsafeNoSync: Bool) throws {
    var world = try EngineWorld(seed: seed, options: EngineOptions(unsafeNoSync: unsafeNoSync))
    world.live(entries: 100)
    try world.commit()
    let leader = try Self.leader(seed: seed + 100)
    let state = leader.machine.encoded()
    let place = TemporaryDirectory()
    try world.take(Self.snapshot(of: leader.machine, in: place)) { world, prepared, machine in
      #expect(prepared.head.appliedIndex == leader.machine.appliedIndex)
      #expect(machine.encoded() == state)
      // Life goes on beside it, and counts until the other state is installed.
      world.live(entries: 20)
      let own = world.machine.encoded()
      try world.commit()
      try world.defragment()
      #expect(try world.stateAfterKill() == own)
    }
    #expect(world.machine.encoded() == state)
    #expect(try world.stateAfterKill() == state)
    #expect(try world.files() == ["data.mdb", "data.mdb-lock"])
    world.live(entries: 50)
    let after = world.machine.encoded()
    try world.commit()
    try world.reopen()
    #expect(world.machine.encoded() == after)
    #expect(try world.verification().problem == nil)
  }

  /// More values than are held in memory at one time, in several commits.
  @Test func aLargeStateIsStoredWhileItIsRead() throws {
    var leader = try EngineWorld()
    for number in 0..<90 {
      leader.apply(.put(Bytes("big/\(number)"), Bytes([UInt8](repeating: UInt8(number), count: 1 << 20))))
    }
    try leader.commit()
    let place = TemporaryDirectory()
    var world = try EngineWorld()
    try world.take(Self.snapshot(of: leader.machine, in: place)) { _, _, machine in
      #expect(machine.uncommittedBytes == 0)
    }
    let hash = try leader.machine.keyspace.hash(at: 0)
    #expect(try world.machine.keyspace.hash(at: 0) == hash)
    try world.reopen()
    #expect(try world.machine.keyspace.hash(at: 0) == hash)
  }

  @Test func aDamagedSnapshotLeavesNothing() throws {
    var world = try EngineWorld(seed: 1)
    world.live(entries: 50)
    let own = world.machine.encoded()
    try world.commit()
    let bytes = try Self.leader(seed: 9).machine.encoded()
    let place = TemporaryDirectory()
    let path = "\(place.path)/snapshot"
    var damaged = bytes
    damaged[bytes.count / 2] ^= 1
    for content in [damaged, Array(bytes.dropLast(1)), bytes + [0], []] {
      try TemporaryDirectory.write(content, to: path)
      let error = #expect(throws: StorageError.self) { try world.engine.prepareReplacement(fromSnapshotAt: path) }
      guard case .corruptSnapshot(path, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(try world.files() == ["data.mdb", "data.mdb-lock"])
    }
    #expect(throws: StorageError.self) { try world.engine.prepareReplacement(fromSnapshotAt: "\(place.path)/nothing") }
    #expect(try world.stateAfterKill() == own)
  }

  @Test func whatIsNotWantedGoes() throws {
    var world = try EngineWorld(seed: 1)
    world.live(entries: 50)
    let own = world.machine.encoded()
    try world.commit()
    let place = TemporaryDirectory()
    let path = try Self.snapshot(of: Self.leader(seed: 9).machine, in: place)
    let (first, _) = try world.engine.prepareReplacement(fromSnapshotAt: path)
    let (second, _) = try world.engine.prepareReplacement(fromSnapshotAt: path)
    try world.engine.discard(first)
    #expect(try world.stateAfterKill() == own, "what a crash leaves of the second one is removed at the start")
    #expect(try world.files().count == 4)
    try world.engine.discard(second)
    #expect(try world.files() == ["data.mdb", "data.mdb-lock"])
  }

  /// The map's ceiling stands for a full disk.
  @Test func withoutSpaceForBothTheOldStateStays() throws {
    var world = try EngineWorld(seed: 1, options: EngineOptions(unsafeNoSync: true, mapBytes: 1 << 20))
    world.apply(.put("small"))
    try world.commit()
    var leader = try EngineWorld()
    leader.apply((0..<300).map { .put(Bytes("big/\($0)"), Bytes([UInt8](repeating: 1, count: 5_000))) })
    let place = TemporaryDirectory()
    let path = try Self.snapshot(of: leader.machine, in: place)
    let error = #expect(throws: StorageError.self) { try world.engine.prepareReplacement(fromSnapshotAt: path) }
    guard case .io(let failure) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(failure.isOutOfSpace)
    #expect(try world.files() == ["data.mdb", "data.mdb-lock"])
    world.apply(.put("goes on"))
    try world.commit()
  }
}

extension EngineWorld {
  /// Takes over a leader's state; `between` runs after it was prepared and before it is installed. Nothing of it is held
  /// on to in the end but the world's own state.
  fileprivate mutating func take(
    _ path: String, between: (inout EngineWorld, PreparedState, StateMachine) throws -> Void
  ) throws {
    let (prepared, machine) = try engine.prepareReplacement(fromSnapshotAt: path)
    try between(&self, prepared, machine)
    let commit = try engine.install(prepared)
    #expect(commit.appliedIndex == machine.appliedIndex)
    self.machine = machine
  }
}
