import LogFormat
import Primitives

/// Reads what a crash left: the newest usable snapshot and the records behind it. Cuts a torn batch, clears away what
/// was unfinished, and refuses a log in which something durable is damaged.
struct LogRecovery {
  private let disk: any Disk
  private let options: LogOptions
  private let walDirectory: String
  private let snapshots: SnapshotFiles

  private var position = LogWriter.Position()
  private var warnings: [String] = []

  struct Result {
    var recovered: RecoveredLog
    var position: LogWriter.Position
    /// The log must first record the snapshot, because what it holds does not lead up to it.
    var mustNoteRestart: Bool
  }

  /// - Parameter directory: the member's directory, which holds (or will hold) `wal` and `snap`.
  init(disk: any Disk, directory: String, options: LogOptions) {
    self.disk = disk
    self.options = options
    walDirectory = "\(directory)/wal"
    snapshots = SnapshotFiles(disk: disk, directory: "\(directory)/snap", options: options)
  }

  /// Creates what is missing and removes what is unfinished.
  static func prepare(_ directory: String, disk: any Disk) throws(StorageError) {
    do throws(DiskFailure) {
      for path in ["\(directory)/wal", "\(directory)/snap"] {
        try disk.createDirectory(path)
        for name in try disk.list(path) where name.hasSuffix(temporarySuffix) { try disk.remove("\(path)/\(name)") }
        // A killed process may have renamed a file and not come to the sync: who builds on the name makes it durable.
        try disk.syncDirectory(path)
      }
      try disk.syncDirectory(directory)
    } catch {
      throw .io(error)
    }
  }

  mutating func run() throws(StorageError) -> Result {
    let loaded = try snapshots.loadNewest()
    let snapshotIndex = loaded?.head.index ?? 0
    let files = try segmentFiles()
    guard let first = files.run.first else {
      if let loaded {
        throw .incompleteLog(
          directory: walDirectory, reason: "there is snapshot \(loaded.head.fileName) and no log file beside it")
      }
      return Result(
        recovered: RecoveredLog(vote: .none, snapshot: nil, records: []), position: position, mustNoteRestart: false)
    }
    var replay = LogReplay(firstIndex: first.firstIndex, payloadFloor: snapshotIndex)
    for (order, file) in files.run.enumerated() {
      try read(file.name, isNewest: order == files.run.count - 1, into: &replay)
    }
    try checkCoverage(replay, loaded, first: first.name)
    try setAside(loaded?.damaged ?? [])
    try removeLeftovers(files.older)
    return try finish(replay, loaded)
  }

  private typealias SegmentFile = (name: String, number: UInt64, firstIndex: UInt64)

  /// The newest segments that follow each other without a gap, and older ones: leftovers of a removal.
  private func segmentFiles() throws(StorageError) -> (run: [SegmentFile], older: [SegmentFile]) {
    let names: [String]
    do throws(DiskFailure) { names = try disk.list(walDirectory) } catch { throw .io(error) }
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
      do throws(DiskFailure) {
        try file.write([UInt8](repeating: 0, count: max(0, end - offset)), at: offset)
        try file.sync()
      } catch {
        throw .io(error)
      }
      warnings.append("cut an unfinished write of \(end - offset) bytes at byte \(offset) of \(path)")
    }
  }

  /// The log must reach back to the snapshot that was readable.
  private func checkCoverage(
    _ replay: LogReplay, _ loaded: SnapshotFiles.Loaded?, first: String
  ) throws(StorageError) {
    let snapshotIndex = loaded?.head.index ?? 0
    guard replay.base > snapshotIndex else { return }
    if let damaged = loaded?.damaged.first {
      throw .corruptSnapshot(file: "\(snapshots.directory)/\(damaged.file)", reason: "\(damaged.reason)")
    }
    throw .incompleteLog(
      directory: walDirectory,
      reason: "its oldest usable entry is \(replay.base + 1) (\(first)), "
        + (snapshotIndex == 0 ? "and there is no snapshot" : "the newest snapshot ends at \(snapshotIndex)"))
  }

  /// Damaged snapshots that the log made good are kept under another name, for whoever wants to know why.
  private mutating func setAside(_ damaged: [(file: String, reason: DecodingFailure)]) throws(StorageError) {
    guard !damaged.isEmpty else { return }
    do throws(DiskFailure) {
      for (name, reason) in damaged {
        let path = "\(snapshots.directory)/\(name)"
        try disk.rename(path, to: "\(path).damaged")
        warnings.append("snapshot \(path) is damaged (\(reason)): set aside, an older one and the log replace it")
      }
      try disk.syncDirectory(snapshots.directory)
    } catch {
      throw .io(error)
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

  private mutating func finish(_ replay: LogReplay, _ loaded: SnapshotFiles.Loaded?) throws(StorageError) -> Result {
    var replay = replay
    var mustNote = false
    if let head = loaded?.head, head.index > replay.last || !replay.contains(index: head.index, term: head.term) {
      replay.reset(to: head.index)
      mustNote = true
    }
    position.lastIndex = replay.last
    position.snapshotIndex = loaded?.head.index ?? 0
    position.spareIndex = try spareIndex(base: replay.base)
    for record in replay.records { position.terms.append(index: record.index, term: record.term) }
    var vote = replay.vote
    vote.commit = min(max(vote.commit, position.snapshotIndex), position.lastIndex)
    position.vote = vote
    return Result(
      recovered: RecoveredLog(
        vote: vote, snapshot: loaded.map { ($0.head.index, $0.head.term, $0.body) },
        records: replay.records(behind: position.snapshotIndex), warnings: warnings),
      position: position, mustNoteRestart: mustNote)
  }

  /// The index of the snapshot before the newest, when the log reaches back to it.
  private func spareIndex(base: UInt64) throws(StorageError) -> UInt64 {
    do throws(DiskFailure) {
      let spare = try snapshots.list().dropFirst().first.flatMap { SnapshotHead.parse(fileName: $0) }
      return spare.map { $0.index >= base ? $0.index : 0 } ?? 0
    } catch {
      throw .io(error)
    }
  }
}
