import Keyspace
import Primitives

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
  /// Sorted, distinct.
  package var alarms: [Alarm]
  package var cluster: ClusterState
  package var hash: StateHash
  package var auth: AuthState

  package init(
    appliedIndex: UInt64, appliedTerm: UInt64, clock: LeaseClock, revision: Int64, compactedRevision: Int64,
    keyCount: Int, leaseCount: Int, nextOrdinal: UInt64, alarms: [Alarm], cluster: ClusterState, hash: StateHash,
    auth: AuthState = AuthState()
  ) {
    self.appliedIndex = appliedIndex
    self.appliedTerm = appliedTerm
    self.clock = clock
    self.revision = revision
    self.compactedRevision = compactedRevision
    self.keyCount = keyCount
    self.leaseCount = leaseCount
    self.nextOrdinal = nextOrdinal
    self.alarms = alarms
    self.cluster = cluster
    self.hash = hash
    self.auth = auth
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
  private let leaseLog: ChunkedArray<LeaseChange>

  fileprivate init(head: StateHead, keyspace: KeyspaceChanges, leaseLog: ChunkedArray<LeaseChange>) {
    self.head = head
    self.keyspace = keyspace
    self.leaseLog = leaseLog
  }

  /// In the order of the changes. Put together at each call: ask once.
  package var leases: [LeaseChange] { leaseLog.contiguous }
}

extension StateMachine {
  /// From here on changes are noted, for `cut`. The first cut then carries the whole state. A state with an archive
  /// (one that `StateLoader` built) notes them already. A state that nobody cuts must not note changes: they would pile
  /// up.
  package mutating func recordChanges() {
    guard !recordsChanges else { return }
    recordsChanges = true
    leases.forEach { id, ttl, deadline in
      leaseChanges.append(
        LeaseChange(id: id, ttlMilliseconds: ttl, deadlineMilliseconds: deadline.milliseconds))
    }
  }

  /// See `Keyspace.cut`. Cheap: shares storage, copies nothing of size. Changes must be noted (`recordChanges`).
  package mutating func cut() -> StateChanges {
    precondition(recordsChanges, "a cut of a state that does not note its changes")
    let keyspace = keyspace.cut()
    let head = StateHead(
      appliedIndex: appliedIndex, appliedTerm: appliedTerm, clock: clock, revision: keyspace.revision,
      compactedRevision: keyspace.compactedRevision, keyCount: keyspace.keyCount, leaseCount: leases.count,
      nextOrdinal: keyspace.nextOrdinal, alarms: alarms, cluster: cluster, hash: hash,
      auth: auth)
    let changes = StateChanges(head: head, keyspace: keyspace, leaseLog: leaseChanges)
    leaseChanges = ChunkedArray()
    return changes
  }

  /// See `Keyspace.rebase`.
  package mutating func rebase(
    onto archive: any VersionArchive, below ordinal: UInt64, archivedBytes: Int
  ) -> DiscardedVersions {
    keyspace.rebase(onto: archive, below: ordinal, archivedBytes: archivedBytes)
  }

  /// Versions, removals and leases that no cut has taken yet: a measure of what write-behind holds in memory.
  package var uncommittedBytes: Int {
    keyspace.uncutBytes + leaseChanges.count * MemoryLayout<LeaseChange>.stride
  }

  /// See `Keyspace.bumpRevision`: for a restored copy. Leases keep the time they have left.
  package mutating func bumpRevision(by amount: Int64) -> Bool { keyspace.bumpRevision(by: amount) }

  /// Notes the state of a lease that has just been granted or renewed.
  mutating func recordLease(_ id: LeaseID, at slot: Int) {
    guard recordsChanges else { return }
    leaseChanges.append(
      LeaseChange(
        id: id, ttlMilliseconds: leases.grantedTTLMilliseconds(at: slot),
        deadlineMilliseconds: leases.deadline(at: slot).milliseconds))
  }

  mutating func recordEnd(of id: LeaseID) {
    guard recordsChanges else { return }
    leaseChanges.append(LeaseChange(id: id, ttlMilliseconds: 0, deadlineMilliseconds: 0))
  }
}
