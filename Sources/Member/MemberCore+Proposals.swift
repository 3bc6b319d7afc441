import PeerProtocol
import Primitives
import Raft
import StateMachine

// From a caller's commands to an entry of the log, on this member or through the leader.

extension MemberCore {
  mutating func enqueue(_ proposal: Proposal) {
    if proposal.changesMembers { memberChanges.append(proposal) } else { waiting.append(proposal) }
  }

  /// Whether proposals can move: not while a leadership begins or is handed over.
  private var route: Route {
    if raft.transferTarget != nil { return .wait }
    if isLeader { return clock.isRunning ? .append : .wait }
    return raft.leader.map { .forward(to: $0) } ?? .wait
  }

  private enum Route { case append, forward(to: NodeID), wait }

  mutating func propose(at now: MonotonicTime, _ load: StoreLoad) {
    switch route {
    case .wait: return
    case .forward(let leader):
      for proposal in takeWaiting() { forward(proposal, to: leader, at: now) }
      let changes = memberChanges
      memberChanges = []
      for proposal in changes { forward(proposal, to: leader, at: now) }
    case .append:
      if load.isFull {
        // They wait for the engine, and the shell's limit refuses what comes behind them; unless the disk has no room,
        // which may last.
        if load.isBlocked { for proposal in takeWaiting() { refuse(proposal, .tooManyRequests) } }
        return
      }
      appendWaiting(at: now)
    }
  }

  private mutating func takeWaiting() -> [Proposal] {
    let proposals = waiting
    waiting = []
    return proposals
  }

  private mutating func appendWaiting(at now: MonotonicTime) {
    guard !waiting.isEmpty else { return }
    let proposals = takeWaiting()
    var start = 0
    while start < proposals.count {
      var end = start
      var bytes = 0
      while end < proposals.count, end == start || bytes + proposals[end].bytes <= Limits.maxEntryBytes {
        bytes += proposals[end].bytes
        end += 1
      }
      append(proposals[start..<end], at: now)
      start = end
    }
  }

  private mutating func append(_ proposals: ArraySlice<Proposal>, at now: MonotonicTime) {
    var batch = CommandBatch(clock: clock.read(at: now), commands: [])
    var parts: [Flight.Part] = []
    parts.reserveCapacity(proposals.count)
    // Those of other members come first: the entry names them, and their share of the results is found by counting.
    for proposal in proposals {
      guard case .forwarded(let origin, let term) = proposal.source, term == raft.term else { continue }
      batch.origins.append(ForwardedPart(origin: origin, commandCount: proposal.commands.count))
      batch.commands.append(contentsOf: proposal.commands)
      parts.append(Flight.Part(source: nil, commandCount: proposal.commands.count, deadline: proposal.deadline))
    }
    for proposal in proposals {
      if case .forwarded = proposal.source { continue }
      batch.commands.append(contentsOf: proposal.commands)
      parts.append(
        Flight.Part(source: proposal.source, commandCount: proposal.commands.count, deadline: proposal.deadline))
    }
    guard !batch.commands.isEmpty else { return }
    if submit(batch, parts, at: now) { return }
    for proposal in proposals {
      // Leadership may have gone in this very turn: then they wait for the next leader.
      if isLeader { refuse(proposal, .tooManyRequests) } else { enqueue(proposal) }
    }
  }

  mutating func submit(_ batch: CommandBatch, _ parts: [Flight.Part], at now: MonotonicTime) -> Bool {
    output.raft.accepted = nil
    step(.propose([batch.encoded()]), at: now)
    guard let (index, term) = output.raft.accepted else { return false }
    noteFlight(at: index, Flight(term: term, batch: batch, parts: parts), at: now)
    return true
  }

  mutating func noteFlight(at index: LogIndex, _ flight: Flight, at now: MonotonicTime) {
    inFlight[index] = flight
    inFlightCount += flight.parts.count
    chores.lastStampAt = now
  }

  /// It has not happened and will not.
  mutating func refuse(_ proposal: Proposal, _ error: ProposalError) {
    switch proposal.source {
    case .local(let ticket): output.answers.append((ticket, .failure(error)))
    case .forwarded(let origin, _):
      output.messages.append(
        (origin.memberID, .forwardRefused(sequence: origin.sequence, reason: ForwardRefusal(error))))
    case .upkeep(let kind): finish(kind)
    }
  }

  // MARK: Through the leader

  private mutating func forward(_ proposal: Proposal, to leader: NodeID, at now: MonotonicTime) {
    // Handed on once: what came from another member waits there.
    if case .forwarded = proposal.source { return }
    let sequence = forwards.add(proposal, term: raft.term, at: now)
    send(sequence, proposal, to: leader)
  }

  private mutating func send(_ sequence: UInt64, _ proposal: Proposal, to leader: NodeID) {
    let forwarded = ForwardedProposal(
      origin: forwards.origin(sequence, member: memberID), term: raft.term, commands: proposal.commands)
    output.messages.append((leader, .forward(forwarded)))
  }

