import Keyspace
import Logging
import Member
import NIOCore
import PeerProtocol
import Primitives
import Raft
import StateMachine
import Storage

/// The raft thread: takes everything that has arrived, turns the member's core, hands entries to the log thread and
/// messages to the peers, applies what is committed and answers. One turn handles one batch, whatever its size: one
/// append, one hop per event loop.
///
/// Owned by its thread; only `inbox`, `applied` and the published values are shared.
final class NodeLoop {
  /// A few puts' worth.
  private static let maxBytesWrittenHere = 1_024

  private let inbox: Mailbox<NodeEvent>
  private let applied: AppliedState
  private let barriers: ReadBarriers
  private let backlog: ProposalBacklog
  private let published: PublishedStatus
  private let quota: SpaceQuota
  private let writer: EngineWriter
  private let peers: any PeerLink
  private let removal: Removal
  private let configuration: NodeConfiguration
  private let logger: Logger
  private let log: WriteAheadLog

  private var core: MemberCore
  private var busy = BusyRatio(openedAt: .now)
  private var callers = TicketBox<(waiter: Waiter, bytes: Int)>()
  private var readers = TicketBox<ReadGroup>()
  private var completions = Completions()
  private var receivedState: ReceivedState?
  private var stopRequests: [@Sendable () -> Void] = []

  init(
    core: MemberCore, log: WriteAheadLog, applied: AppliedState, writer: EngineWriter, quota: SpaceQuota,
    peers: any PeerLink, removal: Removal, inbox: Mailbox<NodeEvent>, barriers: ReadBarriers,
    backlog: ProposalBacklog, published: PublishedStatus, configuration: NodeConfiguration, logger: Logger
  ) {
    self.core = core
    self.log = log
    self.applied = applied
    self.writer = writer
    self.quota = quota
    self.peers = peers
    self.removal = removal
    self.inbox = inbox
    self.barriers = barriers
    self.backlog = backlog
    self.published = published
    self.configuration = configuration
    self.logger = logger
  }

  // MARK: The turn

  func run() {
    var events: [NodeEvent] = []
    followMembers()
    while stopRequests.isEmpty {
      events.removeAll(keepingCapacity: true)
      events = inbox.takeAll(until: core.nextWake(after: .now), spare: events)
      turn(events[...])
    }
    shutDown()
  }

  /// A state that takes the place of this one's has a turn of its own: nothing else is under way then.
  private func turn(_ events: ArraySlice<NodeEvent>) {
    var rest = events
    while let position = rest.firstIndex(where: \.isReadySnapshot) {
      if position > rest.startIndex { turn(rest[..<position], at: .now) }
      turn(rest[position...position], at: .now)
      rest = rest[(position + 1)...]
    }
    if !rest.isEmpty || events.isEmpty { turn(rest, at: .now) }
  }

  private func turn(_ events: ArraySlice<NodeEvent>, at now: MonotonicTime) {
    core.begin()
    for event in events { take(event, at: now) }
    let load = load
    core.advance(at: now, load: load)
    if stopRequests.isEmpty, core.upkeepIsDue(at: now) { upkeep(at: now, load) }
    carryOut(at: now)
    published.observe(busyRatio: busy.note(from: now, to: .now))
  }

  private var load: StoreLoad {
    StoreLoad(
      isFull: writer.load.isFull, isBlocked: writer.load.isBlocked, isRelaxed: quota.isRelaxed,
      takesAlarmBack: !configuration.disarmsAlarmsByHand)
  }

