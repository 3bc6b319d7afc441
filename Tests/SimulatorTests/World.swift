import Keyspace
import Member
import PeerProtocol
import Primitives
import Raft
import StateMachine
import Storage

/// A whole cluster in one thread: members, disks, network, clocks and clients, all from one seed. What runs is what a
/// node runs (the member's core, Raft, the log and its format, the state machine, the lease clock, the sidecar's core);
/// only threads and sockets are made up. `Oracle` watches every step, `CacheOracle` what the sidecars do.
final class World {
  enum Happening {
    case deliver(PeerMessage, from: NodeID, to: NodeID)
    case wake(NodeID, life: Int)
    case written(NodeID, life: Int)
    case storeBegin(NodeID, life: Int)
    case storeEnd(NodeID, life: Int)
    case stateArrives(StateMachine, SnapshotMark, from: NodeID, to: NodeID, term: Term)
    case stateFails(from: NodeID, to: NodeID, life: Int)
    case fault
    case client(Int)
    case sidecar(NodeID, life: Int, task: Int)
    /// Sidecars are started where there are too few.
    case supervision
    case cacheUser(Int)
    case consumer(Int, Consumer.Step)
  }

  static let millisecond: Int64 = 1_000_000
  static let electionTimeoutMilliseconds: Int64 = 1_000
  static let heartbeatMilliseconds: Int64 = 100

  let seed: UInt64
  var generator: SeededGenerator
  var now: Int64 = 0
  var queue = EventQueue<Happening>()
  var members: [NodeID: SimulatedMember] = [:]
  var network: Network
  var oracle = Oracle()
  var clients: Clients
  var faults: Faults
  let genesis: ClusterState
  let hasSidecars: Bool
  let mistake: SidecarMistake?
  var sidecars: [NodeID: SimulatedSidecar] = [:]
  var cacheUsers = CacheUsers()
  var consumers = Consumer.all
  var cacheOracle = CacheOracle()
  var steps = 0
  /// The last happenings, for whoever has to understand a violation.
  var trace = Trace()

  init(seed: UInt64, memberCount: Int, hasSidecars: Bool = true, mistake: SidecarMistake? = nil) {
    self.seed = seed
    self.hasSidecars = hasSidecars
    self.mistake = mistake
    generator = SeededGenerator(seed: seed)
    let ids = (1...memberCount).map { NodeID($0) }
    genesis = ClusterState(
      id: 77, members: ids.map { ClusterMember(id: $0, peerURLs: ["sim://\($0)"]) },
      membershipBytes: Membership(voters: ids).encodedBytes)
    network = Network()
    clients = Clients()
    faults = Faults(nextMember: NodeID(memberCount) + 1)
    for id in ids { members[id] = SimulatedMember(id: id, clusterID: genesis.id) }
  }

  // MARK: Running

  /// - Parameters: milliseconds of faults, and of quiet in which the cluster must recover.
  func run(faultMilliseconds: Int64, quietMilliseconds: Int64) throws {
    try begin()
    schedule(.fault, afterMilliseconds: 500)
    try run(until: faultMilliseconds * Self.millisecond)
    guard oracle.violations.isEmpty else { return }
    try healAll()
    // A change of members that was asked for before may come to pass now.
    for _ in 0..<10 {
      try run(until: now + quietMilliseconds * Self.millisecond / 10)
      try settleMembers()
    }
    clients.isStopped = true
    try run(until: now + 11_000 * Self.millisecond)
    let newest = newestAppliedIndex
    try run(until: now + 1_000 * Self.millisecond)
    checkEnd(appliedByAll: newest)
  }

  func begin() throws {
    for id in members.keys.sorted() { try start(id, genesis: genesis) }
    scheduleClients()
    scheduleSidecars()
  }

  func run(forMilliseconds duration: Int64) throws { try run(until: now + duration * Self.millisecond) }

  private func run(until end: Int64) throws {
    while oracle.violations.isEmpty, let next = queue.nextTime, next <= end {
      let (moment, happening) = queue.takeFirst()!
      now = moment
      steps += 1
      trace.note(moment, happening)
      try perform(happening)
    }
    // After a violation the clock stands at it.
    if oracle.violations.isEmpty { now = max(now, end) }
  }

  func schedule(_ happening: Happening, afterMilliseconds delay: Int64) {
    queue.schedule(happening, at: now + delay * Self.millisecond)
  }

  func schedule(_ happening: Happening, afterMicroseconds delay: Int64) {
    queue.schedule(happening, at: now + delay * 1_000)
  }

