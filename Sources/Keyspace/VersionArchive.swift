import Primitives

/// Versions that have left memory: those below some ordinal, as they were at one moment. It never changes while it is
/// held, whatever is committed meanwhile; letting go of it gives back what only it could see.
///
/// Reads do not fail: a version that the index names and the archive does not have, or whose checksum is wrong, means
/// that the store is damaged, and the process stops with a clear message.
package protocol VersionArchive: AnyObject, Sendable {
  /// The version stored at `ordinal`, which is there.
  func version(at ordinal: UInt64) -> StoredVersion

  /// Visits the versions below ordinal `end` made at main revision `main` or later, in order, until `body` answers
  /// false; answers whether it came to the end.
  func forEachVersion(from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool) -> Bool
}
