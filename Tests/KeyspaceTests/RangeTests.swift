import Keyspace
import Primitives
import Testing

@Suite("A range answers what etcd's applyRange answers")
struct RangeTests {
  /// a=3 @2, b=2 @3, c=1 @4, d=0 @5
  private static func fourKeys() throws -> Trial {
    var trial = Trial()
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("d", "0")] { try trial.put(Bytes(key), Bytes(value)) }
    return trial
  }

  private static func keys(_ trial: Trial, _ adjust: (inout RangeQuery) -> Void) throws -> String {
    var query = RangeQuery(.halfOpen(start: "a", end: "z"))
    adjust(&query)
    let result = try trial.keyspace.range(query)
    return result.records.map(\.key.description).joined() + " of \(result.count)" + (result.more ? " and more" : "")
  }

  @Test("One key, a half-open range, everything from a key, a prefix")
  func shapes() throws {
    var trial = try Self.fourKeys()
    try trial.put("b/", "")
    func keys(_ range: KeyRange) throws -> [Bytes] { try trial.keyspace.range(RangeQuery(range)).records.map(\.key) }
    #expect(try keys(.single("b")) == ["b"])
    #expect(try keys(.single("bb")) == [])
    #expect(try keys(.halfOpen(start: "b", end: "d")) == ["b", "b/", "c"])
    #expect(try keys(.halfOpen(start: "d", end: "b")) == [])
    #expect(try keys(.from("c")) == ["c", "d"])
    #expect(try keys(.from("")) == ["a", "b", "b/", "c", "d"])
    #expect(try keys(.prefix("b")) == ["b", "b/"])
    #expect(try keys(KeyRange(key: "b", rangeEnd: Bytes([0]))) == ["b", "b/", "c", "d"])
  }

  @Test("A limit cuts, says that there is more, and does not change the count")
  func limits() throws {
    let trial = try Self.fourKeys()
    #expect(try Self.keys(trial) { $0.limit = 2 } == "ab of 4 and more")
    #expect(try Self.keys(trial) { $0.limit = 4 } == "abcd of 4")
    #expect(try Self.keys(trial) { $0.limit = 9 } == "abcd of 4")
    #expect(try Self.keys(trial) { $0.limit = .max } == "abcd of 4")
    #expect(try Self.keys(trial) { $0.countOnly = true } == " of 4")
    #expect(try Self.keys(trial) { ($0.countOnly, $0.limit) = (true, 1) } == " of 4")
  }

  @Test("Sorting with an order sees the whole range before the limit cuts")
  func sorting() throws {
    var trial = try Self.fourKeys()
    try trial.put("a", "3")
    #expect(try Self.keys(trial) { $0.sortOrder = .descend } == "dcba of 4")
    #expect(try Self.keys(trial) { ($0.sortOrder, $0.sortTarget) = (.ascend, .value) } == "dcba of 4")
    #expect(try Self.keys(trial) { ($0.sortOrder, $0.sortTarget) = (.ascend, .mod) } == "bcda of 4")
    #expect(try Self.keys(trial) { ($0.sortOrder, $0.sortTarget) = (.descend, .create) } == "dcba of 4")
    #expect(try Self.keys(trial) { ($0.sortOrder, $0.sortTarget) = (.descend, .version) } == "abcd of 4")
    #expect(
      try Self.keys(trial) { ($0.sortOrder, $0.sortTarget, $0.limit) = (.ascend, .value, 2) } == "dc of 4 and more")
  }

  @Test("A target without an order ascends, within the limit and one that etcd has read by then")
  func sortingWithoutOrder() throws {
    let trial = try Self.fourKeys()
    #expect(try Self.keys(trial) { $0.sortTarget = .value } == "dcba of 4")
    #expect(try Self.keys(trial) { ($0.sortTarget, $0.limit) = (.value, 2) } == "cb of 4 and more")
  }

  @Test("Revision filters apply before the limit and leave the count alone")
  func filters() throws {
    var trial = try Self.fourKeys()
    try trial.put("b", "again")  // mod 6, create 3
    #expect(try Self.keys(trial) { $0.minModRevision = 5 } == "bd of 4")
    #expect(try Self.keys(trial) { $0.maxModRevision = 4 } == "ac of 4")
    #expect(try Self.keys(trial) { $0.minCreateRevision = 4 } == "cd of 4")
    #expect(try Self.keys(trial) { $0.maxCreateRevision = 3 } == "ab of 4")
    #expect(try Self.keys(trial) { ($0.maxCreateRevision, $0.limit) = (4, 2) } == "ab of 4 and more")
    #expect(try Self.keys(trial) { ($0.minModRevision, $0.maxCreateRevision) = (4, 3) } == "b of 4")
  }

  @Test("Keys only: values are left out, all else is there, and sorting by value still works")
  func keysOnly() throws {
    let trial = try Self.fourKeys()
    var query = RangeQuery(.from(""))
    (query.keysOnly, query.sortTarget) = (true, .value)
    let records = try trial.keyspace.range(query).records
    #expect(records.map(\.key) == ["d", "c", "b", "a"])
    #expect(records.allSatisfy { $0.value.isEmpty && $0.version == 1 && $0.modRevision > 1 })
  }

  @Test("An old revision is read as it was; the answer names the current one")
  func oldRevisions() throws {
    var trial = try Self.fourKeys()
    try trial.put("a", "new")
    trial.delete(.single("b"))
    #expect(try trial.all(at: 1) == [])
    #expect(try trial.all(at: 3) == ["a=3", "b=2"])
    #expect(try trial.all(at: 6) == ["a=new", "b=2", "c=1", "d=0"])
    #expect(try trial.all(at: 7) == ["a=new", "c=1", "d=0"])
    #expect(try trial.keyspace.range(RangeQuery(.single("a"), revision: 2)).revision == 7)
    #expect(throws: KeyspaceError.futureRevision) { try trial.all(at: 8) }
  }
}
