import LogFormat
import Primitives
import Storage
import TestSupport
import Testing

/// What a log should contain, told by the requests alone.
private struct ModelLog {
  var vote = PersistentVote.none
  /// What the storage engine has made durable: the simulator remembers it, whatever the log's disk forgets.
  var base = LogBase.none
  /// All entries behind the base.
  var records: [LogRecord] = []

  mutating func apply(_ step: WorkloadStep) {
    switch step {
    case .append(let requests):
      for request in requests { apply(request) }
    case .base(let index, let term, _):
      let agrees = records.contains { $0.index == index && $0.term == term }
      records = agrees ? records.filter { $0.index > index } : []
      base = LogBase(index: index, term: term)
    }
  }

  mutating func apply(_ request: LogAppend) {
    vote = request.vote ?? vote
    guard let first = request.records.first else { return }
    records.removeAll { $0.index >= first.index }
    records += request.records
  }

  /// The recovered commit index is held within the log's bounds.
  var expectedVote: PersistentVote {
    var vote = vote
    vote.commit = min(max(vote.commit, base.index), last)
    return vote
  }

  var last: UInt64 { records.last?.index ?? base.index }

  func matches(_ recovered: RecoveredLog) -> Bool { recovered.vote == expectedVote && recovered.records == records }
}

private enum WorkloadStep {
  /// Requests of one group commit.
  case append([LogAppend])
  /// The engine commits the state up to this entry; the log is told, or hears of it only when it is opened again.
  case base(index: UInt64, term: UInt64, isTold: Bool = true)
}

/// Appends small and large, votes, group commits, segment rolls, truncation, a record larger than a segment, commits of
/// the state that the log leads up to, and of one that was received and voids the log.
private let workload: [WorkloadStep] = [
  .append([LogAppend(vote: PersistentVote(term: 1, vote: 7), records: [])]),
  .append([LogAppend(records: records(1...3))]),
  .append([
    LogAppend(vote: PersistentVote(term: 1, vote: 7, commit: 3), records: records(4...6, bytes: 300)),
    LogAppend(records: records(7...9, bytes: 900)),
    LogAppend(vote: PersistentVote(term: 1, vote: 7, commit: 6), records: records(10...10, bytes: 1_500)),
  ]),
  .append([LogAppend(vote: PersistentVote(term: 2, vote: 8, commit: 6), records: records(8...9, term: 2, bytes: 50))]),
  .append([LogAppend(records: records(10...12, term: 2, bytes: 1_200))]),
  .base(index: 9, term: 2),
  .append([LogAppend(records: records(13...13, term: 2, bytes: 9_000))]),
  .append([LogAppend(records: records(14...18, term: 2, bytes: 600)), LogAppend(records: records(19...20, term: 2))]),
  .base(index: 14, term: 2, isTold: false),
  .base(index: 16, term: 2),
  .append([
    LogAppend(vote: PersistentVote(term: 3, vote: 0, commit: 16), records: records(18...22, term: 3, bytes: 700))
  ]),
  .base(index: 40, term: 4),
  .append([
    LogAppend(vote: PersistentVote(term: 4, vote: 9, commit: 40), records: records(41...44, term: 4, bytes: 800))
  ]),
  .append([LogAppend(records: records(45...52, term: 4, bytes: 500))]),
  .base(index: 50, term: 4),
  .append([LogAppend(vote: PersistentVote(term: 4, vote: 9, commit: 51), records: records(53...54, term: 4))]),
]

/// Steps as a cluster might cause them, from a seed.
private func randomWorkload(_ generator: inout SeededGenerator) -> [WorkloadStep] {
  var model = ModelLog()
  var term: UInt64 = 1
  var steps: [WorkloadStep] = []
  for _ in 0..<Int.random(in: 5...25, using: &generator) {
    let start = model.base.index
    let last = model.last
    if Int.random(in: 0..<5, using: &generator) == 0 { term += 1 }
    let step: WorkloadStep
    switch Int.random(in: 0..<12, using: &generator) {
    case 0 where !model.records.isEmpty:
      let record = model.records.randomElement(using: &generator)!
      step = .base(index: record.index, term: record.term, isTold: Bool.random(using: &generator))
    case 1:
      step = .base(index: last + UInt64.random(in: 1...30, using: &generator), term: term)
    case 2 where !model.records.isEmpty && model.records[0].term < term:
      // A received state that contradicts an entry of the log.
      let index = UInt64.random(in: start + 1...last, using: &generator)
      step = .base(index: index, term: term)
    default:
      var group: [LogAppend] = []
      var end = last
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let rewrites = end > start && Int.random(in: 0..<4, using: &generator) == 0
        let first = rewrites ? UInt64.random(in: start + 1...end, using: &generator) : end + 1
        end = first + UInt64.random(in: 0...6, using: &generator)
        let bytes = [1, 40, 500, 1_300, 5_000].randomElement(using: &generator)!
        let vote = Bool.random(using: &generator) ? PersistentVote(term: term, vote: 3, commit: start) : nil
        if rewrites { term += 1 }
        group.append(LogAppend(vote: vote, records: records(first...end, term: term, bytes: bytes)))
      }
      step = .append(group)
    }
    model.apply(step)
    steps.append(step)
  }
  return steps
}

