import Primitives
import Raft

/// A cluster in one thread, with everything that may go wrong going wrong by the seed: loss, duplication, delay and
/// reordering of messages, partitions (full and one-way), slow disks, pauses, crashes that forget what was not synced
/// or keep a torn part of it, states that arrive late or not at all. Meanwhile members come and go, leadership is
/// transferred, logs are compacted below what laggards need. Then all faults stop, and the cluster must come to agree
/// and to serve.
struct Simulation {
  private struct Flight {
    var message: Message
    var due: Int64
  }

  /// A state on its way, and then the news of it on its way back.
  private struct Transit {
    var message: Message
    var due: Int64
    var news: Event?
  }

  private struct Link: Hashable {
    var from: NodeID
    var to: NodeID
  }

  private let cluster: Cluster
  private var random: SeededGenerator
  private var flights: [Flight] = []
  private var transits: [Transit] = []
  private var cut: Set<Link> = []
  private var pausedUntil: [NodeID: Int64] = [:]
  /// Percent of rounds in which a disk finishes a write.
  private var diskSpeed: [NodeID: Int] = [:]
  private var isFaulty = true
  private var lossPercent: Int
  private var maxDelay: Int64
  /// Of the rounds.
  private let faultPercent: Int
  private let changePercent: Int
  /// Only both of pre-vote and the check of the quorum keep those from disturbing that do not know of their removal
  /// (thesis §4.2.3).
  private let expelledMayStay: Bool
  private var nextRead: UInt64 = 1
  private var nextPayload: UInt64 = 1

  static let maxMembers: NodeID = 7
  static let faultyRounds = 200...800
  /// Ten milliseconds each.
  static let roundsToRecover = 3_000

  init(voters: Int, seed: UInt64, tell: ((String) -> Void)? = nil) {
    var random = SeededGenerator(seed: seed)
    let preVote = Int.random(in: 0..<4, using: &random) > 0
    let checkQuorum = Int.random(in: 0..<4, using: &random) > 0
    let isNarrow = Bool.random(using: &random)
    let leaseReads = checkQuorum && Int.random(in: 0..<3, using: &random) == 0
    faultPercent = [10, 40, 100].randomElement(using: &random)!
    changePercent = [0, 5, 15].randomElement(using: &random)!
    expelledMayStay = preVote && checkQuorum
    cluster = Cluster(voters: voters, genesis: true) { configuration in
      configuration.electionTimeout = 300
      configuration.heartbeatInterval = 50
      configuration.seed = seed
      configuration.preVote = preVote
      configuration.checkQuorum = checkQuorum
      configuration.leaseReads = leaseReads
      configuration.maxInflightMessages = isNarrow ? 2 : 64
      configuration.maxMessageBytes = isNarrow ? 80 : 10_000
      configuration.maxBacklogBytes = 2_000
    }
    lossPercent = [0, 2, 10, 30].randomElement(using: &random)!
    maxDelay = [5, 40, 200].randomElement(using: &random)!
    for id in cluster.ids { diskSpeed[id] = [100, 60, 15].randomElement(using: &random)! }
    self.random = random
    cluster.tell = tell
    cluster.tellCause = tell
    cluster.startAll()
  }

  struct Result {
    var violations: [String]
    var problem: String?
    var counts: Cluster.Counts
    var changes: Int
    var jointChanges: Int
    var terms: Term
  }

  mutating func run() -> Result {
    for _ in 0..<Int.random(in: Self.faultyRounds, using: &random) where cluster.violations.isEmpty {
      cluster.now.milliseconds += Int64.random(in: 1...20, using: &random)
      round()
      demand()
      if chance(faultPercent) { fault() }
    }
    let problem = cluster.violations.isEmpty ? recover() : nil
    let terms = cluster.ids.compactMap { cluster.core($0)?.term }.max() ?? 0
    return Result(
      violations: cluster.violations, problem: problem, counts: cluster.counts,
      changes: cluster.checker.committedChanges.count - 1,
      jointChanges: cluster.checker.committedChanges.count { $0.membership.isJoint }, terms: terms)
  }

  // MARK: One round

