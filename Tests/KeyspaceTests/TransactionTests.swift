import Keyspace
import Primitives
import Testing

@Suite("A transaction compares, chooses, checks and runs as etcd's applyTxn does")
struct TransactionTests {
  @Test("All changes share one revision; without a change there is none")
  func oneRevision() throws {
    var trial = Trial()
    try trial.transact(then: [.put("a", "1"), .put("b", "2"), .get("a")])
    #expect(trial.revision == 2)
    #expect(trial.events.map(\.text) == ["put a=1 @2", "put b=2 @2"])
    try trial.transact(then: [.get("a"), .delete(.single("nothing"))])
    try trial.transact()
    #expect(trial.revision == 2)
  }

  @Test("Later operations see earlier ones; an explicit revision sees the state before")
  func seesItself() throws {
    var trial = Trial()
    try trial.put("k", "old")
    let results = try trial.transact(
      then: [.get("k"), .put("k", "new"), .get("k"), .get("k", at: 2), .delete(.from("")), .get("k")]
    ).results
    #expect(results.compactMap(\.values) == [["old"], ["new"], ["old"], []])
    let revisions = results.compactMap { result -> Int64? in
      if case .range(let range) = result { range.revision } else { nil }
    }
    #expect(revisions == [2, 3, 3, 3])
  }

  @Test("A key may come, go and come back in one transaction; each time is a sub-revision")
  func sameKey() throws {
    var trial = Trial()
    try trial.transact(then: [.put("k", "1"), .put("k", "2"), .delete(.single("k")), .put("k", "3")])
    #expect(
      try trial.get("k") == KeyRecord(key: "k", value: "3", createRevision: 2, modRevision: 2, version: 1))
    #expect(try trial.history(from: 2).events == trial.events)
    #expect(trial.events.map(\.text) == ["put k=1 @2", "put k=2 @2", "delete k @2", "put k=3 @2"])
    #expect(trial.keyspace.keyCount == 1)
    let copy = try Keyspace(encoded: trial.keyspace.encoded())
    #expect(copy.encoded() == trial.keyspace.encoded())
  }

  @Test(
    "Every target and result compares",
    arguments: [
      (Comparison(.single("k"), .equal, .version(2)), true),
      (Comparison(.single("k"), .equal, .version(1)), false),
      (Comparison(.single("k"), .notEqual, .version(1)), true),
      (Comparison(.single("k"), .less, .createRevision(3)), true),
      (Comparison(.single("k"), .greater, .createRevision(2)), false),
      (Comparison(.single("k"), .greater, .modRevision(2)), true),
      (Comparison(.single("k"), .less, .modRevision(3)), false),
      (Comparison(.single("k"), .equal, .value("v2")), true),
      (Comparison(.single("k"), .less, .value("v10")), false),
      (Comparison(.single("k"), .equal, .lease(7)), true),
      (Comparison(.single("k"), .notEqual, .lease(7)), false),
      // An absent key is all zeros, but no value compares with it.
      (Comparison(.single("none"), .equal, .version(0)), true),
      (Comparison(.single("none"), .equal, .createRevision(0)), true),
      (Comparison(.single("none"), .less, .modRevision(1)), true),
      (Comparison(.single("none"), .equal, .value("")), false),
      (Comparison(.single("none"), .notEqual, .value("x")), false),
      // A range: every key has to satisfy; an empty one is as an absent key.
      (Comparison(.prefix("r/"), .greater, .createRevision(0)), true),
      (Comparison(.prefix("r/"), .equal, .value("1")), false),
      (Comparison(.prefix("none/"), .equal, .version(0)), true),
      (Comparison(.prefix("none/"), .equal, .version(1)), false),
      (Comparison(.prefix("none/"), .notEqual, .value("x")), false),
    ])
  func comparisons(comparison: Comparison, holds: Bool) throws {
    var trial = Trial()
    trial.leases = [7]
    try trial.put("k", "v1")
    try trial.put("k", "v2", lease: 7)
    try trial.put("r/1", "1")
    try trial.put("r/2", "2")
    #expect(try trial.transact(if: [comparison]).succeeded == holds)
    #expect(try trial.transact(if: [comparison, Comparison(.single("k"), .equal, .version(2))]).succeeded == holds)
  }

  @Test("The branch not taken leaves no trace")
  func branches() throws {
    var trial = Trial()
    let absent = Comparison(.single("lock"), .equal, .createRevision(0))
    #expect(try trial.transact(if: [absent], then: [.put("lock", "me")], else: [.get("lock")]).succeeded)
    let second = try trial.transact(if: [absent], then: [.put("lock", "you")], else: [.get("lock")])
    #expect(!second.succeeded)
    #expect(second.results.map(\.values) == [["me"]])
    #expect(trial.revision == 2)
  }

  @Test("Nested transactions choose their branch on the state before the outermost one")
  func nested() throws {
    var trial = Trial()
    let inner = TransactionRequest(
      comparisons: [Comparison(.single("k"), .equal, .version(0))],
      success: [.put("seen", "absent"), .get("k")], failure: [.put("seen", "present")])
    let result = try trial.transact(then: [.put("k", "v"), .transaction(inner), .get("seen")])
    guard case .transaction(let nested) = result.results[1] else {
      Issue.record("the second result is not a transaction's")
      return
    }
    #expect(nested.succeeded)
    #expect(nested.results.last?.values == ["v"])
    #expect(result.results.last?.values == ["absent"])
    #expect(trial.revision == 2)
  }

  @Test("What a transaction needs is checked before anything runs: keys, leases, revisions")
  func checks() throws {
    var trial = Trial()
    try trial.put("k", "v")
    try trial.put("k", "v")
    try trial.keyspace.compact(to: 3)
    let before = (trial.keyspace.encoded(), trial.events.count)
    var ignoring = PutRequest("fresh", "")
    ignoring.ignoresValue = true
    let nested = { (step: Keyspace.Step) in Keyspace.Step.transaction(TransactionRequest(success: [step])) }
    let cases: [(Keyspace.Step, KeyspaceError)] = [
      (.put(PutRequest("x", "", lease: 5)), .leaseNotFound),
      (.put(ignoring), .keyNotFound),
      (.get("k", at: 4), .futureRevision),
      (.get("k", at: 2), .compacted(compactRevision: 3)),
    ]
    for (step, error) in cases {
      // A put of the missing key earlier in the same transaction does not help.
      #expect(throws: error) { try trial.transact(then: [.put("fresh", "1"), step]) }
      #expect(throws: error) { try trial.transact(then: [.put("fresh", "1"), nested(step)]) }
      // Not in a branch that is not taken.
      try trial.transact(then: [], else: [step])
    }
    #expect(trial.keyspace.encoded() == before.0)
    #expect(trial.events.count == before.1)
    try trial.transact(then: [.get("k", at: 3)])
  }

  @Test("A put that builds on a key which the same transaction deletes undoes all of it")
  func undo() throws {
    var trial = Trial()
    try trial.put("k", "v")
    let before = (trial.keyspace.encoded(), trial.events)
    var ignoring = PutRequest("k", "")
    ignoring.ignoresValue = true
    #expect(throws: KeyspaceError.keyNotFound) {
      try trial.transact(then: [.put("other", "1"), .delete(.single("k")), .put(ignoring)])
    }
    #expect(trial.keyspace.encoded() == before.0)
    #expect(trial.events == before.1)
  }
}
