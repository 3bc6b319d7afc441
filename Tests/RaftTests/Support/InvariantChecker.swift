import Raft

/// Looks at a member after every step and remembers what must never change (thesis figure 3.2, and what the disk adds).
struct InvariantChecker {
  private struct Known: Equatable {
    var payload: Entry.Payload
    var previousTerm: Term
  }

  private struct Life {
    var term: Term
    var commit: LogIndex
    var delivered: LogIndex
    var isLeader: Bool
    var last: LogIndex
  }

  private(set) var violations: [String] = []
  private var leaders: [Term: NodeID] = [:]
  private var known: [EntryID: Known] = [:]
  /// Committed somewhere: the entry's term, and the term of the leader that committed it. Index 1 first.
  private var committed: [(term: Term, by: Term)] = []
  private var lives: [NodeID: Life] = [:]
  /// Who was asked, and what had been committed anywhere by then.
  private var reads: [UInt64: (member: NodeID, floor: LogIndex)] = [:]

  var committedIndex: LogIndex { LogIndex(committed.count) }

  mutating func started(_ id: NodeID, _ core: RaftCore) {
    lives[id] = Life(
      term: core.term, commit: core.commitIndex, delivered: core.appliedIndex, isLeader: false, last: core.lastIndex)
  }

  /// The reads asked of a member die with it. A sole voter uses a term before it is durable, as nobody hears of it:
  /// what a crash takes from its log may come again with another payload.
  mutating func crashed(_ id: NodeID, disk: SimulatedDisk, isSoleVoter: Bool) {
    reads = reads.filter { $0.value.member != id }
    if isSoleVoter { known = known.filter { disk.holds($0.key) } }
  }

  /// Entries that a test puts on disks by hand.
  mutating func assume(_ entries: [Entry]) {
    var previous: Term = 0
    for entry in entries {
      learn(entry, previousTerm: previous, on: 0)
      previous = entry.term
    }
  }

  mutating func readIssued(_ context: UInt64, to id: NodeID) { reads[context] = (id, committedIndex) }

  /// Reads neither answered nor refused.
  var openReads: Int { reads.count }

  /// After a step that produced exactly `output`.
  mutating func check(_ id: NodeID, _ core: RaftCore, _ output: Output, disks: [NodeID: SimulatedDisk]) {
    guard var life = lives[id] else { return }
    checkMonotony(id, core, life)
    checkLeadership(id, core, life)
    checkEntries(id, core, output)
    for message in output.sendNow { expect(!promises(message), "\(id) sends a promise without waiting for its disk") }
    checkCommit(id, core, disks: disks)
    checkDelivery(id, output, &life)
    checkReads(id, output)
    life.term = core.term
    life.commit = core.commitIndex
    life.isLeader = core.role == .leader
    life.last = core.lastIndex
    lives[id] = life
  }

  /// A held message leaves: is on disk what it promises?
  mutating func checkRelease(_ held: HeldMessage, disk: SimulatedDisk) {
    let promise = held.waitsFor
    let state = disk.hardState
    if state.term > promise.term { return }
    expect(state.term == promise.term, "\(held.message.from) sends before term \(promise.term) is durable")
    expect(promise.vote == 0 || state.vote == promise.vote, "\(held.message.from) sends before its vote is durable")
    if let entry = promise.entry {
      expect(disk.holds(entry), "\(held.message.from) promises \(entry.index)/\(entry.term), which is not durable")
    }
  }

  /// Votes, requests for votes (the candidate's own counts) and acknowledgements stand for something on the disk.
  private func promises(_ message: Message) -> Bool {
    switch message.body {
    case .voteRequest(let request): !request.isPreVote
    case .voteResponse(let response): !response.isPreVote && response.isGranted
    case .appendResponse(.matched): true
    case .appendResponse(.mismatch), .appendRequest, .heartbeat, .heartbeatResponse: false
    }
  }

  private mutating func checkMonotony(_ id: NodeID, _ core: RaftCore, _ life: Life) {
    expect(core.term >= life.term, "\(id): term falls from \(life.term) to \(core.term)")
    expect(core.commitIndex >= life.commit, "\(id): commit falls from \(life.commit) to \(core.commitIndex)")
    expect(core.commitIndex <= core.lastIndex, "\(id): commit \(core.commitIndex) behind the log's end")
    expect(core.appliedIndex <= core.durableIndex, "\(id): applied what is not durable")
  }