  private mutating func round() {
    collect()
    let now = cluster.now.milliseconds
    let isDue = { [pausedUntil] (flight: Flight) in
      flight.due <= now && pausedUntil[flight.message.to, default: 0] <= now
    }
    var due = flights.filter(isDue)
    flights.removeAll(where: isDue)
    due.shuffle(using: &random)
    for flight in due where !cut.contains(Link(from: flight.message.from, to: flight.message.to)) {
      cluster.deliver(flight.message)
    }
    for id in cluster.ids where !isPaused(id) {
      guard let core = cluster.core(id) else { continue }
      if core.nextDeadline <= cluster.now { cluster.step(id, .tick) }
      if chance(diskSpeed[id, default: 100]) {
        cluster.completeWrites(id, count: Int.random(in: 1...4, using: &random))
      }
      if chance(60) { cluster.apply(id, count: Int.random(in: 1...8, using: &random)) }
    }
    if chance(5) { compactSome() }
    moveStates()
    collect()
  }

  /// States that leaders want moved set out, arrive, or are lost; the news of it may be wrong.
  private mutating func moveStates() {
    let now = cluster.now.milliseconds
    for (from, to, term) in cluster.wantedSnapshots {
      guard let mark = cluster.snapshot(of: from) else { continue }
      let message = Message(from: from, to: to, term: term, body: .snapshot(mark))
      let delay = Int64.random(in: 0...(isFaulty ? 400 : 50), using: &random)
      transits.append(Transit(message: message, due: now + delay))
    }
    cluster.wantedSnapshots = []
    let due = transits.filter { $0.due <= now }
    transits.removeAll { $0.due <= now }
    for transit in due {
      let message = transit.message
      if let news = transit.news {
        cluster.step(message.from, news)
        continue
      }
      guard case .snapshot(let mark) = message.body else { continue }
      let isLost = isFaulty && (chance(20) || cut.contains(Link(from: message.from, to: message.to)))
      let isMoved = !isLost && cluster.core(message.to) != nil && !isPaused(message.to)
      if isMoved { cluster.deliver(message) }
      // An impatient leader may have sent it twice.
      if isFaulty, chance(30) {
        let again = cluster.now.milliseconds + Int64.random(in: 1...400, using: &random)
        transits.append(Transit(message: message, due: again))
      }
      let isTold = isMoved && !(isFaulty && chance(10))
      let news: Event = isTold ? .snapshotSent(to: message.to, index: mark.last.index) : .snapshotFailed(to: message.to)
      transits.append(Transit(message: message, due: now + (isFaulty ? maxDelay : 1), news: news))
    }
  }

  private mutating func collect() {
    for message in cluster.network {
      if isFaulty, chance(lossPercent) { continue }
      let copies = isFaulty && chance(3) ? 2 : 1
      for _ in 0..<copies {
        let delay = Int64.random(in: 0...(isFaulty ? maxDelay : 5), using: &random)
        flights.append(Flight(message: message, due: cluster.now.milliseconds + delay))
      }
    }
    cluster.network = []
  }

  private mutating func demand() {
    guard let someone = cluster.ids.randomElement(using: &random) else { return }
    let target = chance(80) ? cluster.leader ?? someone : someone
    if chance(40) { propose(target, count: Int.random(in: 1...4, using: &random)) }
    if chance(20) { read(chance(60) ? target : someone) }
    readWhereItIsStale()
    if chance(changePercent) { changeMembership() }
    if chance(2) { cluster.step(target, .transferLeadership(to: someone)) }
  }

  /// While two believe to lead, reads are asked where they might miss what the later one has committed.
  private mutating func readWhereItIsStale() {
    let leaders = cluster.ids.filter { cluster.core($0)?.role == .leader }
    guard leaders.count > 1, let latest = cluster.leader else { return }
    for id in cluster.ids where chance(50) {
      if let believed = cluster.core(id)?.leader, believed != latest, leaders.contains(believed) { read(id) }
    }
  }

  /// Somebody comes, goes, or takes another part; sometimes several at once.
  private mutating func changeMembership() {
    guard let leader = cluster.leader, let membership = cluster.core(leader)?.membership else { return }
    var voters = Set(membership.voters)
    var learners = Set(membership.learners)
    for _ in 0..<(chance(50) ? 1 : Int.random(in: 2...4, using: &random)) {
      let id = NodeID.random(in: 1...Self.maxMembers, using: &random)
      voters.remove(id)
      learners.remove(id)
      switch Int.random(in: 0..<5, using: &random) {
      case 0, 1: voters.insert(id)
      case 2, 3: learners.insert(id)
      default: break
      }
    }
    let target = Membership(voters: Array(voters), learners: Array(learners))
    let output = cluster.step(leader, .proposeMembership(target: target, command: [7]))
    if output.accepted != nil { for id in target.members { cluster.join(id) } }
  }

  private mutating func propose(_ id: NodeID, count: Int) {
    let payloads = (0..<count).map { _ in
      defer { nextPayload += 1 }
      return Array("\(nextPayload)".utf8)
    }
    cluster.step(id, .propose(payloads))
  }

