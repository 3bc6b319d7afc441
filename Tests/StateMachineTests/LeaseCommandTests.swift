import Keyspace
import Primitives
import StateMachine
import Testing

@Suite("Lease commands keep etcd's meaning")
struct LeaseCommandTests {
  @Test("Granting refuses ID 0, a TTL out of range and an ID that exists")
  func grantRefusals() {
    var log = Log()
    let longest = Limits.maxLeaseTTLSeconds * 1_000
    #expect(log.at(0, .grant(1, longest)) == [.leaseGranted(id: 1, ttlMilliseconds: longest, revision: 1)])
    #expect(
      log.at(0, .grant(2, longest + 1), .grant(2, 0), .grant(2, -1)).map(\.refusal) == [
        .leaseTTLTooLarge, .leaseTTLTooLarge, .leaseTTLTooLarge,
      ])
    #expect(log.at(0, .grant(1, 5), .grant(0, 5)).map(\.refusal) == [.leaseExists, .leaseNotFound])
    #expect(log.remaining(1, at: 0) == longest)
  }

  @Test("Revoking deletes all keys of the lease at one revision, sorted, and says so")
  func revoke() {
    var log = Log()
    log.at(0, .grant(1, 5_000), .grant(2, 5_000))
    log.at(0, .put("b", lease: 1), .put("a", lease: 1), .put("c", lease: 2))
    #expect(log.at(0, .leaseRevoke(id: 1)) == [.leaseRevoked(revision: 5)])
    #expect(log.story == ["5 revoked a", "5 revoked b"])
    #expect(log.at(0, .leaseRevoke(id: 1)) == [.refused(.leaseNotFound)])
    #expect(log.at(0, .leaseRevoke(id: 0)) == [.refused(.leaseNotFound)])
    #expect(log.keys(of: 2) == ["c"])
  }

  @Test("A lease without keys ends without a revision")
  func revokeWithoutKeys() {
    var log = Log()
    log.at(0, .grant(1, 5_000))
    #expect(log.at(0, .leaseRevoke(id: 1)) == [.leaseRevoked(revision: 1)])
  }

  @Test("A put again moves the key to the new put's lease, or to none")
  func reattach() {
    var log = Log()
    log.at(0, .grant(1, 100), .grant(2, 200), .put("key", lease: 1))
    log.at(0, .put("key", lease: 2))
    #expect(log.keys(of: 1) == [])
    #expect(log.keys(of: 2) == ["key"])
    log.at(100, .leaseExpire(ids: [1]))
    #expect(log.story == [])
    log.at(100, .put("key"))
    #expect(log.keys(of: 2) == [])
    log.at(200, .leaseExpire(ids: [2]))
    #expect(log.story == [])
    #expect(log.machine.keyspace.keyCount == 1)
  }

  @Test("A put that ignores its lease keeps the key where it hangs")
  func ignoredLease() {
    var log = Log()
    log.at(0, .grant(1, 100), .put("key", lease: 1))
    var request = PutRequest("key", "other")
    request.ignoresLease = true
    log.at(0, .put(request))
    #expect(log.keys(of: 1) == ["key"])
  }

  @Test("A deleted key no longer hangs on its lease; a new one of the same name does not inherit it")
  func deleteDetaches() {
    var log = Log()
    log.at(0, .grant(1, 100), .put("a", lease: 1), .put("b", lease: 1), .put("c", lease: 1))
    log.at(0, .delete("a"), .delete(DeleteRequest(.prefix("c"))), .put("a"))
    #expect(log.keys(of: 1) == ["b"])
    log.at(100, .leaseExpire(ids: [1]))
    #expect(log.story == ["8 expired b"])
  }

  @Test("A transaction attaches and detaches like its operations one by one")
  func transaction() {
    var log = Log()
    log.at(0, .grant(1, 100), .grant(2, 100), .put("a", lease: 1), .put("b", lease: 1))
    log.at(
      0,
      .transaction(
        TransactionRequest(success: [
          .delete(DeleteRequest(.single("a"))), .put(PutRequest("b", "", lease: 2)),
          .transaction(TransactionRequest(success: [.put(PutRequest("c", "", lease: 1))])),
        ])))
    #expect(log.keys(of: 1) == ["c"])
    #expect(log.keys(of: 2) == ["b"])
  }

  @Test("A lease that takes the place of a gone one has none of its keys")
  func reusedSlot() {
    var log = Log()
    log.at(0, .grant(1, 100), .put("a", lease: 1), .leaseRevoke(id: 1), .grant(2, 100))
    #expect(log.keys(of: 2) == [])
  }
}

