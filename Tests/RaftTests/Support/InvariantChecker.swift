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
    /// In force when the step began.
    var membership: Membership
  }

  private(set) var violations: [String] = []
  private var leaders: [Term: NodeID] = [:]
  private var known: [EntryID: Known] = [:]
  /// Committed somewhere: the entry's term, and the term of the leader that committed it. Index 1 first.
  private var committed: [(term: Term, by: Term)] = []
  private var changes: [EntryID: Membership] = [:]
  /// Ascending by index.
  private(set) var committedChanges: [(index: LogIndex, membership: Membership)]
  private var lives: [NodeID: Life] = [:]
  /// Who was asked, and what had been committed anywhere by then.
  private var reads: [UInt64: (member: NodeID, floor: LogIndex)] = [:]

  var committedIndex: LogIndex { LogIndex(committed.count) }

  init(founders: Membership, genesis: Bool) {
    committedChanges = [(0, founders)]
    if genesis { committed = [(1, 0)] }
  }

  mutating func started(_ id: NodeID, _ core: RaftCore) {
    lives[id] = Life(
      term: core.term, commit: core.commitIndex, delivered: core.appliedIndex, isLeader: false, last: core.lastIndex,
      membership: core.membership)
  }

  /// The reads asked of a member die with it. A member that needs nobody's vote leads a term before that is durable, as
  /// nobody hears of it: a term that its disk does not know may come again, with other entries.
  mutating func crashed(_ id: NodeID, _ core: RaftCore, disk: SimulatedDisk) {
    reads = reads.filter { $0.value.member != id }
    guard core.membership.hasQuorum({ $0 == id }) else { return }
    let forgotten = Set(leaders.filter { $0.key > disk.hardState.term && $0.value == id }.keys)
    known = known.filter { !forgotten.contains($0.key.term) }
    changes = changes.filter { !forgotten.contains($0.key.term) }
    leaders = leaders.filter { !forgotten.contains($0.key) }
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
    if let mark = output.restore { checkRestore(id, mark, &life) }
    checkEntries(id, core, output)
    for message in output.sendNow { checkSent(message, disk: disks[id]!) }
    checkCommit(id, core, in: life.membership, disks: disks)
    checkMembership(id, core)
    checkDelivery(id, output, &life)
    checkReads(id, output)
    life.term = core.term
    life.commit = core.commitIndex
    life.isLeader = core.role == .leader
    life.last = core.lastIndex
    life.membership = core.membership
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

  /// What leaves at once promises nothing about the disk, except that whoever leads has its term there.
  private mutating func checkSent(_ message: Message, disk: SimulatedDisk) {
    expect(!promises(message), "\(message.from) sends a promise without waiting for its disk")
    switch message.body {
    case .appendRequest, .heartbeat, .timeoutNow, .readResponse:
      expect(disk.hardState.term >= message.term, "\(message.from) leads before term \(message.term) is durable")
    default: break
    }
  }

  /// Votes, requests for votes (the candidate's own counts) and acknowledgements stand for something on the disk.
  private func promises(_ message: Message) -> Bool {
    switch message.body {
    case .voteRequest(let request): !request.isPreVote
    case .voteResponse(let response): !response.isPreVote && response.isGranted
    case .appendResponse(.matched): true
    case .appendResponse(.mismatch), .appendRequest, .heartbeat, .heartbeatResponse, .timeoutNow, .snapshot,
      .readRequest, .readResponse, .readRefused:
      false
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
    if case .membership(let change, _) = entry.payload { changes[identity] = change }
  }

  /// The last membership of the log is in force, and at most one is not committed (thesis §4.1).
  private mutating func checkMembership(_ id: NodeID, _ core: RaftCore) {
    let held = changes.filter { core.term(at: $0.key.index) == $0.key.term }
    let base = core.firstIndex - 1
    if let last = held.max(by: { $0.key.index < $1.key.index }), last.key.index > base {
      expect(core.membership == last.value, "\(id): the membership in force is not its log's last")
    } else if base > 0 {
      expect(core.membership == membership(asOf: base), "\(id): the membership in force is not its log's base's")
    }
    let open = held.count { $0.key.index > committedIndex }
    expect(open <= 1, "\(id): \(open) memberships are not committed")
  }

  private func membership(asOf index: LogIndex) -> Membership {
    committedChanges.last { $0.index <= index }!.membership
  }

  /// A state takes the place of the log: it is one that was committed, and takes nothing back.
  private mutating func checkRestore(_ id: NodeID, _ mark: SnapshotMark, _ life: inout Life) {
    let index = mark.last.index
    expect(index > life.commit, "\(id): a state at \(index) takes back what is committed up to \(life.commit)")
    expect(index <= committedIndex, "\(id): a state at \(index), which nobody committed")
    guard index <= committedIndex else { return }
    expect(committed[Int(index - 1)].term == mark.last.term, "\(id): a state behind another entry \(index)")
    expect(mark.membership == membership(asOf: index), "\(id): a state at \(index) with another membership")
    life.delivered = index
  }

  /// What a leader commits lies on disks of a quorum of the membership in force; what others think committed is the
  /// same. (A commit may be followed, in the same step, by a new membership.)
  private mutating func checkCommit(
    _ id: NodeID, _ core: RaftCore, in membership: Membership, disks: [NodeID: SimulatedDisk]
  ) {
    if core.role == .leader || lives[id]?.isLeader == true {
      for index in committedIndex..<max(committedIndex, core.commitIndex) {
        guard let term = core.term(at: index + 1) else { continue }
        let entry = EntryID(index: index + 1, term: term)
        let holders = Set(disks.filter { $0.value.holds(entry) }.keys)
        for voters in [membership.voters, membership.outgoing] where !voters.isEmpty {
          let count = voters.count(where: holders.contains)
          expect(count > voters.count / 2, "\(id) commits \(entry.index)/\(entry.term), durable on \(holders) only")
        }
        committed.append((term, core.term))
        if let change = changes[entry] { committedChanges.append((entry.index, change)) }
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
