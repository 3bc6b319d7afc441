import Keyspace
import Logging
import NIOCore
import Primitives
import Raft
import StateMachine
import Storage

/// The raft thread: takes everything that has arrived, steps the core, hands entries to the log thread, applies what is
/// committed and answers. One turn handles one batch, whatever its size: one append, one hop per event loop.
///
/// Owned by its thread; only `inbox`, `applied` and the published values are shared.
final class NodeLoop {
  /// How far expiry looks ahead at most when there is nothing to do.
  static let idleMilliseconds: Int64 = 1_000
  /// Leases are looked at this often at most (the tick of "late by at most tick + commit"), unless more are due than one
  /// command takes.
  static let leaseTickMilliseconds: Int64 = 100

  /// A few puts' worth.
  private static let maxBytesWrittenHere = 1_024

  let inbox: Mailbox<NodeEvent>
  let applied: AppliedState
  let backlog: ProposalBacklog
  let published: PublishedStatus
  let memberID: NodeID
  let quota: SpaceQuota
  let writer: EngineWriter
  let configuration: NodeConfiguration
  let logger: Logger
  private let log: WriteAheadLog

  var raft: RaftCore
  var clock = LeaderClock()
  var lastStampAt: MonotonicTime
  var expiryInFlight = false
  var alarmInFlight = false
  var nextExpiryCheck: MonotonicTime
  var nextWheelTurn: MonotonicTime
  private var busy = BusyRatio(openedAt: .now)

  /// Proposals that wait for a leadership to become ready, or for the engine.
  var waiting: [Proposal] = []
  /// What was proposed here and is not applied yet, by log index: answers and the decoded commands.
  var inFlight: [LogIndex: InFlight] = [:]
  /// Proposals in `inFlight`.
  var inFlightCount = 0
  var barriers: [UInt64: [Barrier]] = [:]
  private var nextBarrierContext: UInt64 = 1
  var completions = Completions()
  var stopRequests: [@Sendable () -> Void] = []

  struct InFlight {
    var term: Term
    var batch: CommandBatch
    var proposals: [(waiter: Waiter?, commandCount: Int)]
  }

  struct Barrier {
    var eventLoop: any EventLoop
    var completion: @Sendable (Result<Void, ProposalError>) -> Void
    /// Set once the leader has confirmed the read; the answer waits until this index is applied.
    var index: LogIndex?
  }

  init(
    raft: RaftCore, log: WriteAheadLog, applied: AppliedState, writer: EngineWriter, quota: SpaceQuota,
    inbox: Mailbox<NodeEvent>, backlog: ProposalBacklog, published: PublishedStatus, configuration: NodeConfiguration,
    logger: Logger
  ) {
    self.raft = raft
    self.log = log
    self.applied = applied
    self.writer = writer
    self.quota = quota
    memberID = raft.configuration.id
    self.inbox = inbox
    self.backlog = backlog
    self.published = published
    self.configuration = configuration
    self.logger = logger
    lastStampAt = .now
    nextExpiryCheck = .now
    nextWheelTurn = .now
  }

  // MARK: The turn

  func run() {
    var events: [NodeEvent] = []
    while stopRequests.isEmpty {
      events.removeAll(keepingCapacity: true)
      events = inbox.takeAll(until: nextWake, spare: events)
      turn(events, at: .now)
    }
    shutDown()
  }

  private var nextWake: MonotonicTime {
    var wake = MonotonicTime.now.advanced(byMilliseconds: Self.idleMilliseconds)
    // Compared in milliseconds: a sole voter that leads has no deadline at all.
    if raft.nextDeadline.milliseconds < wake.milliseconds {
      wake = MonotonicTime(nanoseconds: raft.nextDeadline.milliseconds * 1_000_000)
    }
    // While expiries are on their way, what wakes the loop is that they have come to the disk.
    return clock.isRunning && !expiryInFlight ? min(wake, nextExpiryCheck) : wake
  }

  private func turn(_ events: [NodeEvent], at now: MonotonicTime) {
    var output = Output()
    var proposals = waiting
    waiting.removeAll(keepingCapacity: true)
    var wantsBarrier = false
    var quotaExceeded = false
    for event in events {
      switch event {
      case .proposal(let proposal): proposals.append(proposal)
      case .readBarrier(let loop, let completion):
        barriers[nextBarrierContext, default: []].append(Barrier(eventLoop: loop, completion: completion))
        wantsBarrier = true
      case .persisted(let index, let term):
        step(.persisted(index: index, term: term), at: now, &output)
      case .engineCommitted(let base):
        log.noteBase(base)
        step(.compact(through: base.index), at: now, &output)
      case .engineBlocked: break
      case .quotaExceeded: quotaExceeded = true
      case .stop(let done): stopRequests.append(done)
      }
    }
    if wantsBarrier {
      step(.readIndex(context: nextBarrierContext), at: now, &output)
      nextBarrierContext += 1
    }
    if now.milliseconds >= raft.nextDeadline.milliseconds { step(.tick, at: now, &output) }
    propose(proposals, at: now, &output)
    if quotaExceeded { raiseAlarm(at: now, &output) }
    proposeUpkeep(at: now, &output)
    carryOut(&output, at: now)
    published.observe(busyRatio: busy.note(from: now, to: .now))
  }

  func step(_ event: Event, at now: MonotonicTime, _ output: inout Output) {
    raft.step(event, at: Instant(milliseconds: now.milliseconds), into: &output)
  }

  // MARK: Output

