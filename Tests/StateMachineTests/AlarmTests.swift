import Keyspace
import Primitives
import StateMachine
import TestSupport
import Testing

@Suite("Alarms are part of the state and forbid what etcd's forbid")
struct AlarmTests {
  private static let noSpace = Alarm(memberID: 7, kind: .noSpace)

  @Test("Activation is told each time, the end of an alarm once; members and kinds are apart")
  func activation() {
    var log = Log()
    let other = Alarm(memberID: 3, kind: .noSpace)
    #expect(log.at(0, .alarm(.activate, Self.noSpace)) == [.alarms([Self.noSpace], revision: 1)])
    #expect(log.at(0, .alarm(.activate, Self.noSpace)) == [.alarms([Self.noSpace], revision: 1)])
    log.at(0, .alarm(.activate, other))
    #expect(log.machine.alarms == [other, Self.noSpace])
    #expect(log.at(0, .alarm(.deactivate, Alarm(memberID: 7, kind: .corrupt))) == [.alarms([], revision: 1)])
    #expect(log.at(0, .alarm(.deactivate, Alarm(memberID: 0, kind: .noSpace))) == [.alarms([], revision: 1)])
    #expect(log.at(0, .alarm(.deactivate, Self.noSpace)) == [.alarms([Self.noSpace], revision: 1)])
    #expect(log.machine.isActive(.noSpace))
    log.at(0, .alarm(.deactivate, other))
    #expect(!log.machine.isActive(.noSpace))
  }

  @Test("Without space nothing is added, and everything that ends something works")
  func noSpace() {
    var log = Log()
    log.at(0, .grant(1, 1_000), .grant(2, 1_000), .put("a", lease: 1), .put("b", lease: 2), .put("c"))
    log.at(0, .alarm(.activate, Self.noSpace))
    let put = Operation.put(PutRequest("k", "v"))
    let read = Operation.range(RangeQuery(.single("c")))
    let refused: [Command] = [
      .put("x"), .grant(3, 1_000), .transaction(TransactionRequest(success: [read, put])),
      .transaction(TransactionRequest(failure: [put])),
      .transaction(TransactionRequest(success: [.transaction(TransactionRequest(failure: [put]))])),
      .grantAndTransact(grants: [LeaseGrant(id: 4, ttlMilliseconds: 5)], request: TransactionRequest()),
    ]
    for command in refused { #expect(log.at(0, command) == [.refused(.noSpace)]) }
    #expect(log.machine.keyspace.revision == 4)

    let gone = Operation.delete(DeleteRequest(.single("c")))
    #expect(log.at(0, .transaction(TransactionRequest(success: [read, gone]))).first?.refusal == nil)
    #expect(log.at(500, .leaseRenew(ids: [2])) == [.leasesRenewed([1_000], revision: 5)])
    #expect(log.at(600, .leaseRevoke(id: 2)) == [.leaseRevoked(revision: 6)])
    #expect(log.at(1_000, .leaseExpire(ids: [1])) == [.leasesExpired(count: 1, revision: 7)])
    #expect(log.at(1_000, .compact(revision: 7)) == [.compacted(revision: 7)])
    #expect(log.at(1_000, .delete("nothing")).first?.refusal == nil)

    log.at(1_000, .alarm(.deactivate, Self.noSpace))
    #expect(log.at(1_000, .put("x")).first?.refusal == nil)
  }

  @Test("A corruption stops every change, expiry too; deadlines still move")
  func corruption() {
    var log = Log()
    log.at(0, .grant(1, 1_000), .put("a", lease: 1), .alarm(.activate, Alarm(memberID: 7, kind: .corrupt)))
    let refused: [Command] = [
      .put("x"), .delete("a"), .transaction(TransactionRequest()), .compact(revision: 2), .grant(2, 5),
      .leaseRevoke(id: 1), .leaseExpire(ids: [1]),
    ]
    for command in refused { #expect(log.at(2_000, command) == [.refused(.corrupt)]) }
    #expect(log.at(2_000, .leaseRenew(ids: [1])) == [.leasesRenewed([1_000], revision: 2)])
    #expect(log.keys(of: 1) == ["a"])
  }

  @Test("Alarms survive a snapshot and a commit")
  func survival() throws {
    var log = Log()
    log.machine.recordChanges()
    log.at(0, .put("a"), .alarm(.activate, Self.noSpace), .alarm(.activate, Alarm(memberID: 1, kind: .corrupt)))
    #expect(try StateMachine(decoding: log.machine.encoded()).alarms == log.machine.alarms)
    var engine = MemoryEngine()
    engine.cut(&log.machine)
    engine.commit(&log.machine)
    let loaded = try engine.load()
    #expect(loaded.alarms == log.machine.alarms)
    #expect(loaded.encoded() == log.machine.encoded())
  }
}
