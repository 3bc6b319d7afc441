import Primitives

// CONTRACT SKETCH: how a keyspace and the storage engine work together (write-behind).
//
//   cut      takes what has changed since the last cut, and goes on; nothing else of the keyspace changes
//   (the engine commits it, atomically with the rest of the state)
//   rebase   versions below the cut's `nextOrdinal` leave memory; from here on they are read from `archive`
//
// At most one cut is on its way. A copy of a keyspace keeps the archive and the recent versions that it was made with.

/// What a keyspace has changed since the cut before. Holds the new versions by sharing the keyspace's own storage.
package struct KeyspaceChanges: Sendable {
  /// A version that an earlier cut has handed out and that a compaction has removed since.
  package struct Removal: Sendable {
    package var key: Bytes
    package var reference: VersionReference
  }

  package var revision: Int64
  /// -1 before the first compaction.
  package var compactedRevision: Int64
  package var keyCount: Int
  /// New versions have ordinals in `firstOrdinal ..< nextOrdinal` (with holes).
  package var firstOrdinal: UInt64
  package var nextOrdinal: UInt64
  package var removals: [Removal]
  /// Logical bytes of the new versions (see `Keyspace.sizeInBytes`).
  package var newBytes: Int

  /// The new versions in the order of their ordinals.
  package func forEachVersion(_ body: (UInt64, StoredVersion) -> Void) { fatalError("sketch") }
}

extension Keyspace {
  package mutating func cut() -> KeyspaceChanges { fatalError("sketch") }

  /// - Parameters:
  ///   - archive: holds every version below `ordinal` that the keyspace keeps and may hold some that it has removed.
  ///   - ordinal: the `nextOrdinal` of the cut that has been committed.
  ///   - archivedBytes: logical bytes of all that the archive holds.
  /// - Returns: what memory no longer needs; to be let go outside of any lock.
  package mutating func rebase(
    onto archive: any VersionArchive, below ordinal: UInt64, archivedBytes: Int
  ) -> DiscardedVersions { fatalError("sketch") }

  /// Bytes of versions that are not in an archive yet.
  package var recentBytes: Int { fatalError("sketch") }
}

/// Versions that memory no longer needs. Freeing many costs milliseconds: do it where nobody waits.
package struct DiscardedVersions: Sendable {}
