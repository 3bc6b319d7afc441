import LogFormat

/// The whole log in the caller's thread: recovery, batches, removal. `WriteAheadLog` puts its parts on threads; the
/// offline tools and the crash simulation use it as it is. Not for use by two threads at once.
/// A method that throws leaves the log unusable.
package final class SynchronousLog {
  let writer: LogWriter
  let supply: SegmentSupply
  let gauges: LogGauges
  private let disk: any Disk
  private let walDirectory: String
  private let options: LogOptions

  /// - Parameters:
  ///   - directory: the member's directory; `wal` is created in it when it is missing.
  ///   - base: the entry up to which the state is durable elsewhere.
  package static func open(
    directory: String, base: LogBase, options: LogOptions = LogOptions(), disk: any Disk = POSIXDisk()
  ) throws(StorageError) -> (SynchronousLog, RecoveredLog) {
    try open(directory: directory, base: base, options: options, disk: disk, worker: nil)
  }

  /// - Parameter worker: prepares segments; nil: the caller's thread does.
  static func open(
    directory: String, base: LogBase, options: LogOptions, disk: any Disk, worker: SerialWorker?
  ) throws(StorageError) -> (SynchronousLog, RecoveredLog) {
    precondition(options.segmentBytes >= LogLayout.segmentHeadBytes + LogLayout.batchMarkBytes)
    try LogRecovery.prepare(directory, disk: disk)
    var recovery = LogRecovery(disk: disk, directory: directory, base: base)
    let result = try recovery.run()
    do throws(DiskFailure) {
      let log = try SynchronousLog(
        directory: directory, options: options, disk: disk, worker: worker, position: result.position)
      if result.mustNoteRestart { try log.clearAway(log.writer.noteRestart(behind: base)) }
      log.gauges.noteRecovered(bytes: result.recovered.records.reduce(0) { $0 + Int64($1.encodedBytes) })
      return (log, result.recovered)
    } catch {
      throw .io(error)
    }
  }

  private init(
    directory: String, options: LogOptions, disk: any Disk, worker: SerialWorker?, position: LogWriter.Position
  ) throws(DiskFailure) {
    self.disk = disk
    self.options = options
    walDirectory = "\(directory)/wal"
    gauges = LogGauges()
    supply = SegmentSupply(disk: disk, directory: walDirectory, options: options, worker: worker)
    writer = try LogWriter(
      disk: disk, directory: walDirectory, options: options, supply: supply, gauges: gauges, position: position)
  }

  package var metrics: LogMetrics { gauges.metrics }

  /// Writes the requests, in order, and calls each completion when it is durable.
  package func append(_ requests: [LogAppend]) throws(DiskFailure) { try writer.commit(requests) }

  /// The state up to this entry is durable elsewhere: removes the segments that are superfluous now, and restarts a log
  /// that does not contain the entry behind it.
  package func noteBase(_ base: LogBase) throws(DiskFailure) { try clearAway(writer.noteBase(base)) }

  package func close() {
    writer.close()
    supply.close()
  }

  private func clearAway(_ segments: [String]) throws(DiskFailure) {
    try Self.clearAway(segments, in: walDirectory, disk: disk, options: options)
  }

  /// Oldest first, so that a crash leaves the log without a hole.
  static func clearAway(
    _ segments: [String], in walDirectory: String, disk: any Disk, options: LogOptions
  ) throws(DiskFailure) {
    for name in segments { try disk.remove("\(walDirectory)/\(name)") }
    if !segments.isEmpty, !options.unsafeNoFsync { try disk.syncDirectory(walDirectory) }
  }
}