private let options = LogOptions(segmentBytes: 4_096)
private let directory = "/member"

/// What the log reported durable, and what it may contain beyond: the states after each request that was handed over.
private struct Progress {
  var reported = ModelLog()
  var possible: [ModelLog] = []
}

/// Runs the workload until the end or the power cut.
private func run(
  _ disk: SimulatedDisk, _ steps: [WorkloadStep] = workload, _ options: LogOptions = options
) -> Progress {
  var progress = Progress()
  guard let (log, _) = try? SynchronousLog.open(directory: directory, base: .none, options: options, disk: disk) else {
    progress.possible = [progress.reported]
    return progress
  }
  for step in steps {
    progress.possible = [progress.reported]
    switch step {
    case .append(let requests):
      let count = Counter()
      let counted = requests.map { request in
        LogAppend(vote: request.vote, records: request.records) { count.value += 1 }
      }
      var model = progress.reported
      for request in requests {
        model.apply(request)
        progress.possible.append(model)
      }
      let isDone = (try? log.append(counted)) != nil
      progress.reported = progress.possible[count.value]
      progress.possible.removeFirst(count.value)
      if !isDone { return progress }
    case .base(let index, let term, let isTold):
      // Durable before the log hears of it, so there is no other state from here on.
      progress.reported.apply(step)
      progress.possible = [progress.reported]
      guard isTold else { continue }
      guard (try? log.noteBase(LogBase(index: index, term: term))) != nil else { return progress }
    }
  }
  progress.possible = [progress.reported]
  return progress
}

/// Called in the caller's thread only.
private final class Counter: @unchecked Sendable {
  var value = 0
}

/// Opens the log, checks it against the states that are possible, and then uses it: append, close, open.
private func checkRecovery(_ disk: SimulatedDisk, _ progress: Progress, _ label: String) throws {
  let base = progress.reported.base
  let (log, recovered) = try SynchronousLog.open(directory: directory, base: base, options: options, disk: disk)
  let match = progress.possible.first { $0.matches(recovered) }
  guard var model = match else {
    let found = "recovered \(recovered.records.map(\.index)), \(recovered.vote) behind \(base)"
    let reported = progress.reported
    Issue.record("\(label): \(found); reported \(reported.records.map(\.index)), \(reported.vote)")
    return
  }
  let next = model.last + 1
  let more = LogAppend(
    vote: PersistentVote(term: 9, vote: 1, commit: next), records: records(next...next + 9, term: 9, bytes: 700))
  try log.append([more])
  log.close()
  model.apply(more)
  let (again, second) = try SynchronousLog.open(directory: directory, base: base, options: options, disk: disk)
  #expect(model.matches(second), "\(label): the log is not usable after recovery")
  again.close()
}

@Suite("Simulated crash at every step of the log")
struct CrashSimulationTests {
  @Test("The workload itself rolls segments, voids a log and removes what is stored elsewhere")
  func workloadCoversAll() throws {
    let disk = SimulatedDisk()
    let progress = run(disk)
    #expect(progress.reported.records.map(\.index) == Array(51...54))
    #expect(disk.operations > 80)
    let segments = try disk.list("\(directory)/wal").filter { $0.hasSuffix(".wal") }
    #expect(segments.count >= 2)
    #expect(segments.allSatisfy { !$0.hasPrefix("0000000000000001-") })
    try checkRecovery(disk, progress, "without a crash")
  }

  @Test("Power lost at each operation, un-synced writes lost whole", arguments: [false, true])
  func crashAtEachOperation(tearing: Bool) throws {
    let full = SimulatedDisk()
    _ = run(full)
    let total = full.operations
    for operation in 1...total {
      for seed in 0..<UInt64(tearing ? 12 : 1) {
        let disk = SimulatedDisk()
        disk.crash(atOperation: operation)
        let progress = run(disk)
        var generator = SeededGenerator(seed: seed &* 1_000_003 &+ UInt64(operation))
        disk.losePower(tearing: tearing, generator: &generator)
        do {
          try checkRecovery(disk, progress, "operation \(operation), seed \(seed)")
        } catch {
          Issue.record("operation \(operation), seed \(seed), tearing \(tearing): \(error)")
        }
      }
    }
  }

