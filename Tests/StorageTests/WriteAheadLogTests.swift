import LogFormat
import Primitives
import Storage
import Synchronization
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

private let options = LogOptions(segmentBytes: 64 * 1024)

/// Collects what completions report, and lets a test wait for a count.
private final class Reports: Sendable {
  private let values = Mutex<[UInt64]>([])
  private let stream: AsyncStream<Void>
  private let signal: AsyncStream<Void>.Continuation

  init() { (stream, signal) = AsyncStream.makeStream() }

  func note(_ value: UInt64) {
    values.withLock { $0.append(value) }
    signal.yield()
  }

  var all: [UInt64] { values.withLock { $0 } }

  func wait(for count: Int) async {
    if all.count >= count { return }
    for await _ in stream where all.count >= count { return }
  }
}

@Suite("Write-ahead log on its thread")
struct WriteAheadLogTests {
  @Test("Everything appended is reported, in order, and there again after close and open")
  func appendAndReopen() async throws {
    let place = TemporaryDirectory()
    let (log, fresh) = try WriteAheadLog.open(directory: place.path, base: .none, options: options)
    #expect(fresh.records.isEmpty && fresh.vote == .none)
    let reports = Reports()
    for index in UInt64(1)...2_000 {
      let vote = index % 50 == 0 ? PersistentVote(term: 1, vote: 1, commit: index - 1) : nil
      log.append(LogAppend(vote: vote, records: records(index...index, bytes: 200)) { reports.note(index) })
    }
    await reports.wait(for: 2_000)
    #expect(reports.all == Array(1...2_000))
    let metrics = log.metrics
    #expect(metrics.fsyncCount > 0 && metrics.fsyncCount <= 2_000)
    #expect(metrics.fsyncBuckets.reduce(0, +) == metrics.fsyncCount)
    #expect(log.appendedBytes > 400_000)
    log.close()
    let (again, recovered) = try WriteAheadLog.open(directory: place.path, base: .none, options: options)
    #expect(recovered.records == records(1...2_000, bytes: 200))
    #expect(recovered.vote == PersistentVote(term: 1, vote: 1, commit: 1_999))
    again.close()
  }

  @Test("A caller may write in place of the idle log thread; what both write is one log, in order")
  func appendInPlace() async throws {
    let place = TemporaryDirectory()
    let (log, _) = try WriteAheadLog.open(directory: place.path, base: .none, options: options)
    let reports = Reports()
    for index in UInt64(1)...600 {
      let request = LogAppend(records: records(index...index, bytes: 200)) { reports.note(index) }
      // In threes, so that an append in place finds the log thread now busy, now idle.
      if index % 3 == 0 { log.append(request) } else { log.appendInPlace(request) }
      if index % 9 == 0 { await reports.wait(for: Int(index)) }
      if index == 300 { log.noteBase(LogBase(index: 200, term: 1)) }
    }
    log.close()
    #expect(reports.all == Array(1...600))
    log.appendInPlace(LogAppend(records: records(601...601)) { reports.note(601) })
    #expect(reports.all.count == 600)
    let (again, recovered) = try WriteAheadLog.open(
      directory: place.path, base: LogBase(index: 200, term: 1), options: options)
    #expect(recovered.records == records(201...600, bytes: 200))
    again.close()
  }

  @Test("Close writes and reports what is queued")
  func closeDrains() throws {
    let place = TemporaryDirectory()
    let (log, _) = try WriteAheadLog.open(directory: place.path, base: .none, options: options)
    let reports = Reports()
    for index in UInt64(1)...500 { log.append(LogAppend(records: records(index...index)) { reports.note(index) }) }
    log.close()
    #expect(reports.all == Array(1...500))
    log.append(LogAppend(records: records(501...501)) { reports.note(501) })
    #expect(reports.all.count == 500)
  }

  @Test("Segments that are stored elsewhere go, beside the appends")
  func base() async throws {
    let place = TemporaryDirectory()
    let (log, _) = try WriteAheadLog.open(directory: place.path, base: .none, options: options)
    let reports = Reports()
    for index in UInt64(1)...1_000 {
      log.append(LogAppend(records: records(index...index, bytes: 500)) { reports.note(index) })
    }
    await reports.wait(for: 1_000)
    let before = log.metrics.segmentCount
    await withCheckedContinuation { continuation in
      log.noteBase(LogBase(index: 900, term: 1)) { continuation.resume() }
      for index in UInt64(1_001)...1_100 { log.append(LogAppend(records: records(index...index, bytes: 500))) }
    }
    #expect(log.metrics.segmentCount < before)
    log.close()
    let (again, recovered) = try WriteAheadLog.open(
      directory: place.path, base: LogBase(index: 900, term: 1), options: options)
    #expect(recovered.records == records(901...1_100, bytes: 500))
    again.close()
  }

