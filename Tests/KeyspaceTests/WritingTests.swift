import Keyspace
import Primitives
import Testing

@Suite("Puts and deletions give revisions, versions and generations as etcd does")
struct WritingTests {
  @Test("A fresh keyspace is at revision 1 and empty")
  func fresh() throws {
    let trial = Trial()
    #expect(trial.revision == 1)
    #expect(trial.keyspace.compactRevision == 0)
    #expect(trial.keyspace.keyCount == 0)
    #expect(try trial.all().isEmpty)
  }

  @Test("Each put is a revision; the create revision stays and the version counts until the key is deleted")
  func generations() throws {
    var trial = Trial()
    #expect(try trial.put("k", "a") == nil)
    #expect(try trial.put("k", "b")?.value == "a")
    #expect(
      try trial.get("k") == KeyRecord(key: "k", value: "b", createRevision: 2, modRevision: 3, version: 2))
    #expect(trial.delete(.single("k")).deleted == 1)
    #expect(try trial.get("k") == nil)
    try trial.put("k", "c")
    #expect(
      try trial.get("k") == KeyRecord(key: "k", value: "c", createRevision: 5, modRevision: 5, version: 1))
    #expect(trial.keyspace.keyCount == 1)
  }

  @Test("Deleting nothing does not raise the revision")
  func deletingNothing() throws {
    var trial = Trial()
    try trial.put("k", "a")
    trial.delete(.single("other"))
    trial.delete(.halfOpen(start: "z", end: "a"))
    trial.keyspace.delete(keys: ["x", "y"], cause: .leaseExpired, events: &trial.events)
    #expect(trial.revision == 2)
    trial.delete(.single("k"))
    trial.delete(.single("k"))
    #expect(trial.revision == 3)
  }

  @Test("A range is deleted at one revision, each key with an event and its previous record")
  func deletingRange() throws {
    var trial = Trial()
    for key in ["a", "b/1", "b/2", "c"] as [Bytes] { try trial.put(key, "v") }
    trial.events = []
    let result = trial.delete(.prefix("b/"))
    #expect(result.deleted == 2)
    #expect(result.previous.map(\.key) == ["b/1", "b/2"])
    #expect(trial.revision == 6)
    #expect(trial.events.map(\.text) == ["delete b/1 @6", "delete b/2 @6"])
    #expect(trial.events.map(\.previous?.modRevision) == [3, 4])
    #expect(try trial.all() == ["a=v", "c=v"])
  }

  @Test("A lease's end deletes its keys at one revision and says why")
  func deletingByLease() throws {
    var trial = Trial()
    trial.leases = [7]
    try trial.put("a", "1", lease: 7)
    try trial.put("b", "2", lease: 7)
    trial.events = []
    trial.keyspace.delete(keys: ["a", "gone", "b"], cause: .leaseExpired, events: &trial.events)
    #expect(trial.revision == 4)
    #expect(trial.events.map(\.kind) == [.delete(.leaseExpired), .delete(.leaseExpired)])
    #expect(try trial.history(from: 4).events == trial.events)
  }

  @Test("A put with an unknown lease is refused and changes nothing")
  func unknownLease() throws {
    var trial = Trial()
    #expect(throws: KeyspaceError.leaseNotFound) { try trial.put("k", "v", lease: 9) }
    #expect(trial.revision == 1)
    trial.leases = [9]
    try trial.put("k", "v", lease: 9)
    #expect(try trial.get("k")?.lease == 9)
    try trial.put("k", "v")
    #expect(try trial.get("k")?.lease == 0)
  }

  @Test("A put may keep the value or the lease that the key has, but needs the key")
  func ignoring() throws {
    var trial = Trial()
    trial.leases = [7, 8]
    var keepsValue = PutRequest("k", "", lease: 8)
    keepsValue.ignoresValue = true
    var keepsLease = PutRequest("k", "new")
    keepsLease.ignoresLease = true
    #expect(throws: KeyspaceError.keyNotFound) { try trial.put(keepsValue) }
    #expect(throws: KeyspaceError.keyNotFound) { try trial.put(keepsLease) }
    #expect(trial.revision == 1)

    try trial.put("k", "old", lease: 7)
    try trial.put(keepsValue)
    #expect(try trial.get("k")?.value == "old")
    #expect(try trial.get("k")?.lease == 8)
    try trial.put(keepsLease)
    #expect(try trial.get("k")?.value == "new")
    #expect(try trial.get("k")?.lease == 8)
  }

  @Test("The previous record is answered only when it is asked for; events always have it")
  func previous() throws {
    var trial = Trial()
    try trial.put("k", "a")
    #expect(try trial.put(PutRequest("k", "b")) == nil)
    #expect(trial.events.last?.previous?.value == "a")
    #expect(trial.keyspace.delete(DeleteRequest(.single("k")), events: &trial.events).previous.isEmpty)
  }

  @Test("A copy does not see later writes, nor the original those of the copy")
  func copies() throws {
    var trial = Trial()
    for number in 0..<1_000 { try trial.put(Bytes("key/\(number)"), "old") }
    let bytes = trial.keyspace.encoded()
    let snapshot = trial
    var branch = trial
    for number in 0..<1_000 { try trial.put(Bytes("key/\(number)"), "new") }
    trial.delete(.prefix("key/5"))
    try trial.keyspace.compact(to: trial.revision)
    while trial.keyspace.compactStep(maxKeys: 100) {}
    for number in 1_000..<2_000 { try branch.put(Bytes("key/\(number)"), "branch") }

    #expect(snapshot.keyspace.encoded() == bytes)
    #expect(snapshot.revision == 1_001)
    #expect(snapshot.keyspace.keyCount == 1_000)
    #expect(try snapshot.get("key/500")?.value == "old")
    #expect(try trial.get("key/500") == nil)
    #expect(try trial.get("key/1")?.value == "new")
    #expect(try branch.get("key/500")?.value == "old")
    #expect(branch.keyspace.keyCount == 2_000)
    #expect(trial.keyspace.keyCount == 1_000 - 111)
  }
}