@Suite("Grant and transact: both or neither")
struct GrantAndTransactTests {
  private static func ifAbsent(_ key: Bytes, lease: LeaseID) -> Command {
    .grantAndTransact(
      grants: [LeaseGrant(id: lease, ttlMilliseconds: 1_000)],
      request: TransactionRequest(
        comparisons: [Comparison(.single(key), .equal, .createRevision(0))],
        success: [.put(PutRequest(key, "mine", lease: lease))],
        failure: [.range(RangeQuery(.single(key)))]))
  }

  @Test("When the comparisons hold, leases are granted and puts may name them")
  func success() {
    var log = Log()
    let results = log.at(50, Self.ifAbsent("key", lease: 1))
    #expect(results == [.transaction(TransactionResult(succeeded: true, results: [.put(previous: nil)]), revision: 2)])
    #expect(log.keys(of: 1) == ["key"])
    #expect(log.remaining(1, at: 50) == 1_000)
  }

  @Test("When they fail, the failure branch runs and no lease is granted")
  func failedComparison() {
    var log = Log()
    log.at(0, Self.ifAbsent("key", lease: 1))
    guard case .transaction(let result, 2) = log.at(0, Self.ifAbsent("key", lease: 2))[0],
      case .range(let range) = result.results.first
    else {
      Issue.record("no transaction result")
      return
    }
    #expect(!result.succeeded)
    #expect(range.records.map(\.lease) == [1])
    #expect(log.machine.leases.ids == [1])
  }

  @Test("A lease that exists, is named twice or has a bad TTL refuses the whole")
  func refusedGrants() {
    var log = Log()
    log.at(0, .grant(1, 100))
    let twice = [LeaseGrant(id: 2, ttlMilliseconds: 5), LeaseGrant(id: 2, ttlMilliseconds: 5)]
    let results = log.at(
      0, Self.ifAbsent("key", lease: 1), .grantAndTransact(grants: twice, request: TransactionRequest()),
      .grantAndTransact(grants: [LeaseGrant(id: 3, ttlMilliseconds: 0)], request: TransactionRequest()))
    #expect(results.map(\.refusal) == [.leaseExists, .leaseExists, .leaseTTLTooLarge])
    #expect(log.machine.keyspace.revision == 1)
    #expect(log.machine.leases.ids == [1])
  }

  @Test("The leases that it ends go with it, and with them what keys it has left them")
  func revokes() {
    var log = Log()
    log.at(0, .grant(1, 100), .grant(2, 100), .put("moves", lease: 1), .put("stays", lease: 2))
    let moves = TransactionRequest(
      comparisons: [Comparison(.single("moves"), .equal, .lease(1))],
      success: [.put(PutRequest("moves", "", lease: 3))])
    let command = Command.grantAndTransact(
      grants: [LeaseGrant(id: 3, ttlMilliseconds: 100)], request: moves, revokes: [1, 2, 9])
    guard case .transaction(let result, let revision) = log.at(0, command)[0], result.succeeded else {
      Issue.record("the comparison holds")
      return
    }
    #expect(log.machine.leases.ids == [3])
    #expect(log.keys(of: 3) == ["moves"])
    #expect(log.machine.keyspace.revision == revision + 1, "the key of lease 2 has a revision of its own")
    // Its comparison fails now: nothing ends.
    log.at(0, .grantAndTransact(grants: [], request: moves, revokes: [3]))
    #expect(log.machine.leases.ids == [3])
  }

  @Test("A refused request grants nothing")
  func refusedRequest() {
    var log = Log()
    let request = TransactionRequest(success: [.put(PutRequest("key", "", lease: 9))])
    let grants = [LeaseGrant(id: 1, ttlMilliseconds: 100)]
    #expect(log.at(0, .grantAndTransact(grants: grants, request: request)) == [.refused(.leaseNotFound)])
    #expect(log.machine.leases.count == 0)
  }

  @Test("A failure branch may not name a lease that would not come to be, however deep")
  func failureBranchNamesNewLease() {
    var log = Log()
    let put = Operation.put(PutRequest("key", "", lease: 1))
    let request = TransactionRequest(failure: [.transaction(TransactionRequest(success: [put]))])
    let grants = [LeaseGrant(id: 1, ttlMilliseconds: 100)]
    #expect(log.at(0, .grantAndTransact(grants: grants, request: request)) == [.refused(.leaseNotFound)])
    #expect(log.machine.leases.count == 0)
  }
}
