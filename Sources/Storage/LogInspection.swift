import LogFormat

/// What is in a log that nobody is writing, read without changing anything.
package struct LogInspection: Sendable {
  package var segmentCount: Int
  /// The entries behind the base; nil when there are none.
  package var entries: ClosedRange<UInt64>?
  package var vote: PersistentVote
  /// What the next start will mend by itself.
  package var warnings: [String]

  /// - Parameters:
  ///   - directory: the member's directory, which holds `wal`.
  ///   - base: where the stored state ends.
  /// - Throws: the first damage, as the next start would.
  package static func run(
    directory: String, base: LogBase, disk: any Disk = POSIXDisk()
  ) throws(StorageError) -> LogInspection {
    var recovery = LogRecovery(disk: disk, directory: directory, base: base, repairs: false)
    let result = try recovery.run()
    result.position.current?.file.close()
    var warnings = result.recovered.warnings
    if result.mustNoteRestart, result.position.segments.count > 0 {
      warnings.append(
        "the log does not lead up to the stored state's entry \(base.index): the next start continues there")
    }
    let records = result.recovered.records
    return LogInspection(
      segmentCount: result.position.segments.count,
      entries: records.first.map { $0.index...(records[records.count - 1].index) }, vote: result.recovered.vote,
      warnings: warnings)
  }
}
