import Primitives

/// Every kept version in the order it was made: the older ones in an archive, the recent ones in memory. A version's
/// *ordinal* is its place in the order of all versions ever made; compaction leaves holes, ordinals stay. (A keyspace
/// decoded from bytes numbers anew.) Without an archive everything is recent.
///
/// How versions leave memory (write-behind): `cut` hands out what is new; when the engine has made that durable,
/// `rebase` puts its archive in the place of what was handed out. Ordinals thus fall into three ranges:
///
///     0 ..< archiveEnd         in the archive; a removal is noted for the next cut
///     archiveEnd ..< cutEnd    handed out, still in memory; a removal happens here and is noted too
///     cutEnd ..< nextOrdinal   new; a removal happens here and nobody need know
struct VersionLog: Sendable {
  private(set) var nextOrdinal: UInt64 = 0
  private var cutEnd: UInt64 = 0
  private var archiveEnd: UInt64 = 0

  private var recent = VersionTree()
  private var archive: (any VersionArchive)?

  private var archivedBytes = 0
  private var handedOutBytes = 0
  private(set) var newBytes = 0

  /// Noted since the last cut.
  private var removals = ChunkedArray<KeyspaceChanges.Removal>()
  /// Whether the archive may still hold what the last cut told it to remove.
  private var isRemovalPending = false
  /// The main revisions of all versions below `cutEnd` and `archiveEnd` are at or below these.
  private var cutMain: Int64 = 0
  private var archiveMain: Int64 = 0

  init() {}

  /// Everything is in the archive.
  init(archive: any VersionArchive, nextOrdinal: UInt64, revision: Int64, archivedBytes: Int) {
    self.archive = archive
    self.archivedBytes = archivedBytes
    (self.nextOrdinal, cutEnd, archiveEnd) = (nextOrdinal, nextOrdinal, nextOrdinal)
    (cutMain, archiveMain) = (revision, revision)
  }

  /// Archived and recent. What has been removed from the archive counts until the next rebase.
  var sizeInBytes: Int { archivedBytes + recentBytes }

  /// In memory.
  var recentBytes: Int { handedOutBytes + newBytes }

  /// New versions, and a share for each removal that waits for a cut.
  var uncutBytes: Int { newBytes + removals.count * Self.bytesPerRemoval }
  private static let bytesPerRemoval = 64

  /// Whether a walk may come by versions that have been removed.
  var mayVisitRemoved: Bool { archive != nil && (isRemovalPending || !removals.isEmpty) }

  /// The version at `ordinal`, which is kept.
  subscript(ordinal: UInt64) -> StoredVersion {
    if ordinal < archiveEnd, let archive { return archive.version(at: ordinal) }
    return recent[ordinal]
  }

  /// Whether the version at `ordinal` is in memory.
  func isRecent(_ ordinal: UInt64) -> Bool { ordinal >= archiveEnd }

  /// Appends a version behind all others.
  mutating func append(_ version: StoredVersion) {
    recent.append(version, at: nextOrdinal)
    nextOrdinal += 1
    newBytes += version.sizeInBytes
  }

  /// Removes a version that is kept.
  mutating func remove(_ reference: VersionReference, of key: Bytes) {
    let ordinal = reference.ordinal
    if ordinal >= archiveEnd {
      let bytes = recent.remove(ordinal).sizeInBytes
      if ordinal < cutEnd { handedOutBytes -= bytes } else { newBytes -= bytes }
    }
    if ordinal < cutEnd { removals.append(KeyspaceChanges.Removal(key: key, reference: reference)) }
  }

  /// Visits the versions made at main revision `main` or later, in order, with their ordinals, until `body` answers
  /// false. With `start`, begins at that ordinal instead (`main` is at or below the main revision of what stands there).
  func forEach(from main: Int64, at start: UInt64? = nil, _ body: (UInt64, StoredVersion) -> Bool) {
    if let archive, main <= archiveMain, start ?? 0 < archiveEnd {
      let goesOn =
        if let start {
          archive.forEachVersion(at: start, from: main, below: archiveEnd, body)
        } else {
          archive.forEachVersion(from: main, below: archiveEnd, body)
        }
      guard goesOn else { return }
    }
    recent.forEach(from: start.map { .ordinal($0) } ?? .main(main), body)
  }
}

// MARK: - Write-behind

extension VersionLog {
  /// What a cut hands out.
  struct Cut: Sendable {
    var ordinals: Range<UInt64>
    /// Holds the new versions and, below them, older ones.
    var versions: VersionTree
    var newBytes: Int
    var removals: ChunkedArray<KeyspaceChanges.Removal>
  }

  /// - Parameter revision: the keyspace's, at or above those of all versions.
  mutating func cut(at revision: Int64) -> Cut {
    let cut = Cut(ordinals: cutEnd..<nextOrdinal, versions: recent, newBytes: newBytes, removals: removals)
    cutEnd = nextOrdinal
    cutMain = revision
    handedOutBytes += newBytes
    newBytes = 0
    isRemovalPending = !removals.isEmpty
    removals = ChunkedArray()
    return cut
  }

  mutating func rebase(
    onto archive: any VersionArchive, below ordinal: UInt64, archivedBytes: Int
  ) -> DiscardedVersions {
    precondition(
      ordinal == cutEnd || ordinal == archiveEnd,
      "an archive up to ordinal \(ordinal), which is neither the last cut's end \(cutEnd) nor the last archive's")
    let discarded = DiscardedVersions(nodes: recent.removePrefix(below: ordinal), archive: self.archive)
    if ordinal == cutEnd {
      // An archive that reaches no further may be the cut's, or the content before it rewritten: then doubt remains.
      if ordinal > archiveEnd { isRemovalPending = false }
      handedOutBytes = 0
      archiveMain = cutMain
      archiveEnd = cutEnd
    }
    self.archive = archive
    self.archivedBytes = archivedBytes
    return discarded
  }
}