  private mutating func read(_ id: NodeID) {
    cluster.step(id, .readIndex(context: nextRead))
    nextRead += 1
  }

  /// Members forget what they have applied, needed by others or not.
  private mutating func compactSome() {
    for id in cluster.ids where chance(40) {
      guard let core = cluster.core(id), core.firstIndex <= core.appliedIndex else { continue }
      cluster.compact(id, through: LogIndex.random(in: core.firstIndex...core.appliedIndex, using: &random))
    }
  }

  // MARK: Faults

  private mutating func fault() {
    let victim = cluster.ids.randomElement(using: &random)!
    if chance(3) {
      let kept = Int.random(in: 0...cluster.pendingWrites(victim), using: &random)
      cluster.crash(victim, keepingWrites: kept, tornEntries: Int.random(in: -1...3, using: &random))
    }
    if chance(10) { cluster.start(victim) }
    if chance(3), let leader = cluster.leader { cluster.step(leader, .unreachable(victim)) }
    if chance(2) { pausedUntil[victim] = cluster.now.milliseconds + Int64.random(in: 50...900, using: &random) }
    if chance(4) { partition(victim) }
    if chance(5) { cut = [] }
    if chance(2) { diskSpeed[victim] = [100, 60, 15, 0].randomElement(using: &random)! }
  }

  private mutating func partition(_ victim: NodeID) {
    let others = cluster.ids.filter { $0 != victim }
    guard let other = others.randomElement(using: &random) else { return }
    switch Int.random(in: 0..<3, using: &random) {
    case 0:
      for peer in others { cut.formUnion([Link(from: victim, to: peer), Link(from: peer, to: victim)]) }
    case 1:
      cut.insert(Link(from: victim, to: other))
    default:
      let side = Set(others.prefix(others.count / 2))
      for a in cluster.ids {
        for b in cluster.ids where side.contains(a) != side.contains(b) { cut.insert(Link(from: a, to: b)) }
      }
    }
  }

  // MARK: After the faults

  /// nil when the cluster came to serve and to agree.
  private mutating func recover() -> String? {
    isFaulty = false
    cut = []
    pausedUntil = [:]
    for id in cluster.ids {
      diskSpeed[id] = 100
      cluster.start(id)
    }
    var target: LogIndex?
    let readsBefore = cluster.counts.reads
    for _ in 0..<Self.roundsToRecover where cluster.violations.isEmpty {
      cluster.now.milliseconds += 10
      round()
      retireExpelled()
      if let leader = cluster.leader, target == nil || target! > cluster.core(leader)!.lastIndex {
        let output = cluster.step(leader, .propose([Array("last".utf8)]))
        target = output.accepted?.firstIndex
      }
      if let leader = cluster.leader, cluster.counts.reads == readsBefore { read(leader) }
      if let target, cluster.counts.reads > readsBefore, cluster.checker.openReads == 0, isAgreed(from: target) {
        return nil
      }
    }
    let states = cluster.ids.map { id in
      "\(id) \(cluster.core(id).map { "\(TraceText.status($0)), \(TraceText.membership($0))" } ?? "down")"
    }
    return "no agreement after the faults, \(cluster.checker.openReads) reads open: " + states.joined(separator: "; ")
  }

  /// Stops those that a settled leader does not know, if they would disturb. A later leader may know better.
  private mutating func retireExpelled() {
    guard !expelledMayStay, let leader = cluster.leader, let core = cluster.core(leader), core.hasCommittedInTerm,
      core.membership == core.committedMembership, !core.membership.isJoint
    else { return }
    for id in cluster.ids {
      if core.membership.contains(id) { cluster.start(id) } else { cluster.crash(id) }
    }
  }

  /// Those that belong to the group, which one of them leads.
  private func isAgreed(from target: LogIndex) -> Bool {
    guard let leader = cluster.leader, let membership = cluster.core(leader)?.membership, !membership.isJoint else {
      return false
    }
    let cores = membership.members.compactMap { cluster.core($0) }
    guard cores.count == membership.members.count, cores.count(where: { $0.role == .leader }) == 1 else { return false }
    return cores.allSatisfy {
      $0.commitIndex >= target && $0.appliedIndex == $0.commitIndex && $0.commitIndex == cores[0].commitIndex
        && $0.lastIndex == $0.commitIndex && $0.membership == membership
    }
  }

  private func isPaused(_ id: NodeID) -> Bool { pausedUntil[id, default: 0] > cluster.now.milliseconds }

  private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
}
