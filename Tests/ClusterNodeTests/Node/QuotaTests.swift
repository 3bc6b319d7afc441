import ClusterNode
import Keyspace
import Primitives
import StateMachine
import Testing

/// The space quota on the real node, by etcd's rules: what adds is refused, what removes always works, and the alarm
/// ends by itself.
@Suite struct QuotaTests {
  private static let value = String(repeating: "x", count: 10_000)

  private func fill(_ fixture: NodeFixture) async throws -> Int {
    for number in 0..<1_000 {
      do { try await fixture.put("k\(number)", Self.value) } catch ProposalError.noSpace { return number }
    }
    return 1_000
  }

  private func alarms(_ fixture: NodeFixture) -> [Alarm] { fixture.node.status.alarms }

  @Test func aFullStoreRefusesWhatAddsAndTakesWhatRemoves() async throws {
    let fixture = try NodeFixture {
      $0.quotaBackendBytes = 200_000
      $0.disarmsAlarmsByHand = true
    }
    let count = try await fill(fixture)
    #expect((18...20).contains(count))
    let own = Alarm(memberID: fixture.node.header.memberID, kind: .noSpace)
    #expect(try await eventually { alarms(fixture) == [own] })
    // While the alarm is up, a put that would fit is refused by everybody at apply.
    #expect(try await fixture.propose(.put(PutRequest("small", "")))[0] == .refused(.noSpace))
    #expect(try await fixture.propose(.leaseGrant(id: 9, ttlMilliseconds: 60_000))[0] == .refused(.noSpace))
    guard case .delete = try await fixture.propose(.delete(DeleteRequest(.prefix("k"))))[0] else {
      Issue.record("a delete was refused")
      return
    }
    let revision = fixture.node.read { $0.keyspace.revision }
    #expect(try await fixture.propose(.compact(revision: revision))[0] == .compacted(revision: revision))
    #expect(try await eventually { fixture.node.quota.usedBytes < 10_000 })
    #expect(alarms(fixture) == [own], "by hand: it stays until it is disarmed")
    _ = try await fixture.propose(.alarm(.deactivate, own))
    try await fixture.put("small", "")
    #expect(alarms(fixture).isEmpty)
    await fixture.node.stop()
  }

  @Test func theAlarmEndsByItselfOnceThereIsRoomAndComesBackWhenThereIsNone() async throws {
    let fixture = try NodeFixture { $0.quotaBackendBytes = 200_000 }
    for _ in 0..<2 {
      _ = try await fill(fixture)
      #expect(try await eventually { alarms(fixture).count == 1 })
      _ = try await fixture.propose(.delete(DeleteRequest(.prefix("k"))))
      _ = try await fixture.propose(.compact(revision: fixture.node.read { $0.keyspace.revision }))
      #expect(try await eventually { alarms(fixture).isEmpty })
    }
    try await fixture.put("small", "")
    await fixture.node.stop()
  }

  @Test func anAlarmOutlivesARestartAndALargerQuotaEndsIt() async throws {
    let quota = Box<Int64>(200_000)
    let fixture = try NodeFixture {
      $0.quotaBackendBytes = quota.value
      $0.disarmsAlarmsByHand = quota.value == 200_000
    }
    _ = try await fill(fixture)
    #expect(try await eventually { alarms(fixture).count == 1 })
    try await fixture.restart()
    #expect(alarms(fixture).count == 1)
    quota.value = 1_000_000
    try await fixture.restart()
    #expect(try await eventually { alarms(fixture).isEmpty })
    try await fixture.put("more", Self.value)
    await fixture.node.stop()
  }

  @Test func settingsAreReadAsEtcdReadsThem() {
    #expect(SpaceQuota(setting: 0).limitBytes == Int64(2 * 1024 * 1024 * 1024))
    #expect(SpaceQuota(setting: -1).limitBytes == nil)
    #expect(SpaceQuota(setting: 5).limitBytes == 5)
  }

  private final class Box<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }
  }
}
