import Primitives
import Raft

/// A cluster in one thread, with everything that may go wrong going wrong by the seed: loss, duplication, delay and
/// reordering of messages, partitions (full and one-way), slow disks, pauses, crashes that forget what was not synced
/// or keep a torn part of it. Then all faults stop, and the cluster must come to agree and to serve.
struct Simulation {
  private struct Flight {
    var message: Message
    var due: Int64
  }

  private struct Link: Hashable {
    var from: NodeID
    var to: NodeID
  }

  private let cluster: Cluster
  private var random: SeededGenerator
  private var flights: [Flight] = []
  private var cut: Set<Link> = []
  private var pausedUntil: [NodeID: Int64] = [:]
  /// Percent of rounds in which a disk finishes a write.
  private var diskSpeed: [NodeID: Int] = [:]
  private var isFaulty = true
  private var lossPercent: Int
  private var maxDelay: Int64
  private var nextRead: UInt64 = 1
  private var nextPayload: UInt64 = 1

  static let faultyRounds = 250
  /// Ten milliseconds each.
  static let roundsToRecover = 3_000

  init(voters: Int, seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let preVote = Int.random(in: 0..<4, using: &random) > 0
    let checkQuorum = Int.random(in: 0..<4, using: &random) > 0
    let isNarrow = Bool.random(using: &random)
    cluster = Cluster(voters: voters) { configuration in
      configuration.electionTimeout = 300
      configuration.heartbeatInterval = 50
      configuration.seed = seed
      configuration.preVote = preVote
      configuration.checkQuorum = checkQuorum
      configuration.maxInflightMessages = isNarrow ? 2 : 64
      configuration.maxMessageBytes = isNarrow ? 80 : 10_000
      configuration.maxBacklogBytes = 2_000
    }
    lossPercent = [0, 2, 10, 30].randomElement(using: &random)!
    maxDelay = [5, 40, 200].randomElement(using: &random)!
    for id in cluster.ids { diskSpeed[id] = [100, 60, 15].randomElement(using: &random)! }
    self.random = random
    cluster.startAll()
  }

  struct Result {
    var violations: [String]
    var problem: String?
    var delivered: Int
    var reads: Int
    var terms: Term
  }

  mutating func run() -> Result {
    for _ in 0..<Self.faultyRounds where cluster.violations.isEmpty {
      cluster.now.milliseconds += Int64.random(in: 1...20, using: &random)
      round()
      demand()
      fault()
    }
    let problem = cluster.violations.isEmpty ? recover() : nil
    let terms = cluster.ids.compactMap { cluster.core($0)?.term }.max() ?? 0
    return Result(
      violations: cluster.violations, problem: problem, delivered: cluster.deliveredEntries,
      reads: cluster.answeredReads, terms: terms)
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
      if chance(diskSpeed[id]!) { cluster.completeWrites(id, count: Int.random(in: 1...4, using: &random)) }
      if chance(60) { cluster.apply(id, count: Int.random(in: 1...8, using: &random)) }
    }
    if chance(5) { compactSome() }
    collect()
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
    if chance(20) { read(target) }
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

  /// Every member may forget what all members have applied: nobody will need a snapshot.
  private mutating func compactSome() {
    let index = cluster.ids.map { cluster.members[$0]!.applied }.min() ?? 0
    for id in cluster.ids where cluster.core(id) != nil && chance(50) { cluster.compact(id, through: index) }
  }

  // MARK: Faults

  private mutating func fault() {
    let victim = cluster.ids.randomElement(using: &random)!
    if chance(3) {
      let kept = Int.random(in: 0...cluster.pendingWrites(victim), using: &random)
      cluster.crash(victim, keepingWrites: kept, tornEntries: Int.random(in: -1...3, using: &random))
    }
    if chance(10) { cluster.start(victim) }
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
    let readsBefore = cluster.answeredReads
    for _ in 0..<Self.roundsToRecover where cluster.violations.isEmpty {
      cluster.now.milliseconds += 10
      round()
      if let leader = cluster.leader, target == nil || target! > cluster.core(leader)!.lastIndex {
        let output = cluster.step(leader, .propose([Array("last".utf8)]))
        target = output.accepted?.firstIndex
      }
      if let leader = cluster.leader, cluster.answeredReads == readsBefore { read(leader) }
      if let target, cluster.answeredReads > readsBefore, cluster.checker.openReads == 0, isAgreed(from: target) {
        return nil
      }
    }
    let states = cluster.ids.map { "\($0) \(cluster.core($0).map(TraceText.status) ?? "down")" }
    return "no agreement after the faults, \(cluster.checker.openReads) reads open: " + states.joined(separator: "; ")
  }

  private func isAgreed(from target: LogIndex) -> Bool {
    let cores = cluster.ids.compactMap { cluster.core($0) }
    guard cores.count == cluster.ids.count, cores.count(where: { $0.role == .leader }) == 1 else { return false }
    return cores.allSatisfy {
      $0.commitIndex >= target && $0.appliedIndex == $0.commitIndex && $0.commitIndex == cores[0].commitIndex
        && $0.lastIndex == $0.commitIndex
    }
  }

  private func isPaused(_ id: NodeID) -> Bool { pausedUntil[id, default: 0] > cluster.now.milliseconds }

  private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
}