  @Test("Power lost again during each operation of the recovery")
  func crashDuringRecovery() throws {
    let full = SimulatedDisk()
    _ = run(full)
    for operation in stride(from: 1, through: full.operations, by: 3) {
      for second in 1...14 {
        let disk = SimulatedDisk()
        disk.crash(atOperation: operation)
        let progress = run(disk)
        var generator = SeededGenerator(seed: UInt64(operation * 100 + second))
        disk.losePower(tearing: true, generator: &generator)
        disk.crash(atOperation: second)
        _ = try? SynchronousLog.open(directory: directory, base: progress.reported.base, options: options, disk: disk)
        disk.losePower(tearing: true, generator: &generator)
        do {
          try checkRecovery(disk, progress, "operation \(operation), then \(second)")
        } catch {
          Issue.record("operation \(operation), then \(second): \(error)")
        }
      }
    }
  }

  @Test("The process killed at each operation, then power lost while the next one works: what that one read stays")
  func killedThenPowerLost() throws {
    let full = SimulatedDisk()
    _ = run(full)
    for operation in 1...full.operations {
      for second in 1...14 {
        let disk = SimulatedDisk()
        disk.crash(atOperation: operation)
        var progress = run(disk)
        disk.endProcess()
        disk.crash(atOperation: second)
        goOn(disk, &progress, "operation \(operation), then \(second)")
        var generator = SeededGenerator(seed: UInt64(operation * 100 + second))
        disk.losePower(tearing: true, generator: &generator)
        do {
          try checkRecovery(disk, progress, "operation \(operation), then \(second)")
        } catch {
          Issue.record("operation \(operation), then \(second): \(error)")
        }
      }
    }
  }

  /// Opens the log after its process was killed and appends to it. What was read may have been told to clients.
  private func goOn(_ disk: SimulatedDisk, _ progress: inout Progress, _ label: String) {
    let base = progress.reported.base
    guard
      let (log, recovered) = try? SynchronousLog.open(directory: directory, base: base, options: options, disk: disk)
    else { return }
    guard let model = progress.possible.first(where: { $0.matches(recovered) }) else {
      Issue.record("\(label): the second process read what was never written")
      return
    }
    let next = model.last + 1
    let more = LogAppend(
      vote: PersistentVote(term: 8, vote: 2, commit: 0), records: records(next...next, term: 8, bytes: 40))
    var longer = model
    longer.apply(more)
    progress.reported = model
    progress.possible = (try? log.append([more])) == nil ? [model, longer] : [longer]
  }

  @Test("The simulation is able to notice: a log that leaves out its syncs loses what it reported")
  func noticesMissingSyncs() throws {
    let lazy = LogOptions(segmentBytes: options.segmentBytes, unsafeNoFsync: true)
    let disk = SimulatedDisk()
    disk.crash(atOperation: 12)
    let progress = run(disk, workload, lazy)
    var generator = SeededGenerator(seed: 1)
    disk.losePower(tearing: false, generator: &generator)
    let (_, recovered) = try SynchronousLog.open(
      directory: directory, base: progress.reported.base, options: options, disk: disk)
    #expect(!progress.reported.records.isEmpty)
    #expect(!progress.possible.contains { $0.matches(recovered) })
  }

  @Test("Random workloads, power lost at a random operation", arguments: 0..<4)
  func randomWorkloads(block: UInt64) throws {
    for seed in block * 100..<(block + 1) * 100 {
      var generator = SeededGenerator(seed: seed)
      let steps = randomWorkload(&generator)
      let full = SimulatedDisk()
      _ = run(full, steps)
      for _ in 0..<3 { try crashOnce(steps, operations: full.operations, "seed \(seed)", &generator) }
    }
  }

  private func crashOnce(
    _ steps: [WorkloadStep], operations: Int, _ label: String, _ generator: inout SeededGenerator
  ) throws {
    let disk = SimulatedDisk()
    disk.crash(atOperation: Int.random(in: 1...operations, using: &generator))
    let progress = run(disk, steps)
    disk.losePower(tearing: true, generator: &generator)
    if Bool.random(using: &generator) {
      disk.crash(atOperation: Int.random(in: 1...12, using: &generator))
      _ = try? SynchronousLog.open(directory: directory, base: progress.reported.base, options: options, disk: disk)
      disk.losePower(tearing: true, generator: &generator)
    }
    do {
      try checkRecovery(disk, progress, label)
    } catch {
      Issue.record("\(label): \(error)")
    }
  }
}
