import Keyspace
import Primitives
import StateMachine
import Synchronization

/// The limit for the state's size, by etcd's rules (3.5: `NewBackendQuota`, `backendQuota.Available`), except for what
/// is measured: logical bytes of what is kept, so that deleting and compacting makes room without a defragmentation.
package final class SpaceQuota: Sendable {
  /// nil: no limit.
  package let limitBytes: Int64?
  private let used = Atomic<Int>(0)
  /// Somebody has asked for the alarm; nobody else needs to.
  private let alarmAsked = Atomic<Bool>(false)

  /// - Parameter setting: `--quota-backend-bytes`: 0 is etcd's default, below 0 is no limit.
  package init(setting: Int64) {
    limitBytes = setting < 0 ? nil : setting == 0 ? Limits.defaultQuotaBytes : setting
  }

  package var usedBytes: Int { used.load(ordering: .relaxed) }

  func note(usedBytes: Int) { used.store(usedBytes, ordering: .relaxed) }

  /// Whether these commands may be proposed. Those that add nothing always may.
  func admits(_ commands: [Command]) -> Bool {
    guard let limitBytes else { return true }
    let cost = commands.reduce(0) { $0 + $1.quotaBytes }
    return cost == 0 || Int64(usedBytes + cost) < limitBytes
  }

  /// True for the first one who is refused: it asks the raft thread for the alarm.
  func claimAlarm() -> Bool { !alarmAsked.exchange(true, ordering: .acquiringAndReleasing) }

  /// The alarm has ended, or could not be raised: the next one who is refused asks again.
  func releaseAlarm() { alarmAsked.store(false, ordering: .releasing) }

  /// Far enough below the limit for an alarm to be taken back.
  var isRelaxed: Bool {
    guard let limitBytes else { return true }
    return Double(usedBytes) < Double(limitBytes) * Limits.quotaAlarmEndShare
  }
}

extension StateMachine {
  /// What the quota measures.
  var quotaBytes: Int { keyspace.sizeInBytes + leases.count * Limits.quotaLeaseBytes }
}

extension Command {
  /// What the command may add, as etcd estimates it; 0 for everything that adds nothing.
  var quotaBytes: Int {
    switch self {
    case .put(let put): put.quotaBytes
    case .transaction(let request): request.quotaBytes
    case .grantAndTransact(let grants, let request, _): grants.count * Limits.quotaLeaseBytes + request.quotaBytes
    case .leaseGrant: Limits.quotaLeaseBytes
    case .authored(_, let inner): inner.quotaBytes
    default: 0
    }
  }
}

extension PutRequest {
  fileprivate var quotaBytes: Int { Limits.quotaPutBytes + key.count + value.count }
}

extension TransactionRequest {
  fileprivate var quotaBytes: Int {
    max(success.reduce(0) { $0 + $1.quotaBytes }, failure.reduce(0) { $0 + $1.quotaBytes })
  }
}

extension Operation {
  fileprivate var quotaBytes: Int {
    switch self {
    case .put(let put): put.quotaBytes
    case .transaction(let request): request.quotaBytes
    case .range, .delete: 0
    }
  }
}
