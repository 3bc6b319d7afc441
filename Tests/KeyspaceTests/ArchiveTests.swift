import Keyspace
import Primitives
import Testing

@Suite("Versions leave memory for an archive, and nobody sees it")
struct ArchiveTests {
  @Test("A cut carries what is new since the last one, and removals only of what an earlier cut has carried")
  func cuts() throws {
    var trial = Trial()
    try trial.put("a", "1")
    try trial.put("b", "1")
    let first = trial.keyspace.cut()
    #expect(Self.texts(of: first) == ["0 a=1", "1 b=1"])
    #expect((first.firstOrdinal, first.nextOrdinal) == (0, 2))
    #expect(first.newBytes == trial.keyspace.sizeInBytes)
    #expect((first.revision, first.compactedRevision, first.keyCount) == (3, -1, 2))

    try trial.put("a", "2")
    try trial.put("c", "1")
    try trial.put("c", "2")
    try trial.keyspace.compact(to: trial.revision)
    while trial.keyspace.compactStep(maxKeys: 1) {}
    let second = trial.keyspace.cut()
    #expect(Self.texts(of: second) == ["2 a=2", "4 c=2"])
    #expect(second.removals.map { "\($0.reference.ordinal) \($0.key)" } == ["0 a"])
    #expect((second.revision, second.compactedRevision, second.keyCount) == (6, 6, 3))
    #expect(Self.texts(of: first) == ["0 a=1", "1 b=1"])

    let third = trial.keyspace.cut()
    #expect(Self.texts(of: third) == [] && third.removals == [] && third.newBytes == 0)
  }

  private static func texts(of changes: KeyspaceChanges) -> [String] {
    var texts: [String] = []
    changes.forEachVersion { ordinal, version in texts.append("\(ordinal) \(version.key)=\(version.value)") }
    return texts
  }

  @Test("Sizes: what is in memory falls to nothing at a rebase, the whole stays")
  func sizes() throws {
    var (trial, engine) = (Trial(), MemoryEngine())
    for number in 0..<300 { try trial.put(Bytes("key \(number % 200)"), "value") }
    let size = trial.keyspace.sizeInBytes
    #expect(trial.keyspace.recentBytes == size && trial.keyspace.uncutBytes == size)
    engine.cut(&trial.keyspace)
    #expect(trial.keyspace.recentBytes == size && trial.keyspace.uncutBytes == 0)
    try trial.put("key 5", "value")
    let recent = trial.keyspace.uncutBytes
    engine.commit(&trial.keyspace)
    #expect(trial.keyspace.recentBytes == recent && trial.keyspace.uncutBytes == recent)
    #expect(trial.keyspace.sizeInBytes == size + recent)
  }

  @Test("Twenty thousand versions over many cuts: ranges, histories and the hash are as without an archive")
  func many() throws {
    var random = SeededGenerator(seed: 3)
    var (trial, twin, engine) = (Trial(), Trial(), MemoryEngine())
    for round in 0..<6 {
      for _ in 0..<3_500 {
        let key = Bytes("key/\(Int.random(in: 0..<5_000, using: &random))")
        try trial.put(key, Bytes("\(round)"))
        try twin.put(key, Bytes("\(round)"))
      }
      if round == 3 {
        let revision = trial.revision - 4_000
        try trial.keyspace.compact(to: revision)
        try twin.keyspace.compact(to: revision)
        trial.keyspace.compactStep(maxKeys: 900)
      }
      engine.commit(&trial.keyspace)
      engine.cut(&trial.keyspace)
      #expect(try trial.keyspace.hash(at: 0) == twin.keyspace.hash(at: 0))
      let start = trial.revision - 5_000 * Int64(round / 5)
      if round != 0 {
        #expect(try trial.history(from: start).events == twin.history(from: start).events)
      }
    }
    #expect(trial.keyspace.encoded() == twin.keyspace.encoded())
    #expect(try trial.all() == twin.all())
    engine.commit(&trial.keyspace)
    #expect(trial.keyspace.encoded() == twin.keyspace.encoded())
    let loaded = try engine.load()
    #expect(loaded.encoded() == twin.keyspace.encoded())
  }

  // MARK: The loader

  private static func load(
    revision: Int64 = 10, compacted: Int64 = -1, _ versions: [(key: Bytes, main: Int64, ordinal: UInt64, dead: Bool)]
  ) throws -> Keyspace {
    var loader = KeyspaceLoader(revision: revision, compactedRevision: compacted, nextOrdinal: 100)
    for version in versions {
      let reference = VersionReference(main: version.main, ordinal: version.ordinal, isTombstone: version.dead)
      try version.key.array.withUnsafeBytes { try loader.add(key: $0, reference, lease: 0) }
    }
    return try loader.finish(archive: MemoryArchive([:]), archivedBytes: 0)
  }

  @Test("The loader counts the living and takes keys out of order")
  func loads() throws {
    let keyspace = try Self.load([
      ("b", 2, 0, false), ("b", 5, 7, true), ("d", 3, 1, false), ("a", 4, 2, false), ("a", 4, 3, true),
      ("c", 6, 8, false), ("e", 9, 9, false),
    ])
    #expect(keyspace.keyCount == 3)
    var query = RangeQuery(.from(""))
    query.countOnly = true
    #expect(try keyspace.range(query).count == 3)
  }

  @Test("The loader refuses what cannot be")
  func refusals() throws {
    func expectRefusal(
      compacted: Int64 = -1, _ versions: [(key: Bytes, main: Int64, ordinal: UInt64, dead: Bool)]
    ) {
      #expect(throws: DecodingFailure.self) { try Self.load(compacted: compacted, versions) }
    }
    expectRefusal([("a", 0, 0, false)])
    expectRefusal([("a", 11, 0, false)])
    expectRefusal([("a", 5, 100, false)])
    expectRefusal([("a", 5, 1, true)])
    expectRefusal(compacted: 4, [("a", 5, 1, true)])
    expectRefusal([("a", 5, 1, false), ("a", 4, 2, false)])
    expectRefusal([("a", 5, 2, false), ("a", 5, 1, false)])
    expectRefusal([("a", 5, 1, false), ("a", 6, 2, true), ("a", 7, 3, true)])
    expectRefusal([("a", 5, 1, false), ("b", 6, 2, false), ("a", 7, 3, false)])
    #expect(try Self.load(compacted: 5, [("a", 5, 1, true)]).keyCount == 0)
  }

  @Test("A bumped revision leaves the keys and hides the history")
  func bump() throws {
    var trial = Trial()
    try trial.put("a", "1")
    try trial.put("a", "2")
    try trial.put("b", "1")
    trial.delete(.single("b"))
    let bumped = [0, .max, 1_000].map { trial.keyspace.bumpRevision(by: $0) }
    #expect(bumped == [false, false, true])
    #expect((trial.revision, trial.keyspace.compactRevision) == (1_005, 1_005))
    #expect(try trial.all() == ["a=2"])
    #expect(try trial.get("a")?.modRevision == 3)
    #expect(throws: KeyspaceError.compacted(compactRevision: 1_005)) { try trial.all(at: 1_004) }
    #expect(throws: KeyspaceError.compacted(compactRevision: 1_005)) { try trial.history(from: 1_005) }
    try trial.put("a", "3")
    #expect(try trial.get("a")?.modRevision == 1_006)
    #expect(try trial.get("a")?.version == 3)
    #expect(try Keyspace(encoded: trial.keyspace.encoded()).encoded() == trial.keyspace.encoded())
  }
}
