import LogFormat
import Primitives

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Reads what a crash left: the records behind the base. Cuts a torn batch, clears away what was unfinished, and refuses
/// a log in which something durable is damaged, or that does not reach back to the base.
struct LogRecovery {
  private let disk: any Disk
  private let walDirectory: String
  private let base: LogBase
  /// false: nothing on the disk is changed.
  private let repairs: Bool

  private var position = LogWriter.Position()
  private var warnings: [String] = []

  struct Result {
    var recovered: RecoveredLog
    var position: LogWriter.Position
    /// The log must first record the base, because what it holds does not lead up to it.
    var mustNoteRestart: Bool
  }

  /// - Parameters:
  ///   - directory: the member's directory, which holds (or will hold) `wal`.
  ///   - base: where the stored state ends.
  init(disk: any Disk, directory: String, base: LogBase, repairs: Bool = true) {
    self.disk = disk
    self.base = base
    self.repairs = repairs
    walDirectory = "\(directory)/wal"
  }

  /// Creates what is missing and removes what is unfinished.
  static func prepare(_ directory: String, disk: any Disk) throws(StorageError) {
    do throws(DiskFailure) {
      let path = "\(directory)/wal"
      try disk.createDirectory(path)
      for name in try disk.list(path) where name.hasSuffix(temporarySuffix) { try disk.remove("\(path)/\(name)") }
      // A killed process may have renamed a file and not come to the sync: who builds on the name makes it durable.
      try disk.syncDirectory(path)
      try disk.syncDirectory(directory)
    } catch {
      throw .io(error)
    }
  }

  mutating func run() throws(StorageError) -> Result {
    let files = try segmentFiles()
    guard let first = files.run.first else {
      guard base == .none || base == .genesis else {
        throw .incompleteLog(
          directory: walDirectory, reason: "the stored state ends at entry \(base.index), and there is no log file")
      }
      return Result(
        recovered: RecoveredLog(vote: .none, records: []), position: position, mustNoteRestart: base != .none)
    }
    var replay = LogReplay(firstIndex: first.firstIndex, payloadFloor: base.index)
    for (order, file) in files.run.enumerated() {
      try read(file.name, isNewest: order == files.run.count - 1, into: &replay)
    }
    guard replay.start <= base.index else {
      throw .incompleteLog(
        directory: walDirectory,
        reason: "its oldest usable entry is \(replay.start + 1) (\(first.name)), "
          + (base == .none ? "and nothing is stored" : "the stored state ends at \(base.index)"))
    }
    if repairs { try removeLeftovers(files.older) }
    return finish(replay)
  }

  private typealias SegmentFile = (name: String, number: UInt64, firstIndex: UInt64)

  /// The newest segments that follow each other without a gap, and older ones: leftovers of a removal.
  private func segmentFiles() throws(StorageError) -> (run: [SegmentFile], older: [SegmentFile]) {
    let names: [String]
    do throws(DiskFailure) { names = try disk.list(walDirectory) } catch {
      // A restored member that has never been started: `prepare` will make the folder.
      guard !repairs, error.code == ENOENT else { throw .io(error) }
      names = []
    }
    let files = names.compactMap { name in
      SegmentHead.parse(fileName: name).map { (name: name, number: $0.number, firstIndex: $0.firstIndex) }
    }.sorted { ($0.number, $0.firstIndex) < ($1.number, $1.firstIndex) }
    var start = max(0, files.count - 1)
    while start > 0, files[start - 1].number + 1 == files[start].number { start -= 1 }
    for file in files where file.firstIndex == 0 {
      throw .corruptLog(file: "\(walDirectory)/\(file.name)", offset: 0, reason: "a file name without an index")
    }
    return (Array(files[start...]), Array(files[..<start]))
  }

