import Keyspace
import Primitives
import StateMachine
import Testing

@Suite("The lease oracle: a lease ends by the lease clock, never early, and exactly once")
struct LeaseOracleTests {
  @Test("An expire command before the deadline takes nothing; at the deadline it takes lease and key")
  func neverEarly() {
    var log = Log()
    log.at(1_000, .grant(7, 5_000), .put("key", lease: 7))
    #expect(log.remaining(7, at: 1_000) == 5_000)
    #expect(log.due(at: 5_999) == [])
    #expect(log.at(5_999, .leaseExpire(ids: [7])) == [.leasesExpired(count: 0, revision: 2)])
    #expect(log.keys(of: 7) == ["key"])
    #expect(log.remaining(7, at: 5_999) == 1)
    #expect(log.due(at: 6_000) == [7])
    #expect(log.at(6_000, .leaseExpire(ids: [7])) == [.leasesExpired(count: 1, revision: 3)])
    #expect(log.story == ["3 expired key"])
    #expect(log.remaining(7, at: 6_000) == nil)
    #expect(log.keys(of: 7) == [])
  }

  @Test("A renewal that commits before the expire command wins, though the lease was due when it was proposed")
  func renewalWins() {
    var log = Log()
    log.at(0, .grant(7, 1_000), .put("key", lease: 7))
    #expect(log.due(at: 1_500) == [7])
    #expect(log.at(1_500, .leaseRenew(ids: [7])) == [.leasesRenewed([1_000], revision: 2)])
    #expect(log.at(1_501, .leaseExpire(ids: [7])) == [.leasesExpired(count: 0, revision: 2)])
    #expect(log.story == [])
    #expect(log.remaining(7, at: 1_501) == 999)
  }

  @Test("A renewal that commits after the expire command finds no lease: TTL 0 and no error")
  func renewalTooLate() {
    var log = Log()
    log.at(0, .grant(7, 1_000))
    log.at(1_000, .leaseExpire(ids: [7]))
    #expect(log.at(1_000, .leaseRenew(ids: [7, 8])) == [.leasesRenewed([0, 0], revision: 1)])
  }

  @Test("A put on a lease that has expired is refused and changes nothing")
  func putOnExpired() {
    var log = Log()
    log.at(0, .grant(7, 1_000))
    log.at(1_000, .leaseExpire(ids: [7]))
    #expect(log.at(1_000, .put("key", lease: 7)) == [.refused(.leaseNotFound)])
    #expect(log.machine.keyspace.revision == 1)
    let inTransaction = Command.transaction(TransactionRequest(success: [.put(PutRequest("k", "v", lease: 7))]))
    #expect(log.at(1_000, inTransaction) == [.refused(.leaseNotFound)])
  }

  @Test("The clock never runs back: an entry with an older stamp happens at the newest stamp seen")
  func clockNeverRunsBack() {
    var log = Log()
    log.at(10_000, .tick)
    log.at(4_000, .grant(7, 1_000))
    #expect(log.machine.clock == LeaseClock(milliseconds: 10_000))
    #expect(log.remaining(7, at: 10_000) == 1_000)
    log.at(9_000, .leaseExpire(ids: [7]))
    #expect(log.remaining(7, at: 10_000) == 1_000)
  }

  @Test("Leases that expire in one command have a revision each, in its order; those without keys have none")
  func revisions() {
    var log = Log()
    log.at(0, .grant(1, 100), .grant(2, 100), .grant(3, 100), .grant(4, 9_000))
    log.at(0, .put("b", lease: 1), .put("a", lease: 1), .put("c", lease: 3), .put("d", lease: 4))
    let results = log.at(100, .leaseExpire(ids: [3, 2, 4, 1, 1]))
    #expect(results == [.leasesExpired(count: 3, revision: 7)])
    #expect(log.story == ["6 expired c", "7 expired a", "7 expired b"])
    #expect(log.machine.leases.ids == [4])
  }

  @Test("One expire command is offered no more keys than the limit, but always one lease")
  func budget() {
    var log = Log()
    let half = Limits.maxExpiredKeysPerCommand / 2
    var commands: [Command] = [.grant(1, 100), .grant(2, 200), .grant(3, 300), .grant(4, 400)]
    for (lease, count) in [(1, half), (2, half), (3, 1), (4, 2 * half + 1)] as [(LeaseID, Int)] {
      commands += (0..<count).map { .put(Bytes("\(lease)/\($0)"), lease: lease) }
    }
    log.apply(CommandBatch(clock: .zero, commands: commands))
    #expect(log.due(at: 500) == [1, 2])
    #expect(log.machine.expiryBatch(at: LeaseClock(milliseconds: 500)).isCut)
    log.at(500, .leaseExpire(ids: [1, 2]))
    #expect(log.due(at: 500) == [3])
    log.at(500, .leaseExpire(ids: [3]))
    #expect(log.due(at: 500) == [4])
    #expect(!log.machine.expiryBatch(at: LeaseClock(milliseconds: 500)).isCut)
  }

  @Test("One expire command is offered no more leases than the limit, and says that it leaves some")
  func budgetOfLeases() {
    var log = Log()
    log.apply(
      CommandBatch(clock: .zero, commands: (0..<Limits.maxExpiriesPerCommand + 1).map { .grant(LeaseID($0 + 1), 100) }))
    let batch = log.machine.expiryBatch(at: LeaseClock(milliseconds: 100))
    #expect(batch.ids.count == Limits.maxExpiriesPerCommand && batch.isCut)
    log.at(100, .leaseExpire(ids: batch.ids))
    #expect(log.machine.expiryBatch(at: LeaseClock(milliseconds: 100)).ids.count == 1)
  }
}
