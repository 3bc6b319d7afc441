import LogFormat
import Primitives
import Storage
import TestSupport
import Testing

private let options = LogOptions(segmentBytes: 4_096)
private let directory = "/member"

private func open(_ disk: SimulatedDisk, base: LogBase = .none) throws -> (SynchronousLog, RecoveredLog) {
  try SynchronousLog.open(directory: directory, base: base, options: options, disk: disk)
}

private func segments(_ disk: SimulatedDisk) throws -> [String] {
  try disk.list("\(directory)/wal").filter { $0.hasSuffix(".wal") }.sorted()
}

@Suite("Damage that no crash causes")
struct LogDamageTests {
  @Test("A flipped bit in an older segment is refused with file and offset")
  func flipInOlderSegment() throws {
    let disk = SimulatedDisk()
    let (log, _) = try open(disk)
    try log.append([LogAppend(records: records(1...20, bytes: 150))])
    try log.append([LogAppend(records: records(21...40, bytes: 150))])
    let file = "\(directory)/wal/" + (try segments(disk)[0])
    disk.flip(file, at: 200)
    let error = #expect(throws: StorageError.self) { try open(disk) }
    guard case .corruptLog(file, let offset, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(offset > 0 && offset <= 200)
    #expect("\(error!)".contains("\(file) is damaged at byte \(offset)"))
    #expect(!"\(error!)".contains("\n"))
  }

  @Test("A missing segment, and one that lost its end, are refused")
  func missingSegment() throws {
    for damage in ["remove the middle", "blank the end of the first"] {
      let disk = SimulatedDisk()
      let (log, _) = try open(disk)
      for first in stride(from: UInt64(1), to: 100, by: 10) {
        try log.append([LogAppend(records: records(first...first + 9, bytes: 150))])
      }
      let names = try segments(disk)
      #expect(names.count > 3)
      if damage == "remove the middle" {
        try disk.remove("\(directory)/wal/\(names[1])")
      } else {
        let path = "\(directory)/wal/\(names[0])"
        let bytes = disk.bytes(path)
        // The last batch vanishes without a trace in its own segment.
        var starts: [Int] = []
        var prefix = bytes
        while case let scan = try SegmentScanner.scan(prefix, isNewest: true, visit: { _ in }),
          scan.end > LogLayout.segmentHeadBytes
        {
          starts.append(scan.end)
          prefix = Array(bytes.prefix(scan.end - 1))
        }
        let batchStart = starts.count > 1 ? starts[1] : LogLayout.segmentHeadBytes
        for offset in batchStart..<bytes.count where bytes[offset] != 0 {
          disk.flip(path, at: offset, mask: bytes[offset])
        }
      }
      #expect(throws: StorageError.self, "\(damage)") { try open(disk) }
    }
  }

  @Test("A log that does not reach back to the stored state, and a stored state without a log, are refused")
  func halves() throws {
    let disk = SimulatedDisk()
    let (log, _) = try open(disk)
    try log.append([LogAppend(records: records(1...60, bytes: 150))])
    try log.append([LogAppend(records: records(61...90, bytes: 150))])
    let base = LogBase(index: 80, term: 1)
    try log.noteBase(base)
    for lost in [LogBase.none, LogBase(index: 20, term: 1)] {
      let error = #expect(throws: StorageError.self) { try open(disk, base: lost) }
      guard case .incompleteLog = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
    #expect(try open(disk, base: base).1.records == records(81...90, bytes: 150))
    for name in try segments(disk) { try disk.remove("\(directory)/wal/\(name)") }
    #expect(throws: StorageError.self) { try open(disk, base: base) }
  }

  @Test("A new cluster's state has no log yet: it begins behind it, whenever the first start is cut short")
  func genesis() throws {
    let disk = SimulatedDisk()
    for _ in 0..<2 { #expect(try open(disk, base: .genesis).1.records.isEmpty) }
    let (log, recovered) = try open(disk, base: .genesis)
    #expect(recovered.vote.term <= 1)
    try log.append([LogAppend(vote: PersistentVote(term: 2, vote: 7, commit: 1), records: records(2...9, term: 2))])
    let (_, again) = try open(disk, base: .genesis)
    #expect(again.records == records(2...9, term: 2) && again.vote.vote == 7)
  }

  @Test("A log that ends before the stored state, or disagrees with it, restarts behind it and stays so")
  func restart() throws {
    for base in [LogBase(index: 99, term: 5), LogBase(index: 15, term: 3)] {
      let disk = SimulatedDisk()
      let (log, _) = try open(disk)
      try log.append([LogAppend(records: records(1...20, bytes: 150))])
      #expect(try open(disk, base: base).1.records.isEmpty)
      let (again, recovered) = try open(disk, base: base)
      #expect(recovered.records.isEmpty && recovered.vote.commit == base.index)
      let next = records(base.index + 1...base.index + 3, term: 5)
      try again.append([LogAppend(records: next)])
      #expect(try open(disk, base: base).1.records == next)
    }
  }

  @Test("An inspection reports an unfinished write and changes nothing")
  func inspection() throws {
    let disk = SimulatedDisk()
    let (log, _) = try open(disk)
    try log.append([LogAppend(records: records(1...5, bytes: 150))])
    try log.append([LogAppend(records: records(6...9, bytes: 600))])
    let path = "\(directory)/wal/" + (try segments(disk)[0])
    let bytes = disk.bytes(path)
    let end = (bytes.lastIndex { $0 != 0 } ?? 0) + 1
    for offset in (end / 512 - 1) * 512..<(end / 512) * 512 where bytes[offset] != 0 {
      disk.flip(path, at: offset, mask: bytes[offset])
    }
    let torn = disk.bytes(path)
    let found = try LogInspection.run(directory: directory, base: .none, disk: disk)
    #expect(found.entries == 1...5)
    #expect(found.warnings.count == 1 && found.warnings[0].contains("unfinished write"))
    #expect(disk.bytes(path) == torn)
    #expect(throws: StorageError.self) {
      try LogInspection.run(directory: directory, base: LogBase(index: 4, term: 1), disk: SimulatedDisk())
    }
  }

  @Test("A segment of another format version is named as such")
  func otherVersion() throws {
    let disk = SimulatedDisk()
    _ = try open(disk)
    let file = "\(directory)/wal/" + (try segments(disk)[0])
    disk.flip(file, at: 8, mask: 3)
    let expected = StorageError.otherVersion(path: file, found: "2", supported: "1")
    #expect(throws: expected) { try open(disk) }
  }

  @Test("A vote and a log survive when every older segment has gone")
  func voteIsCarriedOver() throws {
    let disk = SimulatedDisk()
    let (log, _) = try open(disk)
    try log.append([LogAppend(vote: PersistentVote(term: 4, vote: 2, commit: 0), records: [])])
    for first in stride(from: UInt64(1), to: 200, by: 10) {
      try log.append([LogAppend(records: records(first...first + 9, term: 4, bytes: 150))])
    }
    let base = LogBase(index: 195, term: 4)
    try log.noteBase(base)
    #expect(try segments(disk).count <= 2)
    let (_, recovered) = try open(disk, base: base)
    #expect(recovered.vote == PersistentVote(term: 4, vote: 2, commit: 195))
    #expect(recovered.records.map(\.index) == Array(196...200))
  }
}
