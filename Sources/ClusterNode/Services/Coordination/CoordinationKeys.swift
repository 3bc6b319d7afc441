import EtcdAPI
import Foundation
import Wire

/// Locks and elections are keys `NAME/LEASE` (the lease in hex) under the lease of who waits; the lowest creation revision
/// holds the lock, or leads.
struct CoordinationKeys {
  let prefix: Data

  init(name: Data) { prefix = name + Data("/".utf8) }

  func own(lease: Int64) -> Data { prefix + Data(String(lease, radix: 16).utf8) }

  /// Behind the last key with the prefix.
  var end: Data {
    var end = prefix
    // The prefix ends with a slash, so that its last byte has a successor.
    end[end.index(before: end.endIndex)] += 1
    return end
  }

  /// Who holds the lock, or leads.
  var first: EtcdRangeRequest {
    .with {
      $0.key = prefix
      $0.rangeEnd = end
      $0.limit = 1
      $0.sortTarget = .create
      $0.sortOrder = .ascend
    }
  }

  /// The last of those that came before `revision`.
  func last(before revision: Int64) -> EtcdRangeRequest {
    .with {
      $0.key = prefix
      $0.rangeEnd = end
      $0.limit = 1
      $0.sortTarget = .create
      $0.sortOrder = .descend
      $0.maxCreateRevision = revision - 1
    }
  }
}

extension EtcdCompare {
  /// Whether a key is the one that was created at `revision`; 0: whether it is not there.
  static func isCreated(_ key: Data, at revision: Int64) -> EtcdCompare {
    .with {
      $0.key = key
      $0.target = .create
      $0.result = .equal
      $0.createRevision = revision
    }
  }
}

extension EtcdRequestOp {
  static func put(_ key: Data, _ value: Data, lease: Int64) -> EtcdRequestOp {
    .with {
      $0.requestPut.key = key
      $0.requestPut.value = value
      $0.requestPut.lease = lease
    }
  }

  static func range(_ request: EtcdRangeRequest) -> EtcdRequestOp { .with { $0.requestRange = request } }

  static func delete(_ key: Data) -> EtcdRequestOp { .with { $0.requestDeleteRange.key = key } }
}

/// Errors of etcd's lock and election services: plain texts, whose code is Unknown.
enum CoordinationErrors {
  static let sessionExpired = GRPCStatus(.unknown, "mutex: session is expired")
  static let notLeader = GRPCStatus(.unknown, "election: not leader")
  static let noLeader = GRPCStatus(.unknown, "election: no leader")
  static let leaderMissing = GRPCStatus(.unknown, "\"leader\" field must be provided")

  /// What an inner call was refused with: the text stays, the code is lost on the way through etcd's inner client.
  static func inner(_ status: GRPCStatus) -> GRPCStatus { GRPCStatus(.unknown, status.message) }
}
