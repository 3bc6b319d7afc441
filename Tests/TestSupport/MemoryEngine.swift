import Keyspace
import Primitives
import StateMachine

/// An archive as plain as can be.
package final class MemoryArchive: VersionArchive {
  private let versions: [UInt64: StoredVersion]
  private let ordinals: [UInt64]

  package init(_ versions: [UInt64: StoredVersion]) {
    self.versions = versions
    ordinals = versions.keys.sorted()
  }

  package func version(at ordinal: UInt64) -> StoredVersion { versions[ordinal]! }

  package func forEachVersion(from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool) -> Bool {
    for ordinal in ordinals where ordinal < end && versions[ordinal]!.revision.main >= main {
      if !body(ordinal, versions[ordinal]!) { return false }
    }
    return true
  }
}

/// The storage engine as a few dictionaries.
package struct MemoryEngine {
  package init() {}

  package private(set) var head: StateHead?
  package private(set) var leases: [LeaseID: LeaseChange] = [:]
  package private(set) var versions: [UInt64: StoredVersion] = [:]
  package private(set) var pending: StateChanges?

  private var archivedBytes: Int { versions.values.reduce(0) { $0 + $1.sizeInBytes } }

  package mutating func cut(_ machine: inout StateMachine) {
    precondition(pending == nil)
    pending = machine.cut()
  }

  /// A crash came before the commit.
  package mutating func forgetPending() { pending = nil }

  package mutating func commit(_ machine: inout StateMachine) {
    guard let changes = pending else { return }
    pending = nil
    changes.keyspace.forEachVersion { versions[$0] = $1 }
    for removal in changes.keyspace.removals { versions[removal.reference.ordinal] = nil }
    for change in changes.leases { leases[change.id] = change.ttlMilliseconds > 0 ? change : nil }
    head = changes.head
    _ = machine.rebase(
      onto: MemoryArchive(versions), below: changes.head.nextOrdinal, archivedBytes: archivedBytes)
  }

  /// - Parameter head: in the place of the committed one.
  package func load(_ head: StateHead? = nil) throws -> StateMachine {
    var loader = StateLoader(head: head ?? self.head!)
    for (id, lease) in leases.sorted(by: { $0.key < $1.key }) {
      try loader.addLease(
        id: id, ttlMilliseconds: lease.ttlMilliseconds, deadlineMilliseconds: lease.deadlineMilliseconds)
    }
    for (ordinal, version) in versions.sorted(by: { ($0.value.key, $0.key) < ($1.value.key, $1.key) }) {
      let reference = VersionReference(
        main: version.revision.main, ordinal: ordinal, isTombstone: version.kind != .put)
      try version.key.array.withUnsafeBytes { try loader.addVersion(key: $0, reference, lease: version.lease) }
    }
    return try loader.finish(archive: MemoryArchive(versions), archivedBytes: archivedBytes)
  }
}
