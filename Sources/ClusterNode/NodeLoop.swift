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
  private static let idleMilliseconds: Int64 = 1_000
  /// Leases are looked at this often at most: the tick of "late by at most tick + commit".
  private static let leaseTickMilliseconds: Int64 = 100

  private static let compactedKeysPerCheck = 2_000
  /// A few puts' worth.
  private static let maxBytesWrittenHere = 1_024

  let inbox: Mailbox<NodeEvent>
  let applied: AppliedState
  let backlog: ProposalBacklog
  let published: PublishedStatus

  private var raft: RaftCore
  private let log: WriteAheadLog
  private let configuration: NodeConfiguration
  private let logger: Logger

  private var clock = LeaderClock()
  private var lastStampAt: MonotonicTime
  private var expiryInFlight = false
  private var nextExpiryCheck: MonotonicTime
  private var snapshotInFlight = false

  /// Proposals that wait for a leadership to become ready.
  private var waiting: [Proposal] = []
  /// What was proposed here and is not applied yet, by log index: answers and the decoded commands.
  private var inFlight: [LogIndex: InFlight] = [:]
  private var barriers: [UInt64: [Barrier]] = [:]
  private var nextBarrierContext: UInt64 = 1
  private var completions = Completions()
  private var stopRequests: [@Sendable () -> Void] = []

  private struct InFlight {
    var term: Term
    var batch: CommandBatch
    var proposals: [(waiter: Waiter?, commandCount: Int)]
  }

  private struct Barrier {
    var eventLoop: any EventLoop
    var completion: @Sendable (Result<Void, ProposalError>) -> Void
    /// Set once the leader has confirmed the read; the answer waits until this index is applied.
    var index: LogIndex?
  }

  init(
    raft: RaftCore, log: WriteAheadLog, applied: AppliedState, inbox: Mailbox<NodeEvent>, backlog: ProposalBacklog,
    published: PublishedStatus, configuration: NodeConfiguration, logger: Logger
  ) {
    self.raft = raft
    self.log = log
    self.applied = applied
    self.inbox = inbox
    self.backlog = backlog
    self.published = published
    self.configuration = configuration
    self.logger = logger
    lastStampAt = .now
    nextExpiryCheck = .now
  }

  // MARK: The turn

  func run() {
    var events: [NodeEvent] = []
    while stopRequests.isEmpty {
      events.removeAll(keepingCapacity: true)
      events = inbox.takeAll(until: nextWake, spare: events)
      turn(events)
    }
    shutDown()
  }

  private var nextWake: MonotonicTime {
    var wake = MonotonicTime.now.advanced(byMilliseconds: Self.idleMilliseconds)
    // Compared in milliseconds: a sole voter that leads has no deadline at all.
    if raft.nextDeadline.milliseconds < wake.milliseconds {
      wake = MonotonicTime(nanoseconds: raft.nextDeadline.milliseconds * 1_000_000)
    }
    return clock.isRunning ? min(wake, nextExpiryCheck) : wake
  }

  private func turn(_ events: [NodeEvent]) {
    let now = MonotonicTime.now
    var output = Output()
    var proposals = waiting
    waiting.removeAll(keepingCapacity: true)
    var wantsBarrier = false
    for event in events {
      switch event {
      case .proposal(let proposal): proposals.append(proposal)
      case .readBarrier(let loop, let completion):
        barriers[nextBarrierContext, default: []].append(Barrier(eventLoop: loop, completion: completion))
        wantsBarrier = true
      case .persisted(let index, let term):
        step(.persisted(index: index, term: term), at: now, &output)
      case .snapshotStored(let index):
        snapshotInFlight = false
        step(.compact(through: index), at: now, &output)
      case .stop(let done): stopRequests.append(done)
      }
    }
    if wantsBarrier {
      step(.readIndex(context: nextBarrierContext), at: now, &output)
      nextBarrierContext += 1
    }
    if now.milliseconds >= raft.nextDeadline.milliseconds { step(.tick, at: now, &output) }
    propose(proposals, at: now, &output)
    proposeUpkeep(at: now, &output)
    carryOut(&output, at: now)
  }

  private func step(_ event: Event, at now: MonotonicTime, _ output: inout Output) {
    raft.step(event, at: Instant(milliseconds: now.milliseconds), into: &output)
  }

  // MARK: Proposals

  private func propose(_ proposals: [Proposal], at now: MonotonicTime, _ output: inout Output) {
    guard !proposals.isEmpty else { return }
    guard clock.isRunning else {
      // Without a leader, or before this one is ready, they wait: the caller's own deadline bounds it.
      if raft.isLeader || raft.leader == nil {
        waiting = proposals
      } else {
        for proposal in proposals { refuse(proposal, .notLeader) }
      }
      return
    }
    var start = 0
    while start < proposals.count {
      var end = start
      var bytes = 0
      while end < proposals.count, end == start || bytes + proposals[end].bytes <= Limits.maxEntryBytes {
        bytes += proposals[end].bytes
        end += 1
      }
      append(proposals[start..<end], at: now, &output)
      start = end
    }
  }

  private func append(_ proposals: ArraySlice<Proposal>, at now: MonotonicTime, _ output: inout Output) {
    var batch = CommandBatch(clock: clock.read(at: now), commands: [])
    for proposal in proposals { batch.commands.append(contentsOf: proposal.commands) }
    if submit(batch, proposals.map { (waiter: $0.waiter, commandCount: $0.commands.count) }, at: now, &output) {
      backlog.release(count: proposals.count, bytes: proposals.reduce(0) { $0 + $1.bytes })
    } else {
      for proposal in proposals { refuse(proposal, raft.isLeader ? .tooManyRequests : .notLeader) }
    }
  }

  private func submit(
    _ batch: CommandBatch, _ proposals: [(waiter: Waiter?, commandCount: Int)], at now: MonotonicTime,
    _ output: inout Output
  ) -> Bool {
    output.accepted = nil
    step(.propose([batch.encoded()]), at: now, &output)
    guard let (index, term) = output.accepted else { return false }
    inFlight[index] = InFlight(term: term, batch: batch, proposals: proposals)
    lastStampAt = now
    return true
  }

  private func refuse(_ proposal: Proposal, _ error: ProposalError) {
    backlog.release(count: 1, bytes: proposal.bytes)
    completions.add(proposal.waiter, .failure(error))
  }

  /// Expiries that are due, and the stamp that keeps an idle leader's clock from being forgotten.
  private func proposeUpkeep(at now: MonotonicTime, _ output: inout Output) {
    guard clock.isRunning, stopRequests.isEmpty else { return }
    let leaseTime = clock.read(at: now)
    if !expiryInFlight, now >= nextExpiryCheck {
      let passed = clock.latestPassedDeadline(at: now)
      let (due, next) = applied.withLock { contents -> ([LeaseID], LeaseClock?) in
        // Without traffic nothing else brings far deadlines near, or gives compacted versions back.
        contents.machine.turnWheel(to: leaseTime)
        contents.machine.advanceCompaction(maxKeys: Self.compactedKeysPerCheck)
        return (contents.machine.dueLeases(at: passed), contents.machine.leases.nextDeadline)
      }
      if !due.isEmpty {
        published.observe(expiryBatch: due.count)
        expiryInFlight = submit(
          CommandBatch(clock: leaseTime, commands: [.leaseExpire(ids: due)]), [(nil, 1)], at: now, &output)
      }
      nextExpiryCheck = nextCheck(after: next, at: now)
    }
    let idle = Limits.leaseClockPersistIntervalMilliseconds
    if now >= lastStampAt.advanced(byMilliseconds: idle), applied.withLock({ $0.machine.leases.count > 0 }) {
      _ = submit(CommandBatch(clock: leaseTime, commands: [.tick]), [(nil, 1)], at: now, &output)
    }
  }

  private func nextCheck(after deadline: LeaseClock?, at now: MonotonicTime) -> MonotonicTime {
    let soonest = now.advanced(byMilliseconds: Self.leaseTickMilliseconds)
    guard let deadline, let moment = clock.end(of: deadline) else { return soonest }
    // A grant made meanwhile may end earlier than all that were known, hence never further ahead than the shortest TTL.
    return max(soonest, min(moment, now.advanced(byMilliseconds: Self.idleMilliseconds)))
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
    published.update(raft: raft, clock: clock)
    storeSnapshotIfDue()
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
    applied.withLock { contents in
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
        if batch.commands.contains(where: \.isExpiry) { expiryInFlight = false }
        if let own { collect(results, for: own, into: &answers) }
        if let flight, own == nil { lose(flight) }
      }
      contents.watches.publish(events, revision: contents.machine.keyspace.revision)
    }
    for (waiter, result) in answers { completions.add(waiter, result) }
    published.observe(applied: entries.count)
    nextExpiryCheck = min(nextExpiryCheck, now.advanced(byMilliseconds: Self.leaseTickMilliseconds))
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
    var next = 0
    for (waiter, commandCount) in flight.proposals {
      if let waiter { answers.append((waiter, .success(Array(results[next..<next + commandCount])))) }
      next += commandCount
    }
  }

  /// Another leader's entry took the place of ours.
  private func lose(_ flight: InFlight) {
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
      for flight in inFlight.values { lose(flight) }
      inFlight.removeAll()
    }
  }

  // MARK: Reads

  private func confirmBarriers(_ context: UInt64, at index: LogIndex) {
    guard let confirmed = barriers[context] else { return }
    barriers[context] = confirmed.map { Barrier(eventLoop: $0.eventLoop, completion: $0.completion, index: index) }
  }

  private func refuseBarriers(_ context: UInt64) {
    for barrier in barriers.removeValue(forKey: context) ?? [] {
      barrier.eventLoop.execute { barrier.completion(.failure(.noLeader)) }
    }
  }

  private func answerBarriers() {
    guard !barriers.isEmpty else { return }
    let appliedIndex = applied.withLock { $0.machine.appliedIndex }
    for (context, group) in barriers where group.allSatisfy({ ($0.index ?? .max) <= appliedIndex }) {
      barriers[context] = nil
      for barrier in group { barrier.eventLoop.execute { barrier.completion(.success(())) } }
    }
  }

  // MARK: Snapshots and the end

  /// Copies the state (a value: the copy shares its storage) and lets a background thread write it out.
  private func storeSnapshotIfDue() {
    guard !snapshotInFlight, log.totalBytes >= configuration.snapshotAfterLogBytes else { return }
    let machine = applied.withLock { $0.machine }
    guard machine.appliedIndex > 0 else { return }
    snapshotInFlight = true
    let inbox = inbox
    let index = machine.appliedIndex
    log.installSnapshot(index: index, term: machine.appliedTerm, encoding: { machine.encoded() }) {
      inbox.post(.snapshotStored(index: index))
    }
  }

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

extension Command {
  var isExpiry: Bool {
    if case .leaseExpire = self { true } else { false }
  }
}
