import Primitives

/// How a log is written.
package struct LogOptions: Sendable {
  /// Size of a segment's file; a larger batch gets a larger file.
  package var segmentBytes: Int
  /// Leaves out every fsync: a power cut may lose everything or leave a log that refuses to open. For tests and
  /// throw-away clusters.
  package var unsafeNoFsync: Bool

  package init(segmentBytes: Int = Limits.walSegmentBytes, unsafeNoFsync: Bool = false) {
    self.segmentBytes = segmentBytes
    self.unsafeNoFsync = unsafeNoFsync
  }

  /// Bytes of one batch; requests beyond it wait for the next fsync.
  static let maxBatchBytes = 16 * 1024 * 1024
  /// Larger encoding buffers are given back after use.
  static let keptBufferBytes = 4 * 1024 * 1024
}
