import LogFormat
import Primitives
import Storage
import Testing

private let options = LogOptions(segmentBytes: 4_096)
private let directory = "/member"

private func open(_ disk: SimulatedDisk) throws -> (SynchronousLog, RecoveredLog) {
  try SynchronousLog.open(directory: directory, options: options, disk: disk)
}

private func segments(_ disk: SimulatedDisk) throws -> [String] {
  try disk.list("\(directory)/wal").filter { $0.hasSuffix(".wal") }.sorted()
}

private func snapshots(_ disk: SimulatedDisk) throws -> [String] {
  try disk.list("\(directory)/snap").sorted()
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

  @Test("A corrupt newest snapshot falls back to the spare, from which the log still leads on")
  func fallbackToSpare() throws {
    let disk = SimulatedDisk()
    let (log, _) = try open(disk)
    try log.append([LogAppend(records: records(1...20, bytes: 150))])
    try log.installSnapshot(index: 10, term: 1, bytes: [1, 2, 3])
    try log.append([LogAppend(records: records(21...40, bytes: 150))])
    try log.installSnapshot(index: 30, term: 1, bytes: [4, 5, 6])
    disk.flip("\(directory)/snap/" + (try snapshots(disk)[1]), at: 50)
    let (again, recovered) = try open(disk)
    #expect(recovered.snapshot?.index == 10)
    #expect(recovered.records.map(\.index) == Array(11...40))
    #expect(recovered.records == records(11...40, bytes: 150))
    #expect(recovered.warnings.count == 1)
    #expect(try snapshots(disk).contains { $0.hasSuffix(".damaged") })
    try again.installSnapshot(index: 35, term: 1, bytes: [7])
    #expect(try open(disk).1.snapshot?.index == 35)
  }

  @Test("A corrupt newest snapshot is refused when the log does not reach back to the spare")
  func noFallback() throws {
    let disk = SimulatedDisk()
    let (log, _) = try open(disk)
    try log.append([LogAppend(records: records(1...20, bytes: 150))])
    try log.installSnapshot(index: 10, term: 1, bytes: [1, 2, 3])
    try log.installSnapshot(index: 99, term: 5, bytes: [4, 5, 6])
    try log.append([LogAppend(records: records(100...120, term: 5, bytes: 150))])
    disk.flip("\(directory)/snap/" + (try snapshots(disk)[1]), at: 50)
    let error = #expect(throws: StorageError.self) { try open(disk) }
    guard case .corruptSnapshot = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test("A log without the snapshot it stands on, and a snapshot without a log, are refused")
  func halves() throws {
    let disk = SimulatedDisk()
    let (log, _) = try open(disk)
    try log.append([LogAppend(records: records(1...60, bytes: 150))])
    try log.append([LogAppend(records: records(61...90, bytes: 150))])
    try log.installSnapshot(index: 80, term: 1, bytes: [1, 2, 3])
    let snapshot = try snapshots(disk)[0]
    try disk.rename("\(directory)/snap/\(snapshot)", to: "\(directory)/snap/elsewhere")
    #expect(throws: StorageError.self) { try open(disk) }
    try disk.rename("\(directory)/snap/elsewhere", to: "\(directory)/snap/\(snapshot)")
    for name in try segments(disk) { try disk.remove("\(directory)/wal/\(name)") }
    #expect(throws: StorageError.self) { try open(disk) }
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
    try log.installSnapshot(index: 195, term: 4, bytes: [9])
    #expect(try segments(disk).count <= 2)
    let (_, recovered) = try open(disk)
    #expect(recovered.vote == PersistentVote(term: 4, vote: 2, commit: 195))
    #expect(recovered.records.map(\.index) == Array(196...200))
  }
}
