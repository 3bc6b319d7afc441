import Primitives

/// The keys a request speaks of, as etcd's `key` and `range_end` say it.
package enum KeyRange: Hashable, Sendable {
  /// `range_end` empty: one key.
  case single(Bytes)
  /// `[start, end)`.
  case halfOpen(start: Bytes, end: Bytes)
  /// `range_end` is one zero byte: every key from `start` on.
  case from(Bytes)

  package init(key: Bytes, rangeEnd: Bytes) {
    if rangeEnd.isEmpty {
      self = .single(key)
    } else if rangeEnd.array == [0] {
      self = .from(key)
    } else {
      self = .halfOpen(start: key, end: rangeEnd)
    }
  }

  package static func prefix(_ prefix: Bytes) -> KeyRange {
    guard let end = prefix.prefixEnd else { return .from(prefix) }
    return .halfOpen(start: prefix, end: end)
  }

  package func contains(_ key: Bytes) -> Bool {
    switch self {
    case .single(let only): key == only
    case .halfOpen(let start, let end): start <= key && key < end
    case .from(let start): start <= key
    }
  }
}

/// One key's state at one revision: etcd's `mvccpb.KeyValue`.
package struct KeyRecord: Hashable, Sendable {
  package var key: Bytes
  package var value: Bytes
  package var createRevision: Int64
  package var modRevision: Int64
  package var version: Int64
  package var lease: LeaseID

  package init(
    key: Bytes, value: Bytes, createRevision: Int64, modRevision: Int64, version: Int64, lease: LeaseID = 0
  ) {
    self.key = key
    self.value = value
    self.createRevision = createRevision
    self.modRevision = modRevision
    self.version = version
    self.lease = lease
  }
}

package enum SortTarget: Hashable, Sendable { case key, version, create, mod, value }
package enum SortOrder: Hashable, Sendable { case none, ascend, descend }

/// etcd's `RangeRequest` without its transport (linearizable or serializable is the caller's business).
package struct RangeQuery: Hashable, Sendable {
  package var range: KeyRange
  /// 0: the current revision.
  package var revision: Int64 = 0
  /// 0: no limit.
  package var limit: Int64 = 0
  package var sortTarget: SortTarget = .key
  package var sortOrder: SortOrder = .none
  package var keysOnly = false
  package var countOnly = false
  package var minModRevision: Int64 = 0
  package var maxModRevision: Int64 = 0
  package var minCreateRevision: Int64 = 0
  package var maxCreateRevision: Int64 = 0

  package init(_ range: KeyRange, revision: Int64 = 0, limit: Int64 = 0) {
    self.range = range
    self.revision = revision
    self.limit = limit
  }
}

package struct RangeResult: Hashable, Sendable {
  package var records: [KeyRecord]
  /// Keys in the range, not counting `limit` and the revision filters, as etcd counts them.
  package var count: Int64
  package var more: Bool
  /// The keyspace's revision when the range was read: the response header's.
  package var revision: Int64

  package init(records: [KeyRecord], count: Int64, more: Bool, revision: Int64) {
    self.records = records
    self.count = count
    self.more = more
    self.revision = revision
  }
}

package struct PutRequest: Hashable, Sendable {
  package var key: Bytes
  package var value: Bytes
  package var lease: LeaseID = 0
  package var wantsPrevious = false
  package var ignoresValue = false
  package var ignoresLease = false

  package init(_ key: Bytes, _ value: Bytes, lease: LeaseID = 0) {
    self.key = key
    self.value = value
    self.lease = lease
  }
}

package struct DeleteRequest: Hashable, Sendable {
  package var range: KeyRange
  package var wantsPrevious = false

  package init(_ range: KeyRange) { self.range = range }
}

package enum CompareResult: Hashable, Sendable { case equal, greater, less, notEqual }

package enum CompareTarget: Hashable, Sendable {
  case version(Int64)
  case createRevision(Int64)
  case modRevision(Int64)
  case value(Bytes)
  case lease(LeaseID)
}

/// Holds when every key of the range satisfies it; an absent single key compares as all zeros, except that a
/// value comparison with an absent key is false (etcd's applyCompare).
package struct Comparison: Hashable, Sendable {
  package var range: KeyRange
  package var target: CompareTarget
  package var result: CompareResult

  package init(_ range: KeyRange, _ result: CompareResult, _ target: CompareTarget) {
    self.range = range
    self.result = result
    self.target = target
  }
}

package indirect enum Operation: Hashable, Sendable {
  case range(RangeQuery)
  case put(PutRequest)
  case delete(DeleteRequest)
  case transaction(TransactionRequest)
}

package struct TransactionRequest: Hashable, Sendable {
  package var comparisons: [Comparison]
  package var success: [Operation]
  package var failure: [Operation]

  package init(comparisons: [Comparison] = [], success: [Operation] = [], failure: [Operation] = []) {
    self.comparisons = comparisons
    self.success = success
    self.failure = failure
  }
}

package struct DeleteResult: Hashable, Sendable {
  package var deleted: Int64
  /// Empty unless asked for.
  package var previous: [KeyRecord]

  package init(deleted: Int64, previous: [KeyRecord]) {
    self.deleted = deleted
    self.previous = previous
  }
}

package indirect enum OperationResult: Hashable, Sendable {
  case range(RangeResult)
  /// The previous record only when it was asked for and existed.
  case put(previous: KeyRecord?)
  case delete(DeleteResult)
  case transaction(TransactionResult)
}

package struct TransactionResult: Hashable, Sendable {
  package var succeeded: Bool
  package var results: [OperationResult]

  package init(succeeded: Bool, results: [OperationResult]) {
    self.succeeded = succeeded
    self.results = results
  }
}

/// What the keyspace refuses. The texts that etcd's clients match belong to the wire (`ClusterNode`).
package enum KeyspaceError: Error, Hashable, Sendable {
  case compacted(compactRevision: Int64)
  case futureRevision
  /// A put with `ignoresValue` or `ignoresLease` on a key that does not exist.
  case keyNotFound
  case leaseNotFound
}

/// Why a key went away. etcd's clients see a plain DELETE in every case.
package enum DeletionCause: UInt8, Hashable, Sendable {
  case deleted = 0
  case leaseExpired = 1
  case leaseRevoked = 2
}

/// One change of one key, as watchers are told of it.
package struct KeyspaceEvent: Hashable, Sendable {
  package enum Kind: Hashable, Sendable {
    case put
    case delete(DeletionCause)
  }

  package var kind: Kind
  /// For a delete only `key` and `modRevision` are set.
  package var record: KeyRecord
  /// The record before the change, nil when the key did not exist (or, in events read back from history, when the
  /// earlier revision has been compacted away).
  package var previous: KeyRecord?

  package init(kind: Kind, record: KeyRecord, previous: KeyRecord?) {
    self.kind = kind
    self.record = record
    self.previous = previous
  }
}
