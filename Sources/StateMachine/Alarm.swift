import Keyspace
import Primitives

/// What an operator must know of and what the cluster has agreed on: etcd's alarms.
package struct Alarm: Hashable, Comparable, Sendable {
  package enum Kind: UInt8, Hashable, Comparable, Sendable {
    case noSpace = 1
    case corrupt = 2
    package static func < (left: Kind, right: Kind) -> Bool { left.rawValue < right.rawValue }
  }

  package var memberID: UInt64
  package var kind: Kind

  package init(memberID: UInt64, kind: Kind) {
    self.memberID = memberID
    self.kind = kind
  }

  package static func < (left: Alarm, right: Alarm) -> Bool {
    (left.memberID, left.kind) < (right.memberID, right.kind)
  }
}

package enum AlarmAction: UInt8, Hashable, Sendable {
  case activate = 1
  case deactivate = 2
}

extension StateMachine {
  /// etcd's `applierV3backend.Alarm`: names the alarm when it stands after an activation (whether or not it did
  /// before), and when a deactivation has ended it.
  mutating func alarm(_ action: AlarmAction, _ alarm: Alarm) -> CommandResult {
    let position = alarms.firstIndex { $0 >= alarm } ?? alarms.count
    let stands = position < alarms.count && alarms[position] == alarm
    switch action {
    case .activate:
      if !stands { alarms.insert(alarm, at: position) }
      hash.mix(action, alarm)
      return .alarms([alarm], revision: keyspace.revision)
    case .deactivate:
      if stands { alarms.remove(at: position) }
      hash.mix(action, alarm)
      return .alarms(stands ? [alarm] : [], revision: keyspace.revision)
    }
  }

  package func isActive(_ kind: Alarm.Kind) -> Bool { alarms.contains { $0.kind == kind } }

  /// Why an active alarm, of whichever member, forbids the command; every member decides alike.
  ///
  /// No space (etcd's `applierV3Capped`): puts, transactions with a put in either branch, and grants. We look into
  /// nested transactions as well, whose puts etcd lets pass. Corruption (`applierV3Corrupt`): every change.
  func refusal(of command: Command) -> CommandError? {
    guard !alarms.isEmpty else { return nil }
    if isActive(.corrupt) {
      switch command {
      case .put, .delete, .transaction, .compact, .leaseGrant, .leaseRevoke, .leaseExpire, .grantAndTransact:
        return .corrupt
      case .leaseRenew, .alarm, .member, .clusterVersion, .auth, .tick: return nil
      case .authored(_, let inner): return refusal(of: inner)
      }
    }
    guard isActive(.noSpace) else { return nil }
    switch command {
    case .put, .leaseGrant: return .noSpace
    case .grantAndTransact(let grants, let request, _): return grants.isEmpty && !request.puts ? nil : .noSpace
    case .transaction(let request): return request.puts ? .noSpace : nil
    case .authored(_, let inner): return refusal(of: inner)
    case .delete, .compact, .leaseRevoke, .leaseRenew, .leaseExpire, .alarm, .member, .clusterVersion, .auth, .tick:
      return nil
    }
  }
}

extension TransactionRequest {
  fileprivate var puts: Bool {
    (success + failure).contains { operation in
      switch operation {
      case .range, .delete: false
      case .put: true
      case .transaction(let nested): nested.puts
      }
    }
  }
}
