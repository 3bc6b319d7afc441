import Engine
import Keyspace
import Primitives
import StateMachine
import Testing

@Suite struct ArchiveTests {
  /// Every version comes back as it was put, one by one and in walks from any revision.
  @Test(arguments: 1...6)
  func versionsComeBackAsTheyWere(seed: UInt64) throws {
    var world = try EngineWorld(seed: seed)
    var model: [UInt64: StoredVersion] = [:]
    var archive: (any VersionArchive)?
    var end: UInt64 = 0
    for _ in 0..<10 {
      world.live(entries: 40)
      let changes = world.machine.cut()
      changes.keyspace.forEachVersion { model[$0] = $1 }
      for removal in changes.keyspace.removals { model[removal.reference.ordinal] = nil }
      let commit = try world.engine.commit(changes)
      archive = commit.archive
      end = commit.belowOrdinal
      world.rebase(onto: commit)
    }
    let held = try #require(archive)
    let expected = model.sorted { $0.key < $1.key }
    #expect(expected.count > 100)
    for (ordinal, version) in expected { #expect(held.version(at: ordinal) == version) }
    for main in stride(from: Int64(0), to: world.machine.keyspace.revision + 2, by: 7) {
      var walked: [UInt64] = []
      let isComplete = held.forEachVersion(from: main, below: end) { ordinal, version in
        #expect(model[ordinal] == version)
        walked.append(ordinal)
        return true
      }
      #expect(isComplete)
      #expect(walked == expected.filter { $0.value.revision.main >= main }.map(\.key))
    }
  }

  @Test func aWalkEndsWhereItIsTold() throws {
    var world = try EngineWorld()
    world.apply((0..<500).map { .put("key/\($0)") })
    let commit = try world.engine.commit(world.machine.cut())
    var walked: [UInt64] = []
    #expect(!commit.archive.forEachVersion(from: 0, below: 500) { ordinal, _ in
      walked.append(ordinal)
      return ordinal < 299
    })
    #expect(walked == Array(0..<300))
    walked = []
    #expect(commit.archive.forEachVersion(at: 100, from: 3, below: 220) { ordinal, _ in
      walked.append(ordinal)
      return true
    })
    #expect(walked == Array(100..<220))
  }

  /// A walk may read the archive that it walks over, and more threads than lanes may walk at once.
  @Test func manyThreadsReadAtOnce() async throws {
    var world = try EngineWorld()
    world.apply((0..<300).map { .put("key/\($0)") })
    let archive = try world.engine.commit(world.machine.cut()).archive
    let sums = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<12 {
        group.addTask {
          var count = 0
          _ = archive.forEachVersion(from: 0, below: 300) { ordinal, version in
            if archive.version(at: ordinal) == version { count += 1 }
            return true
          }
          return count
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(sums == [Int](repeating: 300, count: 12))
  }

  /// An archive stays as it was, whatever is committed, compacted and defragmented meanwhile.
  @Test func anArchiveDoesNotChange() throws {
    var world = try EngineWorld(seed: 3)
    world.live(entries: 200)
    try world.commit()
    let old = world.machine
    let state = old.encoded()
    for round in 0..<6 {
      world.live(entries: 100)
      world.apply(.compact(revision: world.machine.keyspace.revision))
      world.machine.advanceCompaction(maxKeys: .max)
      try world.commit()
      if round == 3 { try world.defragment() }
      #expect(old.encoded() == state)
    }
    world.engine.close()
    #expect(old.encoded() == state)
  }
}
