import LogFormat
import Primitives

/// The member's log on its own thread: takes all that is queued, writes it with one pwrite, makes it durable with one
/// fdatasync, and reports. While that thread has nothing to do, a caller may do the same in its place
/// (`appendInPlace`). A second thread fills the next segment ahead of use and removes those that nobody needs any more.
///
/// A write or sync that fails stops the process with a clear message; it is never tried again.
package final class WriteAheadLog: Sendable {
  private struct Queue {
    var appends: [LogAppend] = []
    var bases: [BaseNote] = []
    var isClosed = false
    /// The log thread sleeps and must be woken.
    var isIdle = false
    /// A caller of `appendInPlace` has the writer; the log thread keeps its hands off it.
    var isLent = false

    var isEmpty: Bool { appends.isEmpty && bases.isEmpty }
  }

  private struct BaseNote: Sendable {
    var base: LogBase
    /// Called on the log thread with the segments that can go.
    var recorded: @Sendable ([String]) -> Void
  }

  private enum Work {
    case write([LogAppend], [BaseNote])
    case end
  }

  private let queue: Monitor<Queue>
  private let logThread: DedicatedThread
  /// Used by the log thread, or by the caller to whom it is lent.
  private nonisolated(unsafe) let writer: LogWriter
  private let preparer: SerialWorker
  private let supply: SegmentSupply
  private let gauges: LogGauges
  private let disk: any Disk
  private let walDirectory: String
  private let options: LogOptions

  /// Recovers the log and starts its threads.
  /// - Parameters:
  ///   - directory: the member's directory (`DataDirectory.memberPath`); `wal` is created in it when it is missing.
  ///   - base: the entry up to which the state is durable elsewhere.
  package static func open(
    directory: String, base: LogBase, options: LogOptions = LogOptions(), disk: any Disk = POSIXDisk()
  ) throws(StorageError) -> (WriteAheadLog, RecoveredLog) {
    let preparer = SerialWorker(name: "wal-prepare")
    do throws(StorageError) {
      let (core, recovered) = try SynchronousLog.open(
        directory: directory, base: base, options: options, disk: disk, worker: preparer)
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
    gauges = core.gauges
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

  /// The state up to this entry is durable elsewhere: segments that hold nothing else are removed, in the background.
  /// Costs a write only when one can go.
  ///
  /// When the log does not contain that entry (a state received from a leader), the log restarts behind it; entries
  /// behind it may be appended only after `completion`.
  /// - Parameter completion: called when all is done.
  package func noteBase(_ base: LogBase, completion: @escaping @Sendable () -> Void = {}) {
    let note = BaseNote(base: base) { [self] segments in
      if segments.isEmpty { return completion() }
      preparer.run { [self] in
        Self.stopOnFailure("removing what is stored elsewhere") { () throws(DiskFailure) in
          try SynchronousLog.clearAway(segments, in: walDirectory, disk: disk, options: options)
        }
        completion()
      }
    }
    queue.change { state in
      guard !state.isClosed else { return false }
      state.bases.append(note)
      return state.isIdle
    }
  }

  /// As `noteBase`, for a state that the log does not lead up to; waits until entries behind it may be appended.
  package func restart(behind base: LogBase) {
    let done = Occasion()
    noteBase(base) { done.come() }
    done.wait()
  }

  /// Bytes of the log recovered or appended so far; never falls.
  package var appendedBytes: Int64 { gauges.appendedBytes }

  package var metrics: LogMetrics { gauges.metrics }

  /// Writes and reports what is queued, then ends the threads. Call once, and not from a completion.
  package func close() {
    queue.change { state in
      state.isClosed = true
      return true
    }
    logThread.join()
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
            note.recorded(try writer.noteBase(note.base))
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
      state.bases = []
    }
    return .write(state.appends, state.bases)
  }

  private static func stopOnFailure(_ activity: String, _ body: () throws(DiskFailure) -> Void) {
    do throws(DiskFailure) { try body() } catch { stopProcess(error, while: activity) }
  }
}
