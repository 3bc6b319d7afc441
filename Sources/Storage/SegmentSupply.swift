/// Makes the next segment's file ahead of its use: filled with zeros and synced, under a temporary name.
final class SegmentSupply: Sendable {
  struct Prepared: Sendable {
    var file: any DiskFile
    var path: String
    var bytes: Int
  }

  private enum State {
    case idle
    case preparing
    case ready(Prepared)
    /// Tried again, in the log's own thread, when the file is needed: until then space may have been freed.
    case failed(DiskFailure)
  }

  private let disk: any Disk
  private let directory: String
  private let options: LogOptions
  /// nil: files are made in the caller's thread.
  private let worker: SerialWorker?
  private let monitor = Monitor((state: State.idle, counter: 0))

  init(disk: any Disk, directory: String, options: LogOptions, worker: SerialWorker?) {
    self.disk = disk
    self.directory = directory
    self.options = options
    self.worker = worker
  }

  /// Starts on the next file.
  func prepareAhead() throws(DiskFailure) {
    monitor.withLock { $0.state = .preparing }
    guard let worker else {
      let prepared = try make(bytes: options.segmentBytes)
      monitor.withLock { $0.state = .ready(prepared) }
      return
    }
    worker.run { [self] in
      let result: State
      do throws(DiskFailure) {
        result = .ready(try make(bytes: options.segmentBytes))
      } catch {
        result = .failed(error)
      }
      monitor.change { slot in
        slot.state = result
        return true
      }
    }
  }

  /// The prepared file, of at least this size; waits for one that is being made.
  func take(minimumBytes: Int) throws(DiskFailure) -> Prepared {
    let ready: Prepared? = monitor.wait { slot -> Prepared?? in
      switch slot.state {
      case .preparing: return nil
      case .idle, .failed: return .some(nil)
      case .ready(let prepared):
        slot.state = .idle
        return .some(prepared)
      }
    }
    guard var ready else { return try make(bytes: max(minimumBytes, options.segmentBytes)) }
    if ready.bytes < minimumBytes {
      try fill(ready.file, ready.bytes..<minimumBytes)
      ready.bytes = minimumBytes
    }
    return ready
  }

  /// Removes what was prepared and not used. Call when the worker has ended.
  func close() {
    monitor.withLock { slot in
      if case .ready(let prepared) = slot.state {
        prepared.file.close()
        // A leftover is harmless: opening removes it.
        try? disk.remove(prepared.path)
      }
      slot.state = .idle
    }
  }

  private func make(bytes: Int) throws(DiskFailure) -> Prepared {
    let serial = monitor.withLock { slot in
      slot.counter += 1
      return slot.counter
    }
    let path = "\(directory)/prepared-\(serial)\(temporarySuffix)"
    let file = try disk.open(path, create: true)
    try fill(file, 0..<bytes)
    return Prepared(file: file, path: path, bytes: bytes)
  }

  private func fill(_ file: any DiskFile, _ range: Range<Int>) throws(DiskFailure) {
    try file.fillWithZeros(range)
    if !options.unsafeNoFsync { try file.sync() }
  }
}

/// Ends the names of files that are not complete; opening removes them.
let temporarySuffix = ".tmp"
