import Keyspace
import Primitives
import StateMachine

/// Sensible entries in random order: leases and keys from small sets, so that they meet.
struct Workload {
  var random: SeededGenerator
  var clock: Int64 = 0

  mutating func key() -> Bytes { Bytes("key\(Int.random(in: 0..<30, using: &random))") }
  mutating func lease() -> LeaseID { Int64.random(in: 1...12, using: &random) }
  mutating func leaseOrNone() -> LeaseID { Bool.random(using: &random) ? 0 : lease() }
  mutating func put() -> PutRequest { PutRequest(key(), Bytes("v\(clock)"), lease: leaseOrNone()) }

  mutating func command() -> Command {
    switch Int.random(in: 0..<16, using: &random) {
    case 0...3: return .put(put())
    case 4: return .delete(key())
    case 5: return .delete(DeleteRequest(.halfOpen(start: "key1", end: key())))
    case 6, 7: return .grant(lease(), Int64.random(in: 1...3_000, using: &random))
    case 8: return .leaseRevoke(id: lease())
    case 9: return .leaseRenew(ids: [lease(), lease()])
    case 10: return .leaseExpire(ids: (1...12).map { $0 })
    case 11:
      return .transaction(
        TransactionRequest(
          comparisons: [Comparison(.single(key()), .greater, .createRevision(0))],
          success: [.delete(DeleteRequest(.single("key5"))), .put(put())], failure: [.put(PutRequest("x", "y"))]))
    case 12:
      let id = lease()
      return .grantAndTransact(
        grants: [LeaseGrant(id: id, ttlMilliseconds: 700)],
        request: TransactionRequest(
          comparisons: [Comparison(.single(key()), .equal, .createRevision(0))],
          success: [.put(PutRequest(key(), "g", lease: id))]))
    case 13: return .member(memberChange())
    case 14: return .clusterVersion(ClusterVersion(major: 3, minor: UInt32.random(in: 4...7, using: &random)))
    default: return .tick
    }
  }

  mutating func memberChange() -> MemberChange {
    let id = UInt64.random(in: 1...40, using: &random)
    let url = "http://\(Int.random(in: 0..<30, using: &random)):2380"
    switch Int.random(in: 0..<6, using: &random) {
    case 0, 1:
      return .add(ClusterMember(id: id, peerURLs: [url], isLearner: Bool.random(using: &random)))
    case 2: return .remove(id: id)
    case 3: return .update(id: id, peerURLs: [url, "https://\(clock)"])
    case 4: return .promote(id: id)
    default: return .publish(id: id, name: "n\(id)", clientURLs: [url])
    }
  }

  mutating func batch() -> CommandBatch {
    clock += Int64.random(in: -50...300, using: &random)
    let count = Int.random(in: 0...5, using: &random)
    return CommandBatch(clock: LeaseClock(milliseconds: clock), commands: (0..<count).map { _ in command() })
  }

  func batch(of commands: [Command]) -> CommandBatch {
    CommandBatch(clock: LeaseClock(milliseconds: clock), commands: commands)
  }
}