  private func carryOut(_ output: inout Output, at now: MonotonicTime) {
    persist(output.persist)
    if let last = output.commit.last {
      apply(output.commit, at: now)
      step(.applied(last.index), at: now, &output)
    }
    followLeadership(at: now)
    for (context, index) in output.readStates { confirmBarriers(context, at: index) }
    for context in output.refusedReads { refuseBarriers(context) }
    answerBarriers()
    completions.deliver()
    published.update(raft: raft, clock: clock, pending: inFlightCount + backlog.count)
  }

  private func persist(_ persist: Output.Persist) {
    guard persist.hardState != nil || !persist.entries.isEmpty else { return }
    let inbox = inbox
    let last = persist.entries.last.map { (index: $0.index, term: $0.term) }
    let request = LogAppend(
      vote: persist.hardState.map { PersistentVote(term: $0.term, vote: $0.vote, commit: $0.commit) },
      records: persist.entries.map(LogRecord.init(entry:)),
      completion: {
        if let last { inbox.post(.persisted(index: last.index, term: last.term)) }
      })
    if isWrittenHere(persist.entries) { log.appendInPlace(request) } else { log.append(request) }
  }

  /// Whether this thread may wait for the disk: with other members, heartbeats would wait too; and behind a large batch
  /// the next one is better prepared while the disk is busy.
  private func isWrittenHere(_ entries: [Entry]) -> Bool {
    guard raft.configuration.voters.count == 1 else { return false }
    return entries.reduce(0) { $0 + $1.payloadBytes } <= Self.maxBytesWrittenHere
  }

  private func apply(_ entries: [Entry], at now: MonotonicTime) {
    var answers: [(Waiter, ProposalResult)] = []
    var pending = CommitSchedule.Pending.clockOnly
    let start = MonotonicTime.now
    let recentBytes = applied.withLock { contents in
      var events: [KeyspaceEvent] = []
      var results: [CommandResult] = []
      for entry in entries {
        let flight = inFlight.removeValue(forKey: entry.index)
        guard case .command(let payload) = entry.payload else {
          contents.machine.skip(index: entry.index, term: entry.term)
          continue
        }
        let own = flight?.term == entry.term ? flight : nil
        let batch = own?.batch ?? Self.decode(payload, index: entry.index)
        results.removeAll(keepingCapacity: true)
        contents.machine.apply(batch, index: entry.index, term: entry.term, results: &results, events: &events)
        for command in batch.commands { follow(command, &pending) }
        if let own { collect(results, for: own, into: &answers) }
        if let flight, own == nil { lose(flight) }
      }
      contents.watches.publish(
        events, revision: contents.machine.keyspace.revision,
        compactRevision: contents.machine.keyspace.compactRevision)
      quota.note(usedBytes: contents.machine.quotaBytes)
      return contents.machine.uncommittedBytes
    }
    writer.note(pending, recentBytes: recentBytes)
    for (waiter, result) in answers { completions.add(waiter, result) }
    published.observe(applied: entries.count, from: start, to: .now)
    nextExpiryCheck = min(nextExpiryCheck, now.advanced(byMilliseconds: Self.leaseTickMilliseconds))
  }

  /// What an applied command means to the loop itself.
  private func follow(_ command: Command, _ pending: inout CommitSchedule.Pending) {
    switch command {
    case .tick: return
    case .leaseExpire: expiryInFlight = false
    case .alarm(let action, _):
      alarmInFlight = false
      if action == .deactivate { quota.releaseAlarm() }
    default: break
    }
    pending = .changes
  }

  private static func decode(_ payload: [UInt8], index: LogIndex) -> CommandBatch {
    do {
      return try CommandBatch(decoding: payload[...])
    } catch {
      fatalError("log entry \(index) passed its checksum but cannot be understood: \(error)")
    }
  }

  private func collect(_ results: [CommandResult], for flight: InFlight, into answers: inout [(Waiter, ProposalResult)])
  {
    inFlightCount -= flight.proposals.count
    var next = 0
    for (waiter, commandCount) in flight.proposals {
      if let waiter { answers.append((waiter, .success(Array(results[next..<next + commandCount])))) }
      next += commandCount
    }
  }

  /// Another leader's entry took the place of ours.
  private func lose(_ flight: InFlight) {
    inFlightCount -= flight.proposals.count
    for (waiter, _) in flight.proposals {
      if let waiter { completions.add(waiter, .failure(.leaderChanged)) }
    }
  }

  private func followLeadership(at now: MonotonicTime) {
    if raft.isLeader, !clock.isRunning {
      let (term, stamped) = applied.withLock { ($0.machine.appliedTerm, $0.machine.clock) }
      guard term == raft.term else { return }
      clock.start(from: stamped, at: now)
      lastStampAt = now
      nextExpiryCheck = now
      logger.info("leading", metadata: ["term": "\(raft.term)", "lease-clock": "\(stamped)"])
    } else if !raft.isLeader, clock.isRunning {
      clock.stop(at: applied.withLock { $0.machine.clock })
      expiryInFlight = false
      alarmInFlight = false
      for flight in inFlight.values { lose(flight) }
      inFlight.removeAll()
    }
  }

  // MARK: The end

  private func shutDown() {
    for proposal in waiting { refuse(proposal, .stopped) }
    for flight in inFlight.values {
      for (waiter, _) in flight.proposals {
        if let waiter { completions.add(waiter, .failure(.stopped)) }
      }
    }
    for group in barriers.values {
      for barrier in group { barrier.eventLoop.execute { barrier.completion(.failure(.stopped)) } }
    }
    completions.deliver()
    log.close()
    for done in stopRequests { done() }
  }
}

extension RaftCore {
  var isLeader: Bool {
    if case .leader = role { true } else { false }
  }
}
