import Keyspace
import Storage

/// What a commit has made durable.
package struct EngineCommit: Sendable {
  package var appliedIndex: UInt64
  package var appliedTerm: UInt64
  /// For `StateMachine.rebase`: the archive, up to where it reaches, and the logical bytes that it holds.
  package var archive: any VersionArchive
  package var belowOrdinal: UInt64
  package var archivedBytes: Int

  package init(
    appliedIndex: UInt64, appliedTerm: UInt64, archive: any VersionArchive, belowOrdinal: UInt64, archivedBytes: Int
  ) {
    self.appliedIndex = appliedIndex
    self.appliedTerm = appliedTerm
    self.archive = archive
    self.belowOrdinal = belowOrdinal
    self.archivedBytes = archivedBytes
  }
}

package struct EngineSizes: Hashable, Sendable {
  /// The file's size.
  package var fileBytes: Int64
  /// Of it, what is not free for reuse.
  package var inUseBytes: Int64

  package init(fileBytes: Int64 = 0, inUseBytes: Int64 = 0) {
    self.fileBytes = fileBytes
    self.inUseBytes = inUseBytes
  }
}

package struct EngineOptions: Sendable {
  /// Leaves out every sync: for tests and throw-away clusters.
  package var unsafeNoSync = false
  /// Address space for the file: the ceiling of its size.
  package var mapBytes: Int

  /// - Parameter mapBytes: nil for 1 TiB, or what of it the system allows.
  package init(unsafeNoSync: Bool = false, mapBytes: Int? = nil) {
    self.unsafeNoSync = unsafeNoSync
    self.mapBytes = mapBytes ?? EngineLimits.mapBytes
  }
}
