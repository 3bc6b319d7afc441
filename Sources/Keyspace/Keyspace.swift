import Primitives

/// etcd's multi-version keyspace as a value: every change has a main revision (one per transaction that changes
/// something) and a sub-revision (its place in the transaction); every key keeps its versions since the last
/// compaction.
///
/// Copying is cheap (a few words): the two trees inside share their nodes, and whoever writes after a copy duplicates
/// only the nodes it touches. So `let snapshot = keyspace` is a consistent view that other threads may read.
///
/// - `KeyIndex`: keys in order, each with references to its versions.
/// - `VersionLog`: the versions in the order they were made; older ones may live in an archive (`cut`, `rebase`).
package struct Keyspace: Sendable {
  var index = KeyIndex()
  var log = VersionLog()

  /// The current main revision. A fresh keyspace is at 1, as etcd's is.
  package internal(set) var revision: Int64 = 1

  /// The last compaction as etcd stores it: -1 before the first one (which may be at 0).
  package internal(set) var compactedRevision: Int64 = -1

  /// Where the removal of compacted versions has got to, nil when nothing is left to remove. See `compactStep`.
  var compactionCursor: Bytes?

  /// How many keys exist now.
  package internal(set) var keyCount = 0

  /// Above any revision that can be reached; leaves room to count on.
  static let revisionCeiling: Int64 = 1 << 62

  package init() {}

  /// The revision of the last compaction, 0 when there was none.
  package var compactRevision: Int64 { max(0, compactedRevision) }

  /// Logical bytes of all that is kept, for the quota and metrics. After `compact` it falls as the removal proceeds,
  /// so members may differ for a moment.
  package var sizeInBytes: Int { log.sizeInBytes }

  /// The key's record as it is now, with the changes of a running transaction.
  func currentRecord(_ key: Bytes) -> KeyRecord? {
    guard let (_, history) = index.find(key), history.isAlive else { return nil }
    return log[history.latest.ordinal].record
  }

  /// The revision that the next transaction with changes gets.
  var nextChange: Revision { Revision(main: revision + 1) }

  /// Ends a transaction: its changes, if it made any (`change` has moved on then), become the current revision.
  mutating func commit(_ change: Revision) {
    guard change.sub > 0 else { return }
    revision = change.main
    if compactionCursor != nil { compactStep(maxKeys: Self.compactionKeysPerWrite) }
  }
}