  private func perform(_ happening: Happening) throws {
    switch happening {
    case .deliver(let message, let from, let to):
      if network.isOpen(from, to) { try handle(.received(message, from: from), at: to) }
    case .wake(let id, let life):
      guard let member = living(id, life), member.life!.wakeAt <= now else { return }
      member.life!.wakeAt = .max
      if !member.isPaused { try turn(member, []) }
    case .written(let id, let life):
      if let member = living(id, life) { try completeWrites(of: member) }
    case .storeBegin(let id, let life):
      guard let member = living(id, life) else { return }
      if !member.isPaused { member.storeBegin() }
      let isStuck = Int.random(in: 0..<20, using: &generator) == 0
      schedule(.storeEnd(id, life: life), afterMilliseconds: isStuck ? 3_000 : random(1, 60))
    case .storeEnd(let id, let life):
      guard let member = living(id, life) else { return }
      if let event = try member.storeEnd() { try handle(event, at: id) }
      schedule(.storeBegin(id, life: life), afterMilliseconds: random(50, 1_500))
    case .stateArrives(let state, let mark, let from, let to, let term):
      try stateArrives(state, mark, from: from, to: to, term: term)
    case .stateFails(let from, let to, let life):
      if living(from, life) != nil { try handle(.snapshotFailed(to: to), at: from) }
    case .fault: try injectFault()
    case .client(let number): try clientActs(number)
    case .sidecar(let id, let life, let task):
      if let sidecar = sidecars[id], sidecar.life == life { try sidecar.perform(task) }
    case .supervision: superviseSidecars()
    case .cacheUser(let user): cacheUserActs(user)
    case .consumer(let place, let step): consumerActs(place, step)
    }
  }

  func living(_ id: NodeID, _ life: Int) -> SimulatedMember? {
    guard let member = members[id], member.life?.number == life else { return nil }
    return member
  }

  func random(_ low: Int64, _ high: Int64) -> Int64 { Int64.random(in: low...high, using: &generator) }

  func settings(of id: NodeID) -> MemberSettings {
    var settings = MemberSettings(
      memberID: id, session: generator.next(), electionTimeoutMilliseconds: Self.electionTimeoutMilliseconds,
      heartbeatIntervalMilliseconds: Self.heartbeatMilliseconds, name: "m\(id)", clientURLs: ["client://\(id)"])
    settings.promotesLearners = true
    // In half of the worlds history goes all the time.
    if seed.isMultiple(of: 2) { settings.autoCompaction = .periodic(retentionMilliseconds: 3_000) }
    return settings
  }

  func start(_ id: NodeID, genesis: ClusterState?) throws {
    guard let member = members[id], member.life == nil else { return }
    try member.start(settings: settings(of: id), genesis: genesis, seed: generator.next(), at: now)
    let life = member.life!.number
    trace.note(now, "start \(id)")
    schedule(.storeBegin(id, life: life), afterMilliseconds: random(50, 500))
    oracle.started(id, member.life!.machine)
    try turn(member, [])
  }

  func crash(_ id: NodeID, losingPower: Bool) {
    guard let member = members[id], member.life != nil else { return }
    trace.note(now, "crash \(id) power=\(losingPower)")
    clients.memberDied(id)
    endSidecar(of: id)
    member.crash(losingPower: losingPower, generator: &generator)
  }

  // MARK: A member's turn

  func handle(_ event: MemberEvent, at id: NodeID) throws {
    guard let member = members[id], member.life != nil else { return }
    if member.isPaused {
      member.backlog.append(event)
    } else {
      try turn(member, [event])
    }
  }

  func turn(_ member: SimulatedMember, _ events: [MemberEvent]) throws {
    let time = member.time(now)
    member.life!.core.begin()
    for event in events { member.life!.core.take(event, at: time) }
    let load = StoreLoad(isFull: false, isBlocked: false, isRelaxed: true, takesAlarmBack: true)
    member.life!.core.advance(at: time, load: load)
    if member.life!.core.upkeepIsDue(at: time) {
      member.life!.core.upkeep(&member.life!.machine, at: time, load: load)
    }
    if let mark = member.life!.core.output.raft.restore {
      for (to, message) in try member.restore(mark, at: time) { send(message, from: member.id, to: to) }
      oracle.restored(member.id, member.life!.machine)
      sidecars[member.id]?.evictor.breakWatch()
    }
    flush(member, at: time)
    let entries = member.life!.core.output.raft.commit
    if !entries.isEmpty { apply(entries, at: member) }
    member.life!.core.settle(at: time)
    flush(member, at: time)
    let output = member.life!.core.output
    for peer in output.raft.sendSnapshot { sendState(to: peer, from: member) }
    oracle.check(member.id, member.life!.core)
    answer(output, of: member)
    scheduleWake(of: member, at: time)
  }