  private func take(_ event: NodeEvent, at now: MonotonicTime) {
    switch event {
    case .proposal(let proposal):
      let ticket = callers.keep((proposal.waiter, proposal.bytes))
      core.take(.proposal(proposal.commands, bytes: proposal.bytes, ticket: ticket), at: now)
    case .readBarrier: core.take(.read(readers.keep(barriers.takeAll())), at: now)
    case .persisted(let index, let term): core.take(.persisted(index: index, term: term), at: now)
    case .received(let messages, let peer):
      for message in messages { core.take(.received(message, from: peer), at: now) }
    case .disconnected(let peer): core.take(.disconnected(peer), at: now)
    case .expelled: tell(.removed)
    case .snapshotReady(let state): offer(state, at: now)
    case .snapshotSent(let peer, let index): core.take(.snapshotSent(to: peer, index: index), at: now)
    case .snapshotFailed(let peer): core.take(.snapshotFailed(to: peer), at: now)
    case .transferLeadership(let target, let waiter):
      let ticket = callers.keep((waiter, 0))
      core.take(target.map { .transferLeadership(to: $0, ticket: ticket) } ?? .handOver(ticket: ticket), at: now)
    case .engineCommitted(let base, let logBytes):
      log.noteBase(base)
      core.take(.stored(index: base.index, logBytes: logBytes), at: now)
    case .engineBlocked: break
    case .quotaExceeded: core.take(.quotaExceeded, at: now)
    case .stop(let done): stopRequests.append(done)
    }
  }

  private func upkeep(at now: MonotonicTime, _ load: StoreLoad) {
    let (usedBytes, uncommittedBytes) = applied.withLock { contents in
      core.upkeep(&contents.machine, at: now, load: load)
      return (contents.machine.quotaBytes, contents.machine.uncommittedBytes)
    }
    guard core.output.hasCompacted else { return }
    quota.note(usedBytes: usedBytes)
    writer.note(.changes, recentBytes: uncommittedBytes)
  }

  // MARK: Output

  private func carryOut(at now: MonotonicTime) {
    if let mark = core.output.raft.restore { restore(mark, at: now) }
    // The disk and the peers work while this thread applies.
    flush(at: now)
    if !core.output.raft.commit.isEmpty { apply() }
    core.settle(at: now)
    flush(at: now)
    sendStates()
    for notice in core.output.notices { tell(notice) }
    if core.output.membersChanged { followMembers() }
    if core.output.alarmIsSettled { quota.releaseAlarm() }
    answer()
    published.update(core, pending: core.pendingCount)
  }

  private func flush(at now: MonotonicTime) {
    let parcel = core.takeParcel(at: now)
    if !parcel.messages.isEmpty { peers.send(parcel.messages) }
    if !parcel.persist.isEmpty || !parcel.held.isEmpty { persist(parcel.persist, parcel.held) }
  }

  /// Messages that promise something about the disk leave when this write, and with it all before, is durable.
  private func persist(_ persist: Output.Persist, _ held: [Envelope]) {
    let inbox = inbox
    let peers = peers
    let last = persist.entries.last.map { (index: $0.index, term: $0.term) }
    let request = LogAppend(
      vote: persist.hardState.map { PersistentVote(term: $0.term, vote: $0.vote, commit: $0.commit) },
      records: persist.entries.map(LogRecord.init(entry:)),
      completion: {
        if !held.isEmpty { peers.send(held) }
        if let last { inbox.post(.persisted(index: last.index, term: last.term)) }
      })
    if isWrittenHere(persist.entries) { log.appendInPlace(request) } else { log.append(request) }
  }

  /// Whether this thread may wait for the disk: with other members, heartbeats would wait too; and behind a large batch
  /// the next one is better prepared while the disk is busy.
  private func isWrittenHere(_ entries: [Entry]) -> Bool {
    guard core.raft.isAlone else { return false }
    return entries.reduce(0) { $0 + $1.payloadBytes } <= Self.maxBytesWrittenHere
  }

  private func apply() {
    let start = MonotonicTime.now
    let entryCount = core.output.raft.commit.count
    let (hasChanged, recentBytes) = applied.withLock { contents in
      var events: [KeyspaceEvent] = []
      let hasChanged = core.apply(to: &contents.machine, events: &events)
      contents.watches.publish(
        events, revision: contents.machine.keyspace.revision,
        compactRevision: contents.machine.keyspace.compactRevision)
      quota.note(usedBytes: contents.machine.quotaBytes)
      return (hasChanged, contents.machine.uncommittedBytes)
    }
    writer.note(hasChanged ? .changes : .clockOnly, recentBytes: recentBytes)
    published.observe(applied: entryCount, from: start, to: .now)
  }

