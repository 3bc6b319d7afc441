import PeerProtocol
import Primitives
import Raft
import StateMachine

package struct MemberSettings: Sendable {
  package var memberID: NodeID
  /// Random at each start: tells this life's proposals from those of earlier ones.
  package var session: UInt64
  package var electionTimeoutMilliseconds: Int64
  package var heartbeatIntervalMilliseconds: Int64
  /// What the member publishes of itself once it has started.
  package var name: String
  package var clientURLs: [String]
  /// Whether a change of members is refused when it would leave the cluster without a started quorum.
  package var checksReconfiguration = true
  /// Learners that have caught up become voters without being asked.
  package var promotesLearners = false
  /// Entries behind the stored state that are kept for members that lag.
  package var keptEntries: UInt64 = 100_000

  package init(
    memberID: NodeID, session: UInt64, electionTimeoutMilliseconds: Int64, heartbeatIntervalMilliseconds: Int64,
    name: String = "", clientURLs: [String] = []
  ) {
    self.memberID = memberID
    self.session = session
    self.electionTimeoutMilliseconds = electionTimeoutMilliseconds
    self.heartbeatIntervalMilliseconds = heartbeatIntervalMilliseconds
    self.name = name
    self.clientURLs = clientURLs
  }

  /// How long a caller waits for a proposal or a read: etcd's `ReqTimeout`.
  package var requestTimeoutMilliseconds: Int64 { 5_000 + 2 * electionTimeoutMilliseconds }
}

