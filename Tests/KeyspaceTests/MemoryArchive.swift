import Keyspace
import Primitives

/// An archive as plain as can be: every version by its ordinal.
final class MemoryArchive: VersionArchive {
  let versions: [UInt64: StoredVersion]
  private let ordinals: [UInt64]

  init(_ versions: [UInt64: StoredVersion]) {
    self.versions = versions
    ordinals = versions.keys.sorted()
  }

  func version(at ordinal: UInt64) -> StoredVersion { versions[ordinal]! }

  func forEachVersion(from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool) -> Bool {
    for ordinal in ordinals where ordinal < end && versions[ordinal]!.revision.main >= main {
      if !body(ordinal, versions[ordinal]!) { return false }
    }
    return true
  }
}

/// The storage engine of one keyspace, in memory: commits what cuts carry and gives archives of it.
struct MemoryEngine {
  private(set) var versions: [UInt64: StoredVersion] = [:]
  /// Cut and not yet committed.
  private(set) var pending: KeyspaceChanges?
  private(set) var nextOrdinal: UInt64 = 0
  private(set) var revision: Int64 = 1
  private(set) var compactedRevision: Int64 = -1
  private(set) var keyCount = 0

  var archivedBytes: Int { versions.values.reduce(0) { $0 + $1.sizeInBytes } }

  mutating func cut(_ keyspace: inout Keyspace) {
    precondition(pending == nil)
    pending = keyspace.cut()
  }

  /// Makes the pending cut durable and lets the keyspace read it from an archive.
  mutating func commit(_ keyspace: inout Keyspace) {
    guard let changes = pending else { return }
    pending = nil
    precondition(changes.firstOrdinal == nextOrdinal)
    var newBytes = 0
    changes.forEachVersion { ordinal, version in
      precondition(ordinal >= changes.firstOrdinal && ordinal < changes.nextOrdinal)
      precondition(versions.updateValue(version, forKey: ordinal) == nil)
      newBytes += version.sizeInBytes
    }
    precondition(newBytes == changes.newBytes)
    for removal in changes.removals {
      let version = versions.removeValue(forKey: removal.reference.ordinal)
      precondition(version!.key == removal.key && version!.revision.main == removal.reference.main)
      precondition((version!.kind != .put) == removal.reference.isTombstone)
    }
    (nextOrdinal, revision) = (changes.nextOrdinal, changes.revision)
    (compactedRevision, keyCount) = (changes.compactedRevision, changes.keyCount)
    rebase(&keyspace)
  }

  /// As after a defragmentation: the same content in a new archive.
  func rebase(_ keyspace: inout Keyspace) {
    _ = keyspace.rebase(onto: MemoryArchive(versions), below: nextOrdinal, archivedBytes: archivedBytes)
  }

  /// What a member that starts again has.
  func load() throws -> Keyspace {
    var loader = KeyspaceLoader(
      revision: revision, compactedRevision: compactedRevision, nextOrdinal: nextOrdinal)
    let long = versions.filter { $0.value.key.count > 20 }
    for part in [versions.filter { $0.value.key.count <= 20 }, long] {
      for (ordinal, version) in part.sorted(by: { ($0.value.key, $0.key) < ($1.value.key, $1.key) }) {
        let reference = VersionReference(
          main: version.revision.main, ordinal: ordinal, isTombstone: version.kind != .put)
        try version.key.array.withUnsafeBytes { try loader.add(key: $0, reference, lease: version.lease) }
      }
    }
    return try loader.finish(archive: MemoryArchive(versions), archivedBytes: archivedBytes)
  }
}
