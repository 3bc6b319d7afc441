import Primitives
import StateMachine

/// What a member does without being asked, and when next: expiries, the clock's stamp, compaction's leftovers, alarms.
package struct Chores: Sendable {
  /// How far a member looks ahead at most when there is nothing to do.
  static let idleMilliseconds: Int64 = 1_000
  /// Leases are looked at this often at most: the tick of "late by at most tick + commit".
  static let leaseTickMilliseconds: Int64 = 100
  /// Keys that compaction looks at in one go: nobody else gets at the state meanwhile.
  package static let compactedKeysPerStep = 1_000
  static let compactionPauseMilliseconds: Int64 = 5
  static let timeoutCheckMilliseconds: Int64 = 250
  /// What the leader has not answered for so long is told it again.
  static let resendMilliseconds: Int64 = 500

  private var underWay: Set<Proposal.Upkeep> = []
  var lastStampAt: MonotonicTime
  var nextExpiryCheck: MonotonicTime
  var nextWheelTurn: MonotonicTime
  var soonestExpiryCheck: MonotonicTime
  var wantsAlarm = false
  var compactor: AutoCompactor

  init(at now: MonotonicTime, _ autoCompaction: AutoCompactionRule) {
    lastStampAt = now
    nextExpiryCheck = now
    nextWheelTurn = now
    soonestExpiryCheck = now
    compactor = AutoCompactor(autoCompaction, at: now)
  }

  /// This member leads now.
  mutating func begin(at now: MonotonicTime) {
    lastStampAt = now
    nextExpiryCheck = now
  }

  /// It leads no more; what it had under way is another's matter.
  mutating func end() {
    underWay.remove(.expiry)
    underWay.remove(.clockStamp)
    underWay.remove(.promotion)
    underWay.remove(.compaction)
  }

  func isUnderWay(_ kind: Proposal.Upkeep) -> Bool { underWay.contains(kind) }

  mutating func start(_ kind: Proposal.Upkeep) { underWay.insert(kind) }

  mutating func finish(_ kind: Proposal.Upkeep) { underWay.remove(kind) }

  /// While expiries are on their way, what wakes the member is that they have been applied.
  func nextWake(isReady: Bool) -> MonotonicTime {
    isReady && underWay.contains(.expiry) ? MonotonicTime(nanoseconds: .max) : nextExpiryCheck
  }
}

extension MemberCore {
  mutating func finish(_ kind: Proposal.Upkeep) {
    chores.finish(kind)
    if kind == .alarm { output.alarmIsSettled = true }
  }

  package func upkeepIsDue(at now: MonotonicTime) -> Bool {
    if !memberChanges.isEmpty, isReady { return true }
    if chores.wantsAlarm { return true }
    return now >= chores.nextExpiryCheck && !(isReady && chores.isUnderWay(.expiry))
      || isReady && now >= chores.lastStampAt.advanced(byMilliseconds: Limits.leaseClockPersistIntervalMilliseconds)
  }

  /// Call when it is due (more often does no harm), with the state under its lock.
  package mutating func upkeep(_ machine: inout StateMachine, at now: MonotonicTime, load: StoreLoad) {
    if isReady { changeMembers(machine, at: now) }
    if now >= chores.nextExpiryCheck, !(isReady && chores.isUnderWay(.expiry)) { tend(&machine, at: now, load) }
    stampClock(machine, at: now)
    tendAlarm(machine, at: now, load)
    publishAttributes(machine, at: now)
    if let learner = promotableLearner(in: machine.cluster) {
      propose(.member(.promote(id: learner)), as: .promotion, nil, at: now)
    }
    propose(at: now, load)
  }

  // MARK: Leases and compaction

  private mutating func tend(_ machine: inout StateMachine, at now: MonotonicTime, _ load: StoreLoad) {
    chores.soonestExpiryCheck = now.advanced(byMilliseconds: Chores.leaseTickMilliseconds)
    // Without traffic nothing else brings far deadlines near, or gives compacted versions back.
    if now >= chores.nextWheelTurn {
      chores.nextWheelTurn = chores.soonestExpiryCheck
      machine.turnWheel(to: isReady ? clock.read(at: now) : machine.clock)
    }
    let isCompacting = load.isFull ? false : advanceCompaction(&machine)
    var isCut = false
    if isReady, !load.isFull { isCut = proposeExpiries(machine, at: now) }
    if !load.isFull { compactByRule(machine, at: now) }
    // A storm goes on as soon as its last command is applied; what others propose meanwhile comes in between.
    chores.nextExpiryCheck = isCut ? now : nextCheck(after: isReady ? machine.leases.nextDeadline : nil, at: now)
    // Somebody may be about to catch up.
    if isReady, !raft.membership.learners.isEmpty {
      chores.nextExpiryCheck = min(chores.nextExpiryCheck, chores.soonestExpiryCheck)
    }
    if isCompacting {
      let next = now.advanced(byMilliseconds: Chores.compactionPauseMilliseconds)
      chores.nextExpiryCheck = min(chores.nextExpiryCheck, next)
    }
    chores.nextExpiryCheck = min(chores.nextExpiryCheck, max(chores.compactor.nextLook, chores.soonestExpiryCheck))
  }