  private func answer() {
    var bytes = 0
    for (ticket, result) in core.output.answers {
      let caller = callers.redeem(ticket)
      bytes += caller.bytes
      completions.add(caller.waiter, result)
    }
    if !core.output.answers.isEmpty { backlog.release(count: core.output.answers.count, bytes: bytes) }
    completions.deliver()
    for (ticket, failure) in core.output.reads {
      readers.redeem(ticket).answer(failure.map { .failure($0) } ?? .success(()))
    }
  }

  private func tell(_ notice: Notice) {
    switch notice {
    case .leads(let term, let clock):
      logger.info("leading", metadata: ["term": "\(term)", "lease-clock": "\(clock)"])
    case .noLongerLeads: logger.info("no longer leading", metadata: ["term": "\(core.raft.term)"])
    case .expiring(let leases, let lag): published.observe(expiryBatch: leases, lagMilliseconds: lag)
    case .diskIsStuck(let heir):
      logger.warning("the log cannot be written for long: another member is to lead", metadata: ["heir": "\(heir)"])
    case .quotaAlarm(.activate):
      logger.warning(
        "no space left: the quota is used up",
        metadata: ["quota-bytes": "\(quota.limitBytes ?? 0)", "used-bytes": "\(quota.usedBytes)"])
    case .quotaAlarm(.deactivate):
      logger.warning("there is space again", metadata: ["used-bytes": "\(quota.usedBytes)"])
    case .corrupt(let index, let own, let agreed):
      published.noteCorruption()
      logger.critical(
        "this member's state is not the cluster's; it serves nobody until it is replaced",
        metadata: ["index": "\(index)", "hash": "\(own)", "agreed-hash": "\(agreed)"])
    case .removed:
      if removal.note() { logger.critical("this member has been removed from the cluster; it ends") }
    }
  }

  // MARK: Other members

  private func followMembers() {
    let cluster = applied.withLock { $0.machine.cluster }
    published.note(isLearner: cluster.member(core.memberID)?.isLearner ?? false)
    peers.setMembers(cluster.members, removed: cluster.removedMembers)
  }

  private func sendStates() {
    for peer in core.output.raft.sendSnapshot {
      let state = applied.withLock { copy($0.machine) }
      let message = core.snapshotMessage(of: state, to: peer)
      let (inbox, logger, index) = (inbox, logger, state.appliedIndex)
      logger.info("sending the state", metadata: ["to": "\(peer)", "index": "\(index)"])
      peers.sendState(state, message) { failure in
        guard let failure else { return inbox.post(.snapshotSent(to: peer, index: index)) }
        logger.warning("the state was not sent: \(failure)", metadata: ["to": "\(peer)", "index": "\(index)"])
        inbox.post(.snapshotFailed(to: peer))
      }
    }
  }

  private func offer(_ state: ReceivedState, at now: MonotonicTime) {
    core.take(.snapshotReady(state.message), at: now)
    if core.output.raft.restore == nil {
      state.discard(from: writer.engine, logger)
    } else {
      receivedState = state
    }
  }

  /// A later state has come from the leader. The engine takes it, then the log restarts behind it: a crash in between
  /// leaves a state that is ahead of the log, which recovery knows.
  private func restore(_ mark: SnapshotMark, at now: MonotonicTime) {
    guard let state = receivedState, state.mark == mark else {
      preconditionFailure("asked to restore a state that has not been received")
    }
    receivedState = nil
    writer.install(state)
    log.restart(behind: LogBase(index: mark.last.index, term: mark.last.term))
    applied.withLock { core.replaced(by: $0.machine, at: now) }
    logger.info("took the leader's state", metadata: ["index": "\(mark.last.index)", "from": "\(state.message.from)"])
  }

  // MARK: The end

  private func shutDown() {
    for caller in callers.redeemAll() { completions.add(caller.waiter, .failure(.stopped)) }
    completions.deliver()
    for readers in [barriers.stop()] + readers.redeemAll() { readers.answer(.failure(.stopped)) }
    log.close()
    for done in stopRequests { done() }
  }
}

/// A machine that is borrowed cannot be returned as it is.
private func copy(_ machine: borrowing StateMachine) -> StateMachine { copy machine }
