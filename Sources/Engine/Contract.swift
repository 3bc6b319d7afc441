import Keyspace
import Primitives
import StateMachine
import Storage

// CONTRACT SKETCH: the storage engine as the node uses it.

/// What a commit has made durable.
package struct EngineCommit: Sendable {
  package var appliedIndex: UInt64
  package var appliedTerm: UInt64
  /// For `StateMachine.rebase`: the archive, up to where it reaches, and the logical bytes that it holds.
  package var archive: any VersionArchive
  package var belowOrdinal: UInt64
  package var archivedBytes: Int
}

package struct EngineSizes: Hashable, Sendable {
  /// The file's size.
  package var fileBytes: Int64
  /// Of it, what is not free for reuse.
  package var inUseBytes: Int64
}

/// The state on disk: one LMDB environment (`<member>/state`). Opened once; `commit` and `defragment` are called by one
/// thread, one at a time; archives are read by any.
package final class StateEngine: Sendable {
  /// Opens or creates the environment and loads the state: an empty `StateMachine` when it is fresh. Throws what the
  /// operator must mend (damage, foreign format).
  package static func open(directory: String, options: EngineOptions) throws(StorageError) -> (StateEngine, StateMachine) {
    fatalError("sketch")
  }

  /// Makes the changes durable as a whole. A disk without space leaves everything as it was: throws `.outOfSpace`-like
  /// `StorageError.io` with `isOutOfSpace`, and the same changes may be offered again. Any other failure stops the process.
  package func commit(_ changes: StateChanges) throws(StorageError) -> EngineCommit { fatalError("sketch") }

  /// Re-inserts everything into a fresh environment beside the living one and takes its place (store.md section 3).
  /// Reads go on. Returns the archive to rebase onto (the same content).
  package func defragment() throws(StorageError) -> EngineCommit { fatalError("sketch") }

  package var sizes: EngineSizes { fatalError("sketch") }

  package func close() { fatalError("sketch") }
}

package struct EngineOptions: Sendable {
  /// Leaves out every sync: for tests and throw-away clusters.
  package var unsafeNoSync = false
  package init(unsafeNoSync: Bool = false) { self.unsafeNoSync = unsafeNoSync }
}