  private mutating func compactByRule(_ machine: borrowing StateMachine, at now: MonotonicTime) {
    let revision = chores.compactor.look(
      at: now, revision: machine.keyspace.revision, compacted: machine.keyspace.compactRevision, leads: isReady)
    guard let revision, !chores.isUnderWay(.compaction) else { return }
    output.notices.append(.autoCompaction(revision: revision))
    append(.compact(revision: revision), as: .compaction, at: now)
  }

  /// Answers whether there is more to do.
  private mutating func advanceCompaction(_ machine: inout StateMachine) -> Bool {
    let before = machine.uncommittedBytes
    let isCompacting = machine.advanceCompaction(maxKeys: Chores.compactedKeysPerStep)
    if machine.uncommittedBytes != before { output.hasCompacted = true }
    return isCompacting
  }

  /// Answers whether more leases are due than one command takes.
  private mutating func proposeExpiries(_ machine: borrowing StateMachine, at now: MonotonicTime) -> Bool {
    let (due, isCut) = machine.expiryBatch(at: clock.latestPassedDeadline(at: now))
    guard !due.isEmpty else { return false }
    let lag = Self.lag(of: due, in: machine, at: clock.read(at: now))
    output.notices.append(.expiring(leases: due.count, lagMilliseconds: lag))
    append(.leaseExpire(ids: due), as: .expiry, at: now)
    return isCut
  }

  /// How late the latest of these leases is. They come in no order of deadlines.
  private static func lag(of due: [LeaseID], in machine: borrowing StateMachine, at clock: LeaseClock) -> Int64 {
    var lag: Int64 = 0
    for id in due {
      if let deadline = machine.leases.deadline(of: id) { lag = max(lag, clock.milliseconds - deadline.milliseconds) }
    }
    return lag
  }

  private func nextCheck(after deadline: LeaseClock?, at now: MonotonicTime) -> MonotonicTime {
    let soonest = now.advanced(byMilliseconds: Chores.leaseTickMilliseconds)
    guard let deadline, let moment = clock.end(of: deadline) else {
      return isReady ? soonest : now.advanced(byMilliseconds: Chores.idleMilliseconds)
    }
    // A grant made meanwhile may end earlier than all that were known, hence never further ahead than the shortest TTL.
    return max(soonest, min(moment, now.advanced(byMilliseconds: Chores.idleMilliseconds)))
  }

  private mutating func stampClock(_ machine: borrowing StateMachine, at now: MonotonicTime) {
    let due = chores.lastStampAt.advanced(byMilliseconds: Limits.leaseClockPersistIntervalMilliseconds)
    guard isReady, now >= due else { return }
    if machine.leases.count > 0, !chores.isUnderWay(.clockStamp) {
      append(.tick, as: .clockStamp, at: now)
    } else {
      chores.lastStampAt = now
    }
  }

  /// Into an entry of its own, by a leader that is ready.
  private mutating func append(_ command: Command, as kind: Proposal.Upkeep, at now: MonotonicTime) {
    let batch = CommandBatch(clock: clock.read(at: now), commands: [command])
    let part = Flight.Part(
      source: .upkeep(kind), commandCount: 1, deadline: MonotonicTime(nanoseconds: .max))
    if submit(batch, [part], at: now) { chores.start(kind) }
  }

  // MARK: The quota's alarm, and what the member publishes

  private mutating func tendAlarm(_ machine: borrowing StateMachine, at now: MonotonicTime, _ load: StoreLoad) {
    let alarm = Alarm(memberID: memberID, kind: .noSpace)
    let stands = machine.alarms.contains(alarm)
    if chores.wantsAlarm {
      chores.wantsAlarm = false
      if !stands { propose(.alarm(.activate, alarm), as: .alarm, .quotaAlarm(.activate), at: now) }
    } else if stands, load.takesAlarmBack, load.isRelaxed {
      propose(.alarm(.deactivate, alarm), as: .alarm, .quotaAlarm(.deactivate), at: now)
    }
  }

  /// etcd's `publish`: name and client URLs become part of the members' list once the member has started.
  private mutating func publishAttributes(_ machine: borrowing StateMachine, at now: MonotonicTime) {
    guard raft.leader != nil, let known = machine.cluster.member(memberID) else { return }
    guard known.name != settings.name || known.clientURLs != settings.clientURLs else { return }
    let publication = MemberChange.publish(id: memberID, name: settings.name, clientURLs: settings.clientURLs)
    propose(.member(publication), as: .attributes, nil, at: now)
  }

  /// Through the leader, whoever that is.
  private mutating func propose(
    _ command: Command, as kind: Proposal.Upkeep, _ notice: Notice?, at now: MonotonicTime
  ) {
    guard !chores.isUnderWay(kind) else { return }
    chores.start(kind)
    if let notice { output.notices.append(notice) }
    enqueue(
      Proposal(
        commands: [command], bytes: command.approximateBytes, source: .upkeep(kind),
        deadline: now.advanced(byMilliseconds: settings.requestTimeoutMilliseconds)))
  }
}
