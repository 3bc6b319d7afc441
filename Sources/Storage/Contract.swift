import Primitives

// CONTRACT SKETCH: how the node's loop uses the disk. The implementation and its files are the Storage author's.
// (Raft's types are not known here: records are bytes with an index and a term.)

package struct LogRecord: Hashable, Sendable {
  package var index: UInt64
  package var term: UInt64
  /// Opaque, with a kind the upper layer gives (0 = empty entry, 1 = command batch …).
  package var kind: UInt8
  package var payload: [UInt8]
}

package struct PersistentVote: Hashable, Sendable {
  package var term: UInt64
  package var vote: UInt64
  package var commit: UInt64
}

/// What recovery found: the newest readable snapshot and the log behind it.
package struct RecoveredLog: Sendable {
  package var vote: PersistentVote
  /// nil on a fresh directory.
  package var snapshot: (index: UInt64, term: UInt64, bytes: [UInt8])?
  package var records: [LogRecord]
}

/// One write request to the log thread. Everything queued is written with one pwritev and one fdatasync.
package struct LogAppend: Sendable {
  package var vote: PersistentVote?
  package var records: [LogRecord]
  /// Called on the log thread after the fsync.
  package var completion: @Sendable () -> Void
}

// package final class WriteAheadLog: Sendable {
//   static func open(directory: String, segmentBytes: Int) throws(StorageError) -> (WriteAheadLog, RecoveredLog)
//   func append(_ request: LogAppend)              // any thread, never blocks on the disk
//   func installSnapshot(index:term:bytes:completion:)  // written to a temp file, fsync, rename, directory fsync; then
//                                                  // segments wholly below the index are removed
//   var totalBytes: Int64 { get }                  // bytes appended since the last snapshot
//   func close()                                   // drains, syncs, joins the thread
//   var metrics: fsync count, duration histogram, bytes
// }
// package final class DataDirectory: create (0700), version file, cluster/member identity file, flock against a second
//   process — each failure a typed StorageError with a one-line message.
