import Engine
import Keyspace
import Primitives
import StateMachine
import Storage
import TestSupport
import Testing

@Suite struct DefragmentationTests {
  @Test(arguments: 1...6)
  func theContentStaysAndLifeGoesOn(seed: UInt64) throws {
    var world = try EngineWorld(seed: seed)
    for _ in 0..<4 {
      world.live(entries: 100)
      try world.commit()
      let state = world.machine.encoded()
      try world.defragment()
      #expect(world.machine.encoded() == state)
      #expect(try world.stateAfterKill() == state)
      #expect(try world.verification().problem == nil)
      world.live(entries: 20)
      let after = world.machine.encoded()
      try world.commit()
      if world.pick(0..<2) == 0 {
        try world.reopen()
        #expect(world.machine.encoded() == after)
      }
    }
    #expect(try world.files() == ["data.mdb", "data.mdb-lock"])
  }

  @Test func theFileGetsSmaller() throws {
    var world = try EngineWorld()
    for start in 0..<20 {
      world.apply((0..<500).map { .put(Bytes("key/\($0 * 20 + start)"), Bytes([UInt8](repeating: 1, count: 300))) })
      try world.commit()
    }
    world.apply(.delete(DeleteRequest(.from("key/2"))))
    world.apply(.compact(revision: world.machine.keyspace.revision))
    world.machine.advanceCompaction(maxKeys: .max)
    try world.commit()
    let before = world.engine.sizes
    try world.defragment()
    let after = world.engine.sizes
    #expect(after.fileBytes < before.fileBytes)
    #expect(after.inUseBytes < before.inUseBytes)
    #expect(after.fileBytes - after.inUseBytes < 100_000)
  }

  @Test func aFreshEngineIsDefragmentedToo() throws {
    var world = try EngineWorld()
    try world.defragment()
    world.apply(.put("a"))
    let state = world.machine.encoded()
    try world.commit()
    #expect(try world.stateAfterKill() == state)
  }

  /// The first start makes the environment under the same name, and may be cut short as well.
  @Test(arguments: [0, 100, 8_192, 30_000])
  func whatACrashLeftOfTheFirstStartIsRemoved(length: Int) throws {
    let place = TemporaryDirectory()
    try TemporaryDirectory.write([UInt8](repeating: 0, count: length), to: "\(place.path)/next.mdb")
    let (engine, machine) = try StateEngine.open(directory: place.path, options: EngineOptions(unsafeNoSync: true))
    #expect(machine.keyspace.keyCount == 0)
    engine.close()
  }

  /// A crash before the rename leaves `next.mdb`, however complete: it is removed and the state is the old one's.
  @Test func whatACrashLeftIsRemoved() throws {
    var world = try EngineWorld(seed: 2)
    world.live(entries: 100)
    let state = world.machine.encoded()
    try world.commit()
    world.engine.close()
    world.release()
    let bytes = try TemporaryDirectory.read(world.file)
    for rest in [0, 4_096, 10_000, bytes.count] {
      try TemporaryDirectory.write(Array(bytes.prefix(rest)), to: "\(world.directory)/next.mdb")
      try TemporaryDirectory.write([1, 2, 3], to: "\(world.directory)/next.mdb-lock")
      try world.reopen()
      #expect(world.machine.encoded() == state)
      #expect(try world.files() == ["data.mdb", "data.mdb-lock"])
      world.engine.close()
      world.release()
    }
  }
}
