import Keyspace
import PeerProtocol
import Primitives
import Raft
import StateMachine

// What was committed becomes state, and answers.

extension MemberCore {
  /// Applies what the output says is committed, in order, and collects the answers. Events are appended to `events`.
  /// Answers whether anything but the lease clock has changed.
  package mutating func apply(to machine: inout StateMachine, events: inout [KeyspaceEvent]) -> Bool {
    var hasChanged = false
    var results: [CommandResult] = []
    for entry in output.raft.commit {
      if entry.term > applied.term { loseBefore(entry.term) }
      let flight = inFlight.removeValue(forKey: entry.index)
      let own = flight?.term == entry.term ? flight : nil
      if let flight, own == nil { lose(flight) }
      applied.index = entry.index
      applied.term = entry.term
      if case .membership(let membership, _) = entry.payload {
        machine.applyMembership(membership.encodedBytes)
        output.membersChanged = true
      }
      guard let batch = own?.batch ?? Self.batch(of: entry) else {
        machine.skip(index: entry.index, term: entry.term)
        continue
      }
      applied.stampTerm = entry.term
      results.removeAll(keepingCapacity: true)
      machine.apply(batch, index: entry.index, term: entry.term, results: &results, events: &events)
      for place in batch.commands.indices { note(batch.commands[place], results, at: place, machine, &hasChanged) }
      if !batch.origins.isEmpty { answerOwn(batch.origins, results) }
      if let own { answer(own, results) }
    }
    applied.clock = machine.clock
    noteCheckpoint(of: machine)
    chores.nextExpiryCheck = min(chores.nextExpiryCheck, chores.soonestExpiryCheck)
    return hasChanged
  }

  private mutating func noteCheckpoint(of machine: borrowing StateMachine) {
    guard let latest = machine.latestCheckpoint, latest.index != hashes.own?.index else { return }
    hashes.noteOwn(machine.hash.checkpoints)
  }

  /// The commands of an entry; nil for one that has none.
  package static func batch(of entry: Entry) -> CommandBatch? {
    let bytes: [UInt8]
    switch entry.payload {
    case .empty: return nil
    case .command(let command), .membership(_, let command): bytes = command
    }
    if bytes.isEmpty { return nil }
    do {
      return try CommandBatch(decoding: bytes[...])
    } catch {
      fatalError("log entry \(entry.index) passed its checksum but cannot be understood: \(error)")
    }
  }

  /// What an applied command means to the member itself.
  private mutating func note(
    _ command: Command, _ results: [CommandResult], at place: Int, _ machine: borrowing StateMachine,
    _ hasChanged: inout Bool
  ) {
    switch command {
    case .tick: return
    case .authored(_, let inner): return note(inner, results, at: place, machine, &hasChanged)
    case .auth(let change): note(change, results[place])
    case .alarm(.deactivate, _): output.alarmIsSettled = true
    case .member:
      output.membersChanged = true
      if machine.cluster.removedMembers.contains(memberID) { output.notices.append(.removed) }
    default: break
    }
    hasChanged = true
  }

  private mutating func note(_ change: AuthCommand, _ result: CommandResult) {
    if case .refused = result { return }
    if case .authenticate(let user, _, let prefix) = change {
      guard !prefix.isEmpty else { return }
      return output.tokenChanges.append(.issued(prefix: prefix, index: applied.index, user: user))
    }
    output.authChanged = true
    switch change {
    case .deleteUser(let user), .changePassword(let user, _): output.tokenChanges.append(.revoked(user: user))
    case .disable: output.tokenChanges.append(.cleared)
    default: break
    }
  }

  private mutating func answer(_ flight: Flight, _ results: [CommandResult]) {
    inFlightCount -= flight.parts.count
    var next = 0
    for part in flight.parts {
      switch part.source {
      case .local(let ticket)?:
        output.answers.append((ticket, .success(Array(results[next..<next + part.commandCount]))))
      case .upkeep(let kind)?: finish(kind)
      case .forwarded?, nil: break
      }
      next += part.commandCount
    }
  }

  /// Whose callers wait at this member for their share of another leader's entry.
  private mutating func answerOwn(_ origins: [ForwardedPart], _ results: [CommandResult]) {
    var next = 0
    for part in origins {
      defer { next += part.commandCount }
      guard part.origin.memberID == memberID, let proposal = forwards.take(part.origin) else { continue }
      switch proposal.source {
      case .local(let ticket):
        output.answers.append((ticket, .success(Array(results[next..<next + part.commandCount]))))
      case .upkeep(let kind): finish(kind)
      case .forwarded: break
      }
    }
  }

  /// A state that another member has sent has taken the place of this one's.
  package mutating func replaced(by machine: borrowing StateMachine, at now: MonotonicTime) {
    let term = machine.appliedTerm
    applied = AppliedMark(machine)
    hashes.forgetOwn()
    noteCheckpoint(of: machine)
    tail = LogTail(keptEntries: settings.keptEntries)
    output.membersChanged = true
    output.authChanged = true
    output.tokenChanges.append(.cleared)
    // Which of the entries that the state covers were this member's, nobody can tell any more.
    for index in inFlight.keys.filter({ $0 <= applied.index }).sorted() { giveUp(inFlight.removeValue(forKey: index)!) }
    for proposal in forwards.takeAll() { refuse(proposal, .timedOutByLeaderFailure) }
    loseBefore(term)
    chores.nextExpiryCheck = now
  }

  /// The callers hear that nobody knows.
  private mutating func giveUp(_ flight: Flight) {
    inFlightCount -= flight.parts.count
    for part in flight.parts {
      switch part.source {
      case .local(let ticket)?: output.answers.append((ticket, .failure(.timedOutByLeaderFailure)))
      case .upkeep(let kind)?: finish(kind)
      case .forwarded?, nil: break
      }
    }
  }
}
