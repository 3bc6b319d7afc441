import Primitives

// How a keyspace and the storage engine work together (write-behind):
//
//   cut      takes what has changed since the last cut, and goes on; nothing else of the keyspace changes
//   (the engine commits it, atomically with the rest of the state)
//   rebase   versions below the cut's `nextOrdinal` leave memory; from here on they are read from `archive`
//
// At most one cut is on its way. A copy of a keyspace keeps the archive and the recent versions that it was made with.

/// What a keyspace has changed since the cut before. Holds the new versions by sharing the keyspace's own storage.
package struct KeyspaceChanges: Sendable {
  /// A version that an earlier cut has handed out and that a compaction has removed since.
  package struct Removal: Hashable, Sendable {
    package var key: Bytes
    package var reference: VersionReference
  }

  package var revision: Int64
  /// -1 before the first compaction.
  package var compactedRevision: Int64
  package var keyCount: Int
  private let log: VersionLog.Cut

  fileprivate init(of keyspace: Keyspace, log: VersionLog.Cut) {
    revision = keyspace.revision
    compactedRevision = keyspace.compactedRevision
    keyCount = keyspace.keyCount
    self.log = log
  }

  /// New versions have ordinals in `firstOrdinal ..< nextOrdinal` (with holes).
  package var firstOrdinal: UInt64 { log.ordinals.lowerBound }
  package var nextOrdinal: UInt64 { log.ordinals.upperBound }

  /// Logical bytes of the new versions (see `Keyspace.sizeInBytes`).
  package var newBytes: Int { log.newBytes }

  /// Put together at each call: ask once.
  package var removals: [Removal] { log.removals.contiguous }

  /// The new versions in the order of their ordinals.
  package func forEachVersion(_ body: (UInt64, StoredVersion) -> Void) {
    log.versions.forEach(from: .ordinal(firstOrdinal)) { ordinal, version in
      body(ordinal, version)
      return true
    }
  }
}

extension Keyspace {
  /// Takes what has changed since the last cut, all of it at the first time. Costs the same whatever has changed.
  package mutating func cut() -> KeyspaceChanges { KeyspaceChanges(of: self, log: log.cut(at: revision)) }

  /// Puts an archive in the place of versions in memory. Costs the depth of a tree, not the number of versions.
  /// - Parameters:
  ///   - archive: holds every version below `ordinal` that the keyspace keeps and may hold some that it has removed.
  ///   - ordinal: the `nextOrdinal` of the cut that has been committed; or the one of the rebase before, when the same
  ///     content was written anew.
  ///   - archivedBytes: logical bytes of all that the archive holds.
  /// - Returns: what memory no longer needs; to be let go outside of any lock.
  package mutating func rebase(
    onto archive: any VersionArchive, below ordinal: UInt64, archivedBytes: Int
  ) -> DiscardedVersions {
    log.rebase(onto: archive, below: ordinal, archivedBytes: archivedBytes)
  }

  /// Bytes of versions that are not in an archive yet.
  package var recentBytes: Int { log.recentBytes }

  /// Of them and of noted removals, what no cut has taken yet.
  package var uncutBytes: Int { log.uncutBytes }
}

/// Versions that memory no longer needs, and the archive that was read before. Freeing many versions, or closing an
/// archive, costs milliseconds: let go of it where nobody waits.
package struct DiscardedVersions: Sendable {
  let nodes: [LogNode]
  let archive: (any VersionArchive)?
}