/// A member of the cluster without its threads, disk and network: consensus, the lease clock, proposals and reads from
/// callers here and at other members, expiries, changes of members. The thread of a running node and the simulator drive
/// it alike.
///
/// A turn is: `begin`, `take` for each event, `advance`, `upkeep` when it is due, `takeParcel`, `apply` when something was
/// committed, `settle`, and `takeParcel` again. The state machine stays with the shell, which lends it for `upkeep` and
/// `apply`, because readers share it.
package struct MemberCore: Sendable {
  package let settings: MemberSettings
  package internal(set) var raft: RaftCore
  package internal(set) var clock = LeaderClock()
  package var output = MemberOutput()

  /// Of the state machine, as of the last `apply`.
  var applied: AppliedMark
  var heard = HeardClock()
  /// Proposals that wait for a leader or for room.
  var waiting: [Proposal] = []
  /// Changes of members wait here: they are checked against the state.
  var memberChanges: [Proposal] = []
  /// The entry of the last change that this leader has started.
  var lastMemberChange: LogIndex = 0
  /// What this leader has appended and nobody has applied yet, by log index.
  var inFlight: [LogIndex: Flight] = [:]
  /// Proposals in `inFlight`.
  var inFlightCount = 0
  var forwards: ForwardTable
  var intake = ForwardIntake()
  var reads = ReadTable()
  var chores: Chores
  var tail: LogTail
  /// States on their way to other members, by their last index.
  var sentStates: [NodeID: LogIndex] = [:]
  var transfer: (target: NodeID, ticket: Ticket, deadline: MonotonicTime)?
  var hashes = HashAgreement()
  var disk = DiskPatience()
  var nextTimeoutCheck: MonotonicTime

  struct AppliedMark: Sendable {
    var index: LogIndex
    var term: Term
    var clock: LeaseClock
    /// Of the last entry that carried a stamp, or a later one.
    var stampTerm: Term

    init(_ machine: borrowing StateMachine) {
      index = machine.appliedIndex
      term = machine.appliedTerm
      clock = machine.clock
      stampTerm = machine.appliedTerm
    }
  }

  struct Flight: Sendable {
    var term: Term
    var batch: CommandBatch
    /// In the order of the commands.
    var parts: [Part]

    struct Part: Sendable {
      /// nil: nobody waits any more.
      var source: Proposal.Source?
      var commandCount: Int
      var deadline: MonotonicTime
    }
  }

  package init(settings: MemberSettings, raft: RaftCore, machine: borrowing StateMachine, at now: MonotonicTime) {
    self.settings = settings
    self.raft = raft
    applied = AppliedMark(machine)
    forwards = ForwardTable(session: settings.session)
    chores = Chores(at: now)
    tail = LogTail(keptEntries: settings.keptEntries)
    nextTimeoutCheck = now
    clock.stop(at: machine.clock)
  }

  package var memberID: NodeID { settings.memberID }

  /// The leader's message for a member that is sent this state.
  package func snapshotMessage(of machine: borrowing StateMachine, to peer: NodeID) -> Message {
    Message(from: memberID, to: peer, term: raft.term, body: .snapshot(Self.mark(of: machine)))
  }

  /// Names a state that is sent to another member.
  package static func mark(of machine: borrowing StateMachine) -> SnapshotMark {
    let bytes = machine.cluster.membershipBytes
    do {
      return SnapshotMark(
        last: EntryID(index: machine.appliedIndex, term: machine.appliedTerm),
        membership: try Membership(decodingState: bytes))
    } catch {
      preconditionFailure("the state's raft configuration cannot be understood: \(error)")
    }
  }

  package var isLeader: Bool { raft.role == .leader }
  /// Leads, and has applied everything that was committed before it did.
  package var isReady: Bool { clock.isRunning }
  /// How often a question about a read index had no answer in time.
  package var repeatedReadQuestions: Int { reads.repetitions }
  /// Proposals and reads that are not answered yet.
  package var pendingCount: Int { waiting.count + memberChanges.count + inFlightCount + forwards.count }

  // MARK: The turn

  package mutating func begin() { output.reset() }

  package mutating func take(_ event: MemberEvent, at now: MonotonicTime) {
    switch event {
    case .proposal(let commands, let bytes, let ticket):
      let deadline = now.advanced(byMilliseconds: settings.requestTimeoutMilliseconds)
      enqueue(Proposal(commands: commands, bytes: bytes, source: .local(ticket), deadline: deadline))
    case .read(let ticket):
      reads.add(ticket, deadline: now.advanced(byMilliseconds: settings.requestTimeoutMilliseconds))
    case .persisted(let index, let term): step(.persisted(index: index, term: term), at: now)
    case .received(let message, let peer): receive(message, from: peer, at: now)
    case .disconnected(let peer): step(.unreachable(peer), at: now)
    case .stored(let index, let logBytes):
      let keep = raft.isAlone ? index : tail.note(stored: index, logBytes: logBytes, sending: sentStates.values.min())
      step(.compact(through: keep), at: now)
    case .quotaExceeded: chores.wantsAlarm = true
    case .snapshotReady(let message): step(.received(message), at: now)
    case .snapshotSent(let peer, let index):
      sentStates[peer] = nil
      step(.snapshotSent(to: peer, index: index), at: now)
    case .snapshotFailed(let peer):
      sentStates[peer] = nil
      step(.snapshotFailed(to: peer), at: now)
    case .transferLeadership(let target, let ticket): transferLeadership(to: target, ticket, at: now)
    case .handOver(let ticket): handOver(ticket, at: now)
    }
  }

  /// Time passes: ticks, time-outs, and everything that waits for a leader or for room.
  package mutating func advance(at now: MonotonicTime, load: StoreLoad) {
    if now.milliseconds >= raft.nextDeadline.milliseconds { step(.tick, at: now) }
    if now >= nextTimeoutCheck { checkTimeouts(at: now) }
    if !raft.isAlone { watchDisk(at: now) }
    askForReads(at: now)
    propose(at: now, load)
  }

  /// When `advance` or `upkeep` has something to do although nothing happens.
  package func nextWake(after now: MonotonicTime) -> MonotonicTime {
    var wake = now.advanced(byMilliseconds: Chores.idleMilliseconds)
    // Compared in milliseconds: a sole voter that leads has no deadline at all.
    if raft.nextDeadline.milliseconds < wake.milliseconds {
      wake = MonotonicTime(nanoseconds: raft.nextDeadline.milliseconds * 1_000_000)
    }
    if hasWaiters { wake = min(wake, nextTimeoutCheck) }
    return min(wake, chores.nextWake(isReady: isReady))
  }

  private var hasWaiters: Bool { pendingCount > 0 || !reads.isEmpty || transfer != nil }

  /// After everything of this turn has been applied.
  package mutating func settle(at now: MonotonicTime) {
    if let last = output.raft.commit.last { step(.applied(last.index), at: now) }
    followLeadership(at: now)
    settleReads(at: now)
    settleTransfer(at: now)
    for peer in output.raft.sendSnapshot { sentStates[peer] = applied.index }
  }

  /// What is to be written and sent since the last call in this turn. Before `apply`, so that others work meanwhile, and
  /// again after `settle`.
  package mutating func takeParcel(at now: MonotonicTime) -> Parcel {
    for message in output.raft.sendNow { send(message, at: now) }
    let parcel = Parcel(
      persist: output.raft.persist, messages: output.messages,
      held: output.raft.sendAfterPersist.map { ($0.message.to, .raft($0.message)) })
    output.raft.persist.hardState = nil
    output.raft.sendNow.removeAll(keepingCapacity: true)
    output.raft.sendAfterPersist.removeAll(keepingCapacity: true)
    // The parcel owns these now: emptying them here would allocate others of their size.
    output.raft.persist.entries = []
    output.messages = []
    return parcel
  }

  mutating func step(_ event: Event, at now: MonotonicTime) {
    raft.step(event, at: Instant(milliseconds: now.milliseconds), into: &output.raft)
  }

  // MARK: Leadership

  /// The clock runs while this member leads and is ready. What waits for a proposal of a lost leadership stays: when the
  /// next leader's first entry is applied here, it is known which of them are lost (see `loseBefore`).
  private mutating func followLeadership(at now: MonotonicTime) {
    if isLeader, !clock.isRunning {
      guard applied.term == raft.term else { return }
      let start = heard.start(behind: applied)
      clock.start(from: start, at: now)
      chores.begin(at: now)
      intake.begin(term: raft.term)
      hashes.reset()
      output.notices.append(.leads(term: raft.term, clock: start))
    } else if !isLeader, clock.isRunning {
      clock.stop(at: applied.clock)
      chores.end()
      sentStates = [:]
      output.notices.append(.noLongerLeads)
    }
  }

  mutating func checkTimeouts(at now: MonotonicTime) {
    nextTimeoutCheck = now.advanced(byMilliseconds: Chores.timeoutCheckMilliseconds)
    timeOutProposals(at: now)
    timeOutReads(at: now)
    resendForwards(at: now)
  }
}