  mutating func resendForwards(at now: MonotonicTime) {
    guard !isLeader, let leader = raft.leader else { return }
    let moment = now.advanced(byMilliseconds: -Chores.resendMilliseconds)
    for (sequence, proposal) in forwards.due(term: raft.term, sentBefore: moment, now: now) {
      send(sequence, proposal, to: leader)
    }
  }

  mutating func receive(_ forwarded: ForwardedProposal, at now: MonotonicTime) {
    // Of another term: the sender learns from the log what became of it.
    guard forwarded.term == raft.term, isLeader else { return }
    intake.begin(term: raft.term)
    guard intake.takes(forwarded.origin) else { return }
    let bytes = forwarded.commands.reduce(0) { $0 + $1.approximateBytes }
    enqueue(
      Proposal(
        commands: forwarded.commands, bytes: bytes, source: .forwarded(forwarded.origin, term: forwarded.term),
        deadline: now.advanced(byMilliseconds: settings.requestTimeoutMilliseconds)))
  }

  mutating func receiveRefusal(of sequence: UInt64, _ reason: ForwardRefusal) {
    guard let proposal = forwards.take(sequence) else { return }
    // Whoever leads now may take it.
    if reason == .notLeader { enqueue(proposal) } else { refuse(proposal, reason.error) }
  }

  // MARK: Time and leaders pass

  /// An entry of `term` has been applied: what was proposed under earlier terms and has not been applied is lost, and is
  /// proposed again. What came from other members they propose again themselves.
  mutating func loseBefore(_ term: Term) {
    for index in inFlight.keys.filter({ inFlight[$0]!.term < term }).sorted() {
      lose(inFlight.removeValue(forKey: index)!)
    }
    for proposal in forwards.takeLost(before: term) { enqueue(proposal) }
    waiting.removeAll { $0.isForwarded(before: term) }
    memberChanges.removeAll { $0.isForwarded(before: term) }
  }

  mutating func lose(_ flight: Flight) {
    inFlightCount -= flight.parts.count
    var start = 0
    for part in flight.parts {
      let commands = flight.batch.commands[start..<start + part.commandCount]
      start += part.commandCount
      switch part.source {
      case .local?:
        let bytes = commands.reduce(0) { $0 + $1.approximateBytes }
        enqueue(Proposal(commands: Array(commands), bytes: bytes, source: part.source!, deadline: part.deadline))
      case .upkeep(let kind)?: finish(kind)
      case .forwarded?, nil: break
      }
    }
  }

  mutating func timeOutProposals(at now: MonotonicTime) {
    for proposal in waiting where proposal.deadline <= now { timeOut(proposal) }
    waiting.removeAll { $0.deadline <= now }
    for proposal in memberChanges where proposal.deadline <= now { timeOut(proposal) }
    memberChanges.removeAll { $0.deadline <= now }
    for proposal in forwards.takeExpired(at: now) { timeOut(proposal) }
    for index in inFlight.keys {
      for position in inFlight[index]!.parts.indices where inFlight[index]!.parts[position].deadline <= now {
        // It may be committed yet; only nobody waits for it any more.
        guard case .local(let ticket)? = inFlight[index]!.parts[position].source else { continue }
        inFlight[index]!.parts[position].source = nil
        output.answers.append((ticket, .failure(.timedOut)))
      }
    }
  }

  private mutating func timeOut(_ proposal: Proposal) { refuse(proposal, .timedOut) }
}

extension Proposal {
  fileprivate func isForwarded(before term: UInt64) -> Bool {
    if case .forwarded(_, let sent) = source { sent < term } else { false }
  }
}

extension ForwardRefusal {
  init(_ error: ProposalError) {
    switch error {
    case .tooManyRequests: self = .tooManyRequests
    case .requestTooLarge: self = .requestTooLarge
    case .noSpace: self = .noSpace
    case .membership(.notEnoughStartedMembers): self = .notEnoughStartedMembers
    case .membership(.unhealthy): self = .unhealthy
    case .membership(.learnerNotReady): self = .learnerNotReady
    case .corrupt: self = .corrupt
    case .timedOut, .timedOutByLeaderFailure: self = .timedOut
    case .noLeader, .notLeader, .badLeaderTransferee, .stopped: self = .notLeader
    }
  }

  var error: ProposalError {
    switch self {
    case .notLeader: .notLeader
    case .tooManyRequests: .tooManyRequests
    case .requestTooLarge: .requestTooLarge
    case .noSpace: .noSpace
    case .notEnoughStartedMembers: .membership(.notEnoughStartedMembers)
    case .unhealthy: .membership(.unhealthy)
    case .learnerNotReady: .membership(.learnerNotReady)
    case .corrupt: .corrupt
    case .timedOut: .timedOut
    }
  }
}