  /// Election safety, leader append-only, leader completeness.
  private mutating func checkLeadership(_ id: NodeID, _ core: RaftCore, _ life: Life) {
    guard core.role == .leader else { return }
    let other = leaders[core.term, default: id]
    expect(other == id, "term \(core.term) has two leaders, \(other) and \(id)")
    leaders[core.term] = id
    if life.isLeader, life.term == core.term {
      expect(core.lastIndex >= life.last, "leader \(id) cuts its log from \(life.last) to \(core.lastIndex)")
    } else if let index = committed.lastIndex(where: { $0.by < core.term }) {
      let has = core.term(at: LogIndex(index + 1))
      let isHeld = has == committed[index].term || LogIndex(index + 1) < core.firstIndex
      expect(isHeld, "leader \(id) of term \(core.term) lacks committed entry \(index + 1)")
    }
  }

  /// Log matching, by induction: an identity always names the same payload behind the same predecessor.
  private mutating func checkEntries(_ id: NodeID, _ core: RaftCore, _ output: Output) {
    var previousIndex: LogIndex?
    for entry in output.persist.entries {
      expect(previousIndex.map { $0 + 1 == entry.index } ?? true, "\(id): a gap before written entry \(entry.index)")
      previousIndex = entry.index
      expect(core.term(at: entry.index) == entry.term, "\(id): writes \(entry.index) which its log does not hold")
      if let previous = core.term(at: entry.index - 1) { learn(entry, previousTerm: previous, on: id) }
    }
  }

  private mutating func learn(_ entry: Entry, previousTerm: Term, on id: NodeID) {
    let identity = EntryID(index: entry.index, term: entry.term)
    let now = Known(payload: entry.payload, previousTerm: previousTerm)
    expect(known[identity, default: now] == now, "\(id): entry \(entry.index)/\(entry.term) differs between logs")
    known[identity] = now
  }

  /// What a leader commits lies on a quorum of disks; what others think committed is the same.
  private mutating func checkCommit(_ id: NodeID, _ core: RaftCore, disks: [NodeID: SimulatedDisk]) {
    if core.role == .leader {
      for index in committedIndex..<max(committedIndex, core.commitIndex) {
        guard let term = core.term(at: index + 1) else { continue }
        let entry = EntryID(index: index + 1, term: term)
        let holders = disks.values.count { $0.holds(entry) }
        expect(
          holders > disks.count / 2, "\(id) commits \(entry.index)/\(entry.term), durable on \(holders) disks only")
        committed.append((term, core.term))
      }
    }
    expect(core.commitIndex <= committedIndex, "\(id) believes \(core.commitIndex) committed, nobody committed it")
    guard core.commitIndex > 0, core.commitIndex <= committedIndex else { return }
    if let term = core.term(at: core.commitIndex) {
      expect(
        term == committed[Int(core.commitIndex - 1)].term, "\(id): commit index names another entry than elsewhere")
    }
  }

  /// State machine safety: every member is handed the same entries, in order, each once.
  private mutating func checkDelivery(_ id: NodeID, _ output: Output, _ life: inout Life) {
    for entry in output.commit {
      expect(entry.index == life.delivered + 1, "\(id): handed out \(entry.index) after \(life.delivered)")
      life.delivered = entry.index
      guard entry.index <= committedIndex else { continue }
      expect(entry.term == committed[Int(entry.index - 1)].term, "\(id): handed out a different entry \(entry.index)")
      let payload = known[EntryID(index: entry.index, term: entry.term)]?.payload
      expect(payload == entry.payload, "\(id): handed out another payload at \(entry.index)")
    }
  }

  /// A read sees everything that was committed anywhere when it was asked for.
  private mutating func checkReads(_ id: NodeID, _ output: Output) {
    for (context, index) in output.readStates {
      guard let floor = reads.removeValue(forKey: context)?.floor else {
        violations.append("\(id): answers read \(context) that nobody waits for")
        continue
      }
      expect(index >= floor, "\(id): read \(context) sees \(index), but \(floor) was committed before")
    }
    for context in output.refusedReads {
      expect(reads.removeValue(forKey: context) != nil, "\(id): refuses read \(context) that nobody waits for")
    }
  }

  private mutating func expect(_ condition: Bool, _ violation: @autoclosure () -> String) {
    if !condition { violations.append(violation()) }
  }
}
