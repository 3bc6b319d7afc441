import Primitives
import Raft
import StateMachine

// What the leader does without being asked: expiries, the lease clock's stamp, compaction's leftovers, the quota's alarm.

extension NodeLoop {
  /// Keys that compaction looks at in one go: nobody else gets at the state meanwhile.
  static let compactedKeysPerStep = 1_000
  private static let compactionPauseMilliseconds: Int64 = 5

  func proposeUpkeep(at now: MonotonicTime, _ output: inout Output) {
    guard clock.isRunning, stopRequests.isEmpty else { return }
    let leaseTime = clock.read(at: now)
    if !expiryInFlight, now >= nextExpiryCheck { proposeExpiries(at: now, leaseTime, &output) }
    let idle = Limits.leaseClockPersistIntervalMilliseconds
    if now >= lastStampAt.advanced(byMilliseconds: idle), applied.withLock({ $0.machine.leases.count > 0 }) {
      _ = submit(CommandBatch(clock: leaseTime, commands: [.tick]), [(nil, 1)], at: now, &output)
    }
  }

  private func proposeExpiries(at now: MonotonicTime, _ leaseTime: LeaseClock, _ output: inout Output) {
    let isFull = writer.load.isFull
    let passed = clock.latestPassedDeadline(at: now)
    let turnsWheel = now >= nextWheelTurn
    if turnsWheel { nextWheelTurn = now.advanced(byMilliseconds: Self.leaseTickMilliseconds) }
    var isCompacting = false
    let (due, isCut, lag, next) = applied.withLock { contents -> ([LeaseID], Bool, Int64, LeaseClock?) in
      // Without traffic nothing else brings far deadlines near, or gives compacted versions back.
      if turnsWheel { contents.machine.turnWheel(to: leaseTime) }
      if !isFull { isCompacting = advanceCompaction(&contents.machine) }
      let (due, isCut) = isFull ? ([], false) : contents.machine.expiryBatch(at: passed)
      return (due, isCut, Self.lag(of: due, in: contents.machine, at: leaseTime), contents.machine.leases.nextDeadline)
    }
    if !due.isEmpty {
      published.observe(expiryBatch: due.count, lagMilliseconds: lag)
      expiryInFlight = submit(
        CommandBatch(clock: leaseTime, commands: [.leaseExpire(ids: due)]), [(nil, 1)], at: now, &output)
    }
    // A storm goes on as soon as its last command is applied; what others propose meanwhile comes in between.
    nextExpiryCheck = isCut ? now : nextCheck(after: next, at: now)
    if isCompacting {
      nextExpiryCheck = min(nextExpiryCheck, now.advanced(byMilliseconds: Self.compactionPauseMilliseconds))
    }
    takeAlarmBack(at: now, &output)
  }

  /// Answers whether there is more to do.
  private func advanceCompaction(_ machine: inout StateMachine) -> Bool {
    let before = machine.uncommittedBytes
    let isCompacting = machine.advanceCompaction(maxKeys: Self.compactedKeysPerStep)
    let after = machine.uncommittedBytes
    if after != before {
      quota.note(usedBytes: machine.quotaBytes)
      writer.note(.changes, recentBytes: after)
    }
    return isCompacting
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
    let soonest = now.advanced(byMilliseconds: Self.leaseTickMilliseconds)
    guard let deadline, let moment = clock.end(of: deadline) else { return soonest }
    // A grant made meanwhile may end earlier than all that were known, hence never further ahead than the shortest TTL.
    return max(soonest, min(moment, now.advanced(byMilliseconds: Self.idleMilliseconds)))
  }

  // MARK: The quota's alarm

  private var ownAlarm: Alarm { Alarm(memberID: memberID, kind: .noSpace) }

  private var ownAlarmIsUp: Bool {
    let alarm = ownAlarm
    return applied.withLock { $0.machine.alarms.contains(alarm) }
  }

  func raiseAlarm(at now: MonotonicTime, _ output: inout Output) {
    guard clock.isRunning, !alarmInFlight else { return quota.releaseAlarm() }
    guard !ownAlarmIsUp else { return }
    logger.warning(
      "no space left: the quota is used up",
      metadata: ["quota-bytes": "\(quota.limitBytes ?? 0)", "used-bytes": "\(quota.usedBytes)"])
    proposeAlarm(.activate, at: now, &output)
  }

  private func takeAlarmBack(at now: MonotonicTime, _ output: inout Output) {
    guard !configuration.disarmsAlarmsByHand, quota.isRelaxed, !alarmInFlight, ownAlarmIsUp else { return }
    logger.warning("there is space again", metadata: ["used-bytes": "\(quota.usedBytes)"])
    proposeAlarm(.deactivate, at: now, &output)
  }

  private func proposeAlarm(_ action: AlarmAction, at now: MonotonicTime, _ output: inout Output) {
    let command = Command.alarm(action, ownAlarm)
    alarmInFlight = submit(CommandBatch(clock: clock.read(at: now), commands: [command]), [(nil, 1)], at: now, &output)
    if !alarmInFlight { quota.releaseAlarm() }
  }
}
