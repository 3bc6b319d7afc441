import Keyspace
import Primitives

// CONTRACT SKETCH: the state machine and the storage engine.

/// The small part of the state, all of it in one record of the engine.
package struct StateHead: Hashable, Sendable {
  package var appliedIndex: UInt64
  package var appliedTerm: UInt64
  package var clock: LeaseClock
  package var revision: Int64
  /// -1 before the first compaction.
  package var compactedRevision: Int64
  package var keyCount: Int
  package var leaseCount: Int
  /// Ordinals of versions that are yet to be made.
  package var nextOrdinal: UInt64
  package var alarms: [Alarm]
}

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

/// A lease's state after a change; of several changes to one lease in a cut the last one holds. 24 bytes.
package struct LeaseChange: Hashable, Sendable {
  package var id: LeaseID
  /// 0: the lease is gone.
  package var ttlMilliseconds: Int64
  package var deadlineMilliseconds: Int64

  package init(id: LeaseID, ttlMilliseconds: Int64, deadlineMilliseconds: Int64) {
    self.id = id
    self.ttlMilliseconds = ttlMilliseconds
    self.deadlineMilliseconds = deadlineMilliseconds
  }
}

/// All that has changed since the cut before: committed as a whole or not at all.
package struct StateChanges: Sendable {
  package var head: StateHead
  package var keyspace: KeyspaceChanges
  /// In the order of the changes.
  package var leases: [LeaseChange]
}

extension StateMachine {
  /// See `Keyspace.cut`. Cheap: shares storage, copies nothing of size.
  package mutating func cut() -> StateChanges { fatalError("sketch") }

  /// See `Keyspace.rebase`.
  package mutating func rebase(
    onto archive: any VersionArchive, below ordinal: UInt64, archivedBytes: Int
  ) -> DiscardedVersions { fatalError("sketch") }

  /// Entries, versions and leases that no cut has taken yet: a measure of what write-behind holds in memory.
  package var uncommittedBytes: Int { fatalError("sketch") }
}

/// Builds a state from what an engine holds: first all leases, then all references, then `finish`. Built for speed:
/// ten million of each in a few seconds.
package struct StateLoader {
  package init(head: StateHead) { fatalError("sketch") }

  /// In rising order of IDs.
  package mutating func addLease(
    id: LeaseID, ttlMilliseconds: Int64, deadlineMilliseconds: Int64
  ) throws(DecodingFailure) { fatalError("sketch") }

  /// A kept version: keys rise, the references of one key rise. A key out of order (a long one) is accepted too, at
  /// the cost of a search.
  /// - Parameter lease: of the version; 0 for none and for tombstones.
  package mutating func addVersion(
    key: UnsafeRawBufferPointer, _ reference: VersionReference, lease: LeaseID
  ) throws(DecodingFailure) { fatalError("sketch") }

  /// Checks that counts agree with the head and that every key's lease is there.
  package consuming func finish(
    archive: any VersionArchive, archivedBytes: Int
  ) throws(DecodingFailure) -> StateMachine { fatalError("sketch") }
}
