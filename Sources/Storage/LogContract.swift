import LogFormat

package typealias LogBase = LogFormat.LogBase
package typealias LogRecord = LogFormat.LogRecord
package typealias PersistentVote = LogFormat.PersistentVote

/// What recovery found: the log behind the base that it was opened with.
package struct RecoveredLog: Sendable {
  /// `commit` lies between the base's index and the last record's.
  package var vote: PersistentVote
  /// Ascending without gaps, from the base's index + 1.
  package var records: [LogRecord]
  /// Worth telling the operator: a torn batch that was cut.
  package var warnings: [String] = []
}

/// One write request to the log thread: after a crash all of it is there or nothing. Everything queued is written with
/// one pwrite and one fdatasync.
package struct LogAppend: Sendable {
  /// nil when unchanged.
  package var vote: PersistentVote?
  /// Ascending without gaps. A first index at or below the last one replaces the log from there; it is never above
  /// last + 1, nor at or below the base.
  package var records: [LogRecord]
  /// Called on the log thread after the fsync.
  package var completion: @Sendable () -> Void

  package init(vote: PersistentVote? = nil, records: [LogRecord], completion: @escaping @Sendable () -> Void = {}) {
    self.vote = vote
    self.records = records
    self.completion = completion
  }
}