  private mutating func read(_ name: String, isNewest: Bool, into replay: inout LogReplay) throws(StorageError) {
    let path = "\(walDirectory)/\(name)"
    let file: any DiskFile
    let bytes: [UInt8]
    do throws(DiskFailure) {
      file = try disk.open(path, create: false)
      bytes = try file.readAll()
    } catch {
      throw .io(error)
    }
    var failure: LogReplay.Failure?
    let scan: SegmentScan
    do throws(DecodingFailure) {
      scan = try SegmentScanner.scan(bytes, isNewest: isNewest) { record in
        guard failure == nil else { return }
        do throws(LogReplay.Failure) { try replay.apply(record, from: bytes) } catch { failure = error }
      }
    } catch {
      if case .unknownVersion(let version) = error {
        throw .otherVersion(path: path, found: "\(version)", supported: "\(LogLayout.version)")
      }
      throw .corruptLog(file: path, offset: 0, reason: "\(error)")
    }
    if let failure { throw .corruptLog(file: path, offset: scan.end, reason: "\(failure)") }
    guard scan.head.fileName == name else {
      throw .corruptLog(file: path, offset: 0, reason: "the head of another segment")
    }
    guard position.segments.isEmpty || scan.head.previousChain == position.chain else {
      throw .corruptLog(file: path, offset: 12, reason: "it does not continue the segment before it, whose end is lost")
    }
    try settle(scan.verdict, path: path, file: file, bytes: bytes)
    if isNewest { try makeDurable(file) }
    position.segments.append(scan.head)
    position.chain = scan.chain
    position.nextBatch = scan.nextBatch
    position.offset = scan.end
    if isNewest { position.current = (file, bytes.count) } else { file.close() }
  }

  /// A killed process leaves batches that can be read and were never synced. They count from here on, so they must not be
  /// lost to a power cut that the batches behind them survive.
  private func makeDurable(_ file: any DiskFile) throws(StorageError) {
    do throws(DiskFailure) { try file.sync() } catch { throw .io(error) }
  }

  private mutating func settle(
    _ verdict: SegmentVerdict, path: String, file: any DiskFile, bytes: [UInt8]
  ) throws(StorageError) {
    switch verdict {
    case .clean:
      return
    case .corrupt(let offset, let damage):
      throw .corruptLog(file: path, offset: offset, reason: "\(damage)")
    case .torn(let offset):
      let end = (bytes.lastIndex { $0 != 0 } ?? offset) + 1
      guard repairs else {
        warnings.append(
          "an unfinished write of \(end - offset) bytes at byte \(offset) of \(path) awaits the next start")
        return
      }
      do throws(DiskFailure) {
        try file.write([UInt8](repeating: 0, count: max(0, end - offset)), at: offset)
        try file.sync()
      } catch {
        throw .io(error)
      }
      warnings.append("cut an unfinished write of \(end - offset) bytes at byte \(offset) of \(path)")
    }
  }

  private func removeLeftovers(_ files: [SegmentFile]) throws(StorageError) {
    guard !files.isEmpty else { return }
    do throws(DiskFailure) {
      for file in files { try disk.remove("\(walDirectory)/\(file.name)") }
      try disk.syncDirectory(walDirectory)
    } catch {
      throw .io(error)
    }
  }

  private mutating func finish(_ replay: LogReplay) -> Result {
    var replay = replay
    let mustNoteRestart = base.index > replay.last || !replay.contains(base)
    if mustNoteRestart { replay.reset(to: base.index) }
    position.lastIndex = replay.last
    position.base = base
    position.terms = TermRuns(startingWith: base)
    let records = replay.records(behind: base.index)
    for record in records { position.terms.append(index: record.index, term: record.term) }
    var vote = replay.vote
    vote.commit = min(max(vote.commit, base.index), position.lastIndex)
    position.vote = vote
    return Result(
      recovered: RecoveredLog(vote: vote, records: records, warnings: warnings), position: position,
      mustNoteRestart: mustNoteRestart)
  }
}
