import LogFormat
import Primitives

/// The member's log on its own thread: takes all that is queued, writes it with one pwrite, makes it durable with one
/// fdatasync, and reports. While that thread has nothing to do, a caller may do the same in its place
/// (`appendInPlace`). A second thread fills the next segment ahead of use, a third writes snapshots.
///
/// A write or sync that fails stops the process with a clear message; it is never tried again.
package final class WriteAheadLog: Sendable {
  private struct Queue {
    var appends: [LogAppend] = []
    var snapshots: [SnapshotNote] = []
    var isClosed = false
    /// The log thread sleeps and must be woken.
    var isIdle = false
    /// A caller of `appendInPlace` has the writer; the log thread keeps its hands off it.
    var isLent = false

    var isEmpty: Bool { appends.isEmpty && snapshots.isEmpty }
  }

  /// A snapshot whose file is durable, on its way into the log.
  private struct SnapshotNote: Sendable {
    var index: UInt64
    var term: UInt64
    /// Called on the log thread with the segments that can go.
    var recorded: @Sendable ([String]) -> Void
  }

  private enum Work {
    case write([LogAppend], [SnapshotNote])
    case end
  }

  private let queue: Monitor<Queue>
  private let logThread: DedicatedThread
  /// Used by the log thread, or by the caller to whom it is lent.
  private nonisolated(unsafe) let writer: LogWriter
  private let preparer: SerialWorker
  private let snapshotWorker: SerialWorker
  private let supply: SegmentSupply
  private let snapshots: SnapshotFiles
  private let gauges: LogGauges
  private let disk: any Disk
  private let walDirectory: String
  private let options: LogOptions

  package static func open(
    directory: String, segmentBytes: Int
  ) throws(StorageError) -> (WriteAheadLog, RecoveredLog) {
    try open(directory: directory, options: LogOptions(segmentBytes: segmentBytes))
  }

  /// Recovers the log and starts its threads.
  /// - Parameter directory: the member's directory (`DataDirectory.memberPath`); `wal` and `snap` are created in it
  ///   when they are missing.
  package static func open(
    directory: String, options: LogOptions = LogOptions(), disk: any Disk = POSIXDisk()
  ) throws(StorageError) -> (WriteAheadLog, RecoveredLog) {
    let preparer = SerialWorker(name: "wal-prepare")
    do throws(StorageError) {
      let (core, recovered) = try SynchronousLog.open(
        directory: directory, options: options, disk: disk, worker: preparer)
      let log = WriteAheadLog(
        core: core, directory: directory, options: options, disk: disk, preparer: preparer)
      return (log, recovered)
    } catch {
      preparer.close()
      throw error
    }
  }

  private init(
    core: SynchronousLog, directory: String, options: LogOptions, disk: any Disk, preparer: SerialWorker
  ) {
    self.options = options
    self.disk = disk
    self.preparer = preparer
    walDirectory = "\(directory)/wal"
    supply = core.supply
    snapshots = core.snapshots
    gauges = core.gauges
    snapshotWorker = SerialWorker(name: "snapshot")
    let queue = Monitor(Queue())
    self.queue = queue
    // From here on the queue says whose the writer is.
    nonisolated(unsafe) let writer = core.writer
    self.writer = writer
    logThread = DedicatedThread(name: "wal") { Self.run(queue, writer) }
  }

  /// Any thread; never blocks on the disk. After `close` the request is dropped and its completion never called, as if
  /// the process had ended before.
  package func append(_ request: LogAppend) {
    queue.change { state in
      guard !state.isClosed else { return false }
      state.appends.append(request)
      return state.isIdle
    }
  }

  /// As `append`, but on the caller's thread, which blocks on the disk, when the log thread has nothing to do: a lone
  /// small write is spared two changes of thread, a third of its time on a fast disk.
  package func appendInPlace(_ request: LogAppend) {
    let isOurs = queue.withLock { state in
      guard state.isIdle, state.isEmpty, !state.isLent, !state.isClosed else { return false }
      state.isLent = true
      return true
    }
    guard isOurs else { return append(request) }
    Self.stopOnFailure("writing the log") { () throws(DiskFailure) in try writer.commit([request]) }
    queue.change { state in
      state.isLent = false
      return !state.isEmpty || state.isClosed
    }
  }

  /// Makes a snapshot of the state after entry `index` durable, on a thread of its own, then removes the segments and
  /// older snapshots that it makes superfluous (one spare and the log behind it are kept).
  ///
  /// When the log does not contain that entry (a snapshot received from a leader), the log restarts behind it; entries
  /// behind such a snapshot may be appended only after `completion`.
  /// - Parameter completion: called on the snapshot thread.
  package func installSnapshot(
    index: UInt64, term: UInt64, bytes: [UInt8], completion: @escaping @Sendable () -> Void = {}
  ) {
    installSnapshot(index: index, term: term, encoding: { bytes }, completion: completion)
  }

  /// As above; `encoding` makes the bytes on the snapshot thread.
  package func installSnapshot(
    index: UInt64, term: UInt64, encoding: @escaping @Sendable () -> [UInt8],
    completion: @escaping @Sendable () -> Void = {}
  ) {
    let covered = gauges.appendedBytes
    snapshotWorker.run { [self] in
      Self.stopOnFailure("writing a snapshot") { () throws(DiskFailure) in
        try snapshots.save(index: index, term: term, body: encoding())
      }
      let note = SnapshotNote(index: index, term: term) { [self] segments in
        gauges.noteSnapshot(coveringBytes: covered)
        snapshotWorker.run { [self] in
          Self.stopOnFailure("removing what a snapshot covers") { () throws(DiskFailure) in
            try SynchronousLog.clearAway(
              segments, in: walDirectory, snapshots: snapshots, disk: disk, options: options)
          }
          completion()
        }
      }
      queue.change { state in
        guard !state.isClosed else { return false }
        state.snapshots.append(note)
        return state.isIdle
      }
    }
  }

  /// Bytes appended since the newest snapshot was begun.
  package var totalBytes: Int64 { gauges.bytesSinceSnapshot }

  package var metrics: LogMetrics { gauges.metrics }

  /// Writes and reports what is queued, then ends the threads. A snapshot that is being written is finished or left out
  /// as a whole. Call once, and not from a completion.
  package func close() {
    queue.change { state in
      state.isClosed = true
      return true
    }
    logThread.join()
    snapshotWorker.close()
    preparer.close()
    supply.close()
  }

  private static func run(_ queue: Monitor<Queue>, _ writer: LogWriter) {
    while true {
      switch queue.wait(for: nextWork) {
      case .end:
        writer.close()
        return
      case .write(let appends, let notes):
        stopOnFailure("writing the log") { () throws(DiskFailure) in
          try writer.commit(appends)
          for note in notes {
            note.recorded(try writer.noteSnapshot(index: note.index, term: note.term))
          }
        }
      }
    }
  }

  private static func nextWork(_ state: inout Queue) -> Work? {
    if state.isEmpty || state.isLent {
      state.isIdle = true
      return state.isClosed && !state.isLent ? .end : nil
    }
    state.isIdle = false
    defer {
      state.appends = []
      state.snapshots = []
    }
    return .write(state.appends, state.snapshots)
  }

  private static func stopOnFailure(_ activity: String, _ body: () throws(DiskFailure) -> Void) {
    do throws(DiskFailure) { try body() } catch { stopProcess(error, while: activity) }
  }
}
