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

/// What the engine has cost since the process started, for `etcd_disk_backend_commit_duration_seconds` and its like.
package struct EngineMetrics: Hashable, Sendable {
  /// Upper bounds in seconds: etcd's, 0.001 · 2^n. The last one of `commitBuckets` is beyond them all.
  package static let bucketBoundsSeconds: [Double] = LogMetrics.bucketBoundsSeconds

  package var commitCount: UInt64 = 0
  package var commitSecondsSum: Double = 0
  /// Counts per bucket, not cumulative.
  package var commitBuckets = [UInt64](repeating: 0, count: bucketBoundsSeconds.count + 1)
  /// Keys and records that commits have put, before the engine spreads them over pages.
  package var writtenBytes: Int64 = 0
  package var defragmentCount: UInt64 = 0
  package var defragmentSecondsSum: Double = 0

  mutating func noteCommit(_ duration: Duration, bytes: Int) {
    let seconds = duration.inSeconds
    commitCount += 1
    commitSecondsSum += seconds
    let bounds = Self.bucketBoundsSeconds
    commitBuckets[bounds.firstIndex { seconds <= $0 } ?? bounds.count] += 1
    writtenBytes += Int64(bytes)
  }

  mutating func noteDefragmentation(_ duration: Duration) {
    defragmentCount += 1
    defragmentSecondsSum += duration.inSeconds
  }
}

extension Duration {
  fileprivate var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