  @Test("A base with which nothing can go costs no write")
  func baseWithoutWrite() async throws {
    let place = TemporaryDirectory()
    let (log, _) = try WriteAheadLog.open(directory: place.path, base: .none, options: options)
    log.append(LogAppend(records: records(1...10)))
    await withCheckedContinuation { continuation in
      log.append(LogAppend(records: records(11...12)) { continuation.resume() })
    }
    let before = log.metrics
    for index in UInt64(1)...9 {
      await withCheckedContinuation { continuation in
        log.noteBase(LogBase(index: index, term: 1)) { continuation.resume() }
      }
    }
    #expect(log.metrics.batchCount == before.batchCount)
    log.close()
    let (again, recovered) = try WriteAheadLog.open(
      directory: place.path, base: LogBase(index: 9, term: 1), options: options)
    #expect(recovered.records == records(10...12))
    again.close()
  }

  @Test("A received state restarts the log behind it")
  func receivedState() async throws {
    let place = TemporaryDirectory()
    let (log, _) = try WriteAheadLog.open(directory: place.path, base: .none, options: options)
    log.append(LogAppend(records: records(1...10)))
    await withCheckedContinuation { continuation in
      log.noteBase(LogBase(index: 5_000, term: 8)) { continuation.resume() }
    }
    log.append(LogAppend(records: records(5_001...5_003, term: 8)))
    log.close()
    let (again, recovered) = try WriteAheadLog.open(
      directory: place.path, base: LogBase(index: 5_000, term: 8), options: options)
    #expect(recovered.records == records(5_001...5_003, term: 8))
    again.close()
  }

  @Test("Without fsync everything is there after an orderly end, too")
  func unsafeNoFsync() throws {
    let place = TemporaryDirectory()
    let lazy = LogOptions(segmentBytes: 64 * 1024, unsafeNoFsync: true)
    let (log, _) = try WriteAheadLog.open(directory: place.path, base: .none, options: lazy)
    log.append(LogAppend(records: records(1...300, bytes: 1_000)))
    log.close()
    #expect(log.metrics.fsyncCount == 0)
    let (again, recovered) = try WriteAheadLog.open(directory: place.path, base: .none, options: lazy)
    #expect(recovered.records.count == 300)
    again.close()
  }

  @Test("A failed write stops the process")
  func failedWrite() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let disk = SimulatedDisk()
      let (log, _) = try WriteAheadLog.open(
        directory: "/member", base: .none, options: LogOptions(segmentBytes: 4_096), disk: disk)
      // Segment preparation runs beside: fail everything from the next operation on.
      disk.crash(atOperation: disk.operations + 1)
      log.append(LogAppend(records: records(1...1)))
      log.close()
    }
    let message = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(message.contains("leasehold stops: cannot write /member/wal/"))
    #expect(message.contains("nothing after this is durable"))
  }

  @Test("A process that is killed amid its work loses nothing that it reported", arguments: [40, 700, 2_100])
  func killed(afterReports count: UInt64) async throws {
    let place = TemporaryDirectory()
    await #expect(processExitsWith: .signal(SIGKILL)) { [path = place.path as String, count = count as UInt64] in
      let reported = open("\(path)/reported", O_RDWR | O_CREAT, 0o600)
      let (log, _) = try WriteAheadLog.open(directory: path, base: .none, options: LogOptions(segmentBytes: 64 * 1024))
      for index in UInt64(1)...10_000 {
        let append = LogAppend(records: records(index...index, bytes: 300)) {
          var number = index
          pwrite(reported, &number, 8, 0)
          if index % 500 == 0 { log.noteBase(LogBase(index: index - 100, term: 1)) }
          if index == count { kill(getpid(), SIGKILL) }
        }
        log.append(append)
      }
      log.close()
    }
    let reported = try TemporaryDirectory.read("\(place.path)/reported").enumerated().reduce(UInt64(0)) {
      $0 | UInt64($1.element) << UInt64(8 * $1.offset)
    }
    #expect(reported == count)
    let base = LogBase(index: count >= 500 ? (count / 500) * 500 - 100 : 0, term: count >= 500 ? 1 : 0)
    let (log, recovered) = try WriteAheadLog.open(directory: place.path, base: base, options: options)
    let last = recovered.records.last?.index ?? 0
    #expect(last >= reported)
    let first = try #require(recovered.records.first?.index)
    #expect(first == base.index + 1)
    #expect(recovered.records == records(first...last, bytes: 300))
    log.append(LogAppend(records: records(last + 1...last + 1)))
    log.close()
  }

  @Test("A full disk at the start is an error that says so")
  func noSpaceAtStart() {
    let disk = SimulatedDisk()
    disk.fail(atOperation: 3, code: 28)
    let error = #expect(throws: StorageError.self) {
      _ = try SynchronousLog.open(
        directory: "/member", base: .none, options: LogOptions(segmentBytes: 4_096), disk: disk)
    }
    #expect("\(error!)".contains("No space left on device"))
    #expect("\(error!)".contains("free some space"))
  }

  @Test("An append that leaves a gap is a programmer's error")
  func gap() async {
    await #expect(processExitsWith: .failure) {
      let disk = SimulatedDisk()
      let (log, _) = try SynchronousLog.open(
        directory: "/member", base: .none, options: LogOptions(segmentBytes: 4_096), disk: disk)
      try log.append([LogAppend(records: records(2...2))])
    }
  }
}