  private func answer(_ output: MemberOutput, of member: SimulatedMember) {
    for (ticket, result) in output.answers {
      if ticket < SimulatedStore.firstTicket {
        clients.answered(ticket, result, by: member.id, self)
      } else {
        sidecars[member.id]?.store.answered(ticket, result)
      }
    }
    for (ticket, failure) in output.reads {
      if ticket < SimulatedStore.firstTicket {
        clients.readAnswered(ticket, failure, by: member.id, self)
      } else {
        sidecars[member.id]?.store.readAnswered(ticket, failure)
      }
    }
  }

  private func scheduleWake(of member: SimulatedMember, at time: MonotonicTime) {
    let wake = member.life!.core.nextWake(after: time).nanoseconds - member.clockOffset
    let moment = max(wake, now + 100_000)
    if moment < member.life!.wakeAt {
      member.life!.wakeAt = moment
      queue.schedule(.wake(member.id, life: member.life!.number), at: moment)
    }
  }

  /// One entry at a time, so that the oracle sees the state after each.
  private func apply(_ entries: [Entry], at member: SimulatedMember) {
    for entry in entries { oracle.willApply(entry, at: member.id, member.life!.machine) }
    var events: [KeyspaceEvent] = []
    _ = member.life!.core.apply(to: &member.life!.machine, events: &events)
    oracle.applied(entries, events, at: member.id, member.life!.machine, trueTime: now)
    guard hasSidecars else { return }
    cacheOracle.applied(events, self)
    sidecars[member.id]?.evictor.tell(events)
  }

  private func flush(_ member: SimulatedMember, at time: MonotonicTime) {
    let parcel = member.life!.core.takeParcel(at: time)
    for (to, message) in parcel.messages { send(message, from: member.id, to: to) }
    guard !parcel.persist.isEmpty || !parcel.held.isEmpty else { return }
    let append = LogAppend(
      vote: parcel.persist.hardState.map { PersistentVote(term: $0.term, vote: $0.vote, commit: $0.commit) },
      records: parcel.persist.entries.map(LogRecord.init(entry:)))
    member.life!.writes.append((append, parcel.held))
    startWriting(member)
  }

  private func startWriting(_ member: SimulatedMember) {
    guard !member.life!.isWriting, !member.life!.writes.isEmpty else { return }
    member.life!.isWriting = true
    let microseconds = member.isDiskSlow ? random(10_000, 900_000) : random(50, 2_000)
    schedule(.written(member.id, life: member.life!.number), afterMicroseconds: microseconds)
  }

  private func completeWrites(of member: SimulatedMember) throws {
    let (held, persisted) = try member.completeWrites()
    member.life!.isWriting = false
    for (to, message) in held { send(message, from: member.id, to: to) }
    if let persisted { try handle(.persisted(index: persisted.index, term: persisted.term), at: member.id) }
    if member.life != nil { startWriting(member) }
  }

  // MARK: The network

  func send(_ message: PeerMessage, from: NodeID, to: NodeID) {
    for delay in network.delays(from, to, &generator) {
      schedule(.deliver(message, from: from, to: to), afterMicroseconds: delay)
    }
  }

  private func sendState(to peer: NodeID, from member: SimulatedMember) {
    let state = member.life!.machine
    let mark = MemberCore.mark(of: state)
    let delay = random(5, 800)
    let isLost = Int.random(in: 0..<4, using: &generator) == 0
    if isLost {
      schedule(.stateFails(from: member.id, to: peer, life: member.life!.number), afterMilliseconds: delay)
    } else {
      let term = member.life!.core.raft.term
      schedule(.stateArrives(state, mark, from: member.id, to: peer, term: term), afterMilliseconds: delay)
    }
  }

  /// As a node does: the state is stored aside first, then the message that names it is delivered.
  private func stateArrives(
    _ state: StateMachine, _ mark: SnapshotMark, from: NodeID, to: NodeID, term: Term
  ) throws {
    guard let sender = members[from]?.life?.number else { return }
    guard network.isOpen(from, to), let member = members[to], member.life != nil, !member.isPaused else {
      if living(from, sender) != nil { try handle(.snapshotFailed(to: to), at: from) }
      return
    }
    member.receivedState = (mark, try StateMachine(decoding: state.encoded()))
    let message = Message(from: from, to: to, term: term, body: .snapshot(mark))
    try turn(member, [.snapshotReady(message)])
    member.receivedState = nil
    try handle(.snapshotSent(to: to, index: mark.last.index), at: from)
  }
}
