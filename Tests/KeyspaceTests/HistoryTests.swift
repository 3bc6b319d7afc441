import Keyspace
import Primitives
import Testing

@Suite("History is told in order and in whole revisions; compaction ends it where it should")
struct HistoryTests {
  /// a=1 @2 · (b=1, c=1) @3 · delete a @4 · (a=2, b=2) @5 · c=2 @6
  private static func story() throws -> Trial {
    var trial = Trial()
    try trial.put("a", "1")
    try trial.transact(then: [.put("b", "1"), .put("c", "1")])
    trial.delete(.single("a"))
    try trial.transact(then: [.put("a", "2"), .put("b", "2")])
    try trial.put("c", "2")
    return trial
  }

  @Test("Read back, history is what was told live")
  func sameAsLive() throws {
    let trial = try Self.story()
    let (events, next) = try trial.history(from: 1)
    #expect(events == trial.events)
    #expect(next == 7)
    #expect(try trial.history(from: 4).events.map(\.text) == ["delete a @4", "put a=2 @5", "put b=2 @5", "put c=2 @6"])
    #expect(try trial.history(from: 1, wantsPrevious: false).events.allSatisfy { $0.previous == nil })
  }

  @Test("Only the range is told, for one key as for many")
  func ranges() throws {
    let trial = try Self.story()
    let eventsOfA = try trial.history(from: 1, in: .single("a")).events
    #expect(eventsOfA.map(\.text) == ["put a=1 @2", "delete a @4", "put a=2 @5"])
    #expect(try trial.history(from: 3, in: .single("a")).events.map(\.text) == ["delete a @4", "put a=2 @5"])
    #expect(try trial.history(from: 1, in: .single("none")).events == [])
    #expect(try trial.history(from: 5, in: .from("b")).events.map(\.text) == ["put b=2 @5", "put c=2 @6"])
    #expect(try trial.history(from: 1, in: .from("b")).events == trial.events.filter { $0.record.key >= "b" })
  }

  @Test("A limit stops between revisions and says where to go on")
  func limits() throws {
    let trial = try Self.story()
    for range in [KeyRange.from(""), .single("a")] {
      var told: [KeyspaceEvent] = []
      var revision: Int64 = 1
      while revision <= trial.revision {
        let (events, next) = try trial.history(from: revision, in: range, limit: 1)
        #expect(Set(events.map(\.record.modRevision)).count <= 1)
        #expect(next > revision)
        told += events
        revision = next
      }
      #expect(told == trial.events.filter { range.contains($0.record.key) })
    }
    #expect(try trial.history(from: 3, limit: 1).next == 4)
    #expect(try trial.history(from: 3, limit: 2).events.count == 2)
    #expect(try trial.history(from: 1, maxBytes: 2).next == 3)
  }

  @Test("A future start is not an error: nothing has happened there yet")
  func future() throws {
    let trial = try Self.story()
    #expect(try trial.history(from: 7).next == 7)
    #expect(try trial.history(from: 20).next == 20)
    #expect(try trial.history(from: 20).events.isEmpty)
  }

  @Test("A bounded scan passes over foreign keys in steps")
  func boundedScan() throws {
    let trial = try Self.story()
    let (events, next) = try trial.keyspace.history(
      from: 2, in: .from("c"), wantsPrevious: false, limit: .max, maxBytes: .max, maxScanned: 1)
    #expect(events.isEmpty)
    #expect(next == 3)
  }

  @Test("Compaction keeps what is alive at its revision and refuses reads before it")
  func compaction() throws {
    var trial = try Self.story()
    try trial.keyspace.compact(to: 5)
    #expect(trial.keyspace.compactRevision == 5)
    #expect(try trial.all(at: 5) == ["a=2", "b=2", "c=1"])
    #expect(try trial.all() == ["a=2", "b=2", "c=2"])
    #expect(throws: KeyspaceError.compacted(compactRevision: 5)) { try trial.all(at: 4) }
    #expect(throws: KeyspaceError.compacted(compactRevision: 5)) { try trial.history(from: 5) }
    let (events, _) = try trial.history(from: 6)
    #expect(events.map(\.text) == ["put c=2 @6"])
    #expect(events[0].previous?.value == "1")
    #expect(throws: KeyspaceError.compacted(compactRevision: 5)) { try trial.keyspace.compact(to: 5) }
    #expect(throws: KeyspaceError.futureRevision) { try trial.keyspace.compact(to: 7) }
  }

  @Test("As in etcd a first compaction may be at 0, a second may not")
  func compactionAtZero() throws {
    var keyspace = Keyspace()
    try keyspace.compact(to: 0)
    #expect(throws: KeyspaceError.compacted(compactRevision: 0)) { try keyspace.compact(to: 0) }
    #expect(throws: KeyspaceError.compacted(compactRevision: 0)) { try keyspace.compact(to: -1) }
  }

  @Test("A tombstone of the compact revision is kept, older ones go", arguments: [false, true])
  func tombstones(isRemoved: Bool) throws {
    var trial = try Self.story()
    trial.delete(.single("b"))  // @7
    trial.delete(.single("c"))  // @8
    try trial.keyspace.compact(to: 8)
    if isRemoved { while trial.keyspace.compactStep(maxKeys: 1) {} }
    func historyAtCompaction(_ range: KeyRange) throws -> [String] {
      try trial.keyspace.history(
        from: 8, in: range, wantsPrevious: true, limit: .max, maxBytes: .max, allowsCompactRevision: true
      ).events.map { "\($0.text), was \($0.previous?.value.description ?? "?")" }
    }
    #expect(try historyAtCompaction(.from("")) == ["delete c @8, was ?"])
    #expect(try historyAtCompaction(.single("c")) == ["delete c @8, was ?"])
    #expect(try historyAtCompaction(.single("b")) == [])
    try trial.put("z", "")
    try trial.keyspace.compact(to: 9)
    while trial.keyspace.compactStep(maxKeys: 1) {}
    #expect(try trial.all() == ["a=2", "z="])
    #expect(trial.keyspace.keyCount == 2)
  }

  @Test("Removing compacted versions in steps gives memory back and changes nothing that can be seen")
  func steps() throws {
    var trial = Trial()
    for round in 0..<5 {
      for number in 0..<500 { try trial.put(Bytes("key/\(number)"), Bytes("\(round)")) }
    }
    trial.delete(.prefix("key/1"))
    let full = trial.keyspace.sizeInBytes
    try trial.keyspace.compact(to: trial.revision)
    let (bytes, hash) = (trial.keyspace.encoded(), try trial.keyspace.hash(at: 0))
    var calls = 1
    while trial.keyspace.compactStep(maxKeys: 10) {
      calls += 1
      if calls % 10 == 0 { #expect(trial.keyspace.encoded() == bytes) }
    }
    #expect(calls == 50)
    #expect(trial.keyspace.encoded() == bytes)
    #expect(try trial.keyspace.hash(at: 0) == hash)
    #expect(trial.keyspace.sizeInBytes < full / 4)
    #expect(trial.keyspace.keyCount == 389)
  }

  @Test("Writes alone bring a compaction to its end")
  func stepsByWrites() throws {
    var trial = Trial()
    for round in 0..<3 {
      for number in 0..<500 { try trial.put(Bytes("key/\(number)"), Bytes("\(round)")) }
    }
    try trial.keyspace.compact(to: trial.revision)
    for _ in 0..<20 { try trial.put("other", "") }
    let isUnfinished = trial.keyspace.compactStep(maxKeys: 1)
    #expect(!isUnfinished)
  }
}
