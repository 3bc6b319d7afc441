import Keyspace
import Member
import PeerProtocol
import Primitives
import Raft
import StateMachine
import Storage
import TestSupport

/// One member: the real core, state machine and log, on a simulated disk; what a running node's threads do, step by step.
final class SimulatedMember {
  /// While the process lives.
  struct Life {
    var core: MemberCore
    var machine: StateMachine
    var log: SynchronousLog
    /// Handed to the disk and not written yet.
    var writes: [(append: LogAppend, held: [Envelope])] = []
    var isWriting = false
    var logBytes: Int64 = 0
    var wakeAt: Int64 = .max
    /// Told of its death, so that what was scheduled for it comes to nothing.
    let number: Int
  }

  let id: NodeID
  let clusterID: UInt64
  let disk = SimulatedDisk()
  var engine = MemoryEngine()
  var life: Life?
  var lives = 0
  /// The member's clock against true time, in nanoseconds: an offset that is drawn anew at each start.
  var clockOffset: Int64 = 0
  /// Events that reach a process which is stopped wait for it.
  var isPaused = false
  var backlog: [MemberEvent] = []
  var receivedState: (mark: SnapshotMark, machine: StateMachine)?
  var isDiskSlow = false

  init(id: NodeID, clusterID: UInt64) {
    self.id = id
    self.clusterID = clusterID
  }

  func time(_ trueTime: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: trueTime + clockOffset) }

  // MARK: Life and death

  /// Starts the process on what its disk holds.
  func start(settings: MemberSettings, genesis: ClusterState?, seed: UInt64, at trueTime: Int64) throws {
    clockOffset = Int64(seed % 1_000_000_000_000)
    var machine: StateMachine
    if engine.head != nil {
      machine = try engine.load()
    } else {
      machine =
        genesis.map {
          StateMachine.genesis(clusterID: $0.id, members: $0.members, membershipBytes: $0.membershipBytes)
        } ?? StateMachine()
      machine.recordChanges()
      engine.cut(&machine)
      engine.commit(&machine)
    }
    let base = LogBase(index: machine.appliedIndex, term: machine.appliedTerm)
    let (log, recovered) = try SynchronousLog.open(
      directory: "/member", base: base, options: LogOptions(segmentBytes: 16 * 1024), disk: disk)
    let isBehind = recovered.vote.term < base.term
    let now = time(trueTime)
    let raft = RaftCore(
      configuration: Configuration(
        id: id, electionTimeout: settings.electionTimeoutMilliseconds,
        heartbeatInterval: settings.heartbeatIntervalMilliseconds, seed: seed),
      membership: MemberCore.mark(of: machine).membership,
      recovered: HardState(
        term: max(recovered.vote.term, base.term), vote: isBehind ? 0 : recovered.vote.vote,
        commit: max(recovered.vote.commit, base.index)),
      log: (base.index, base.term, try recovered.records.map(Entry.init(record:))),
      now: Instant(milliseconds: now.milliseconds))
    let core = MemberCore(settings: settings, raft: raft, machine: machine, at: now)
    lives += 1
    backlog = []
    isPaused = false
    receivedState = nil
    life = Life(core: core, machine: machine, log: log, number: lives)
  }

  /// The process ends; with the power, what was not synced goes too. A write that is under way may be torn.
  func crash(losingPower: Bool, generator: inout SeededGenerator) {
    guard let life else { return }
    if losingPower, !life.writes.isEmpty {
      disk.crash(atOperation: disk.operations + Int.random(in: 1...3, using: &generator))
      // Fails where the power goes; that is the point.
      _ = Result { try life.log.append(life.writes.map(\.append)) }
    }
    if losingPower {
      disk.losePower(tearing: true, generator: &generator)
    } else {
      disk.endProcess()
    }
    engine.forgetPending()
    self.life = nil
    backlog = []
    isPaused = false
  }

  // MARK: The disk

  /// Writes all that is queued, as the log's thread does; answers what may leave now and what the core must hear.
  func completeWrites() throws -> (held: [Envelope], persisted: EntryID?) {
    guard let writes = life?.writes, !writes.isEmpty else { return ([], nil) }
    life!.writes = []
    try life!.log.append(writes.map(\.append))
    life!.logBytes += writes.reduce(0) { $0 + $1.append.records.reduce(0) { $0 + Int64($1.encodedBytes) } }
    let last = writes.last { !$0.append.records.isEmpty }?.append.records.last
    return (writes.flatMap(\.held), last.map { EntryID(index: $0.index, term: $0.term) })
  }

  /// What is applied goes to the engine; a crash before `storeEnd` forgets it.
  func storeBegin() {
    guard life != nil, engine.pending == nil else { return }
    engine.cut(&life!.machine)
  }

  /// Answers up to where the state is stored now.
  func storeEnd() throws -> MemberEvent? {
    guard life != nil, engine.pending != nil else { return nil }
    engine.commit(&life!.machine)
    let head = engine.head!
    try life!.log.noteBase(LogBase(index: head.appliedIndex, term: head.appliedTerm))
    return .stored(index: head.appliedIndex, logBytes: life!.logBytes)
  }

  /// Another member's state takes the place of this one's. Answers the messages that waited for the disk.
  func restore(_ mark: SnapshotMark, at now: MonotonicTime) throws -> [Envelope] {
    guard let state = receivedState, state.mark.last == mark.last else {
      preconditionFailure("asked to restore a state that has not been received")
    }
    receivedState = nil
    // What the log thread has been given comes before the restart.
    let (held, _) = try completeWrites()
    var machine = state.machine
    machine.recordChanges()
    engine = MemoryEngine()
    engine.cut(&machine)
    engine.commit(&machine)
    life!.machine = machine
    try life!.log.noteBase(LogBase(index: mark.last.index, term: mark.last.term))
    life!.core.replaced(by: machine, at: now)
    return held
  }
}
