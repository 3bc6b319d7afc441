import Keyspace
import Member
import Primitives
import Raft
import StateMachine

/// Callers, each with one request at a time at some member, and what their answers prove.
struct Clients {
  static let count = 6
  static let keyCount = 5

  enum Request {
    /// Write number: puts that value, and is found again in the log by it.
    case write(Int)
    case grant(LeaseID, ttlMilliseconds: Int64)
    case renew(LeaseID)
    case revoke(LeaseID)
    case read
    /// A change of members, asked for by the faults.
    case members
  }

  struct Open {
    var request: Request
    var client: Int
    var member: NodeID
    var asked: Int64
    /// Everything acknowledged before this request was made lies at or below this index.
    var floor: LogIndex
  }

  var isStopped = false
  private var nextTicket: UInt64 = 0
  private var open: [UInt64: Open] = [:]
  private var nextWrite = 0
  private var nextLease: LeaseID = 0
  private var known: [LeaseID] = []
  /// Highest index of an acknowledged request.
  private(set) var acknowledgedIndex: LogIndex = 0
  /// Writes that were refused: they must never happen.
  private(set) var refusedWrites: [Int] = []
  private(set) var succeeded = 0
  private(set) var failed = 0
  private(set) var unknown = 0
  /// Requests that succeeded since the faults ended, by member.
  var successes: [NodeID: Int] = [:]

  // MARK: Asking

  mutating func next(for client: Int, at member: NodeID, now: Int64, _ generator: inout SeededGenerator) -> MemberEvent
  {
    nextTicket += 1
    let ticket = nextTicket
    let (request, commands) = draw(&generator)
    open[ticket] = Open(request: request, client: client, member: member, asked: now, floor: acknowledgedIndex)
    guard let commands else { return .read(ticket) }
    return .proposal(commands, bytes: commands.reduce(0) { $0 + $1.approximateBytes }, ticket: ticket)
  }

  mutating func ask(_ change: MemberChange, at member: NodeID, now: Int64) -> MemberEvent {
    nextTicket += 1
    open[nextTicket] = Open(request: .members, client: -1, member: member, asked: now, floor: acknowledgedIndex)
    return .proposal([.member(change)], bytes: 100, ticket: nextTicket)
  }

  mutating func askForTransfer(to target: NodeID, at member: NodeID, now: Int64) -> MemberEvent {
    nextTicket += 1
    open[nextTicket] = Open(request: .members, client: -1, member: member, asked: now, floor: 0)
    return target == member ? .handOver(ticket: nextTicket) : .transferLeadership(to: target, ticket: nextTicket)
  }

  private mutating func draw(_ generator: inout SeededGenerator) -> (Request, [Command]?) {
    switch Int.random(in: 0..<100, using: &generator) {
    case ..<35: return write(lease: 0, &generator)
    case ..<45:
      if let lease = known.randomElement(using: &generator) { return write(lease: lease, &generator) }
      return write(lease: 0, &generator)
    case ..<60:
      nextLease += 1
      known.append(nextLease)
      if known.count > 12 { known.removeFirst() }
      let ttl = Int64.random(in: 2_000...9_000, using: &generator)
      return (.grant(nextLease, ttlMilliseconds: ttl), [.leaseGrant(id: nextLease, ttlMilliseconds: ttl)])
    case ..<75:
      guard let lease = known.randomElement(using: &generator) else { return (.read, nil) }
      return (.renew(lease), [.leaseRenew(ids: [lease])])
    case ..<78:
      guard let lease = known.randomElement(using: &generator) else { return (.read, nil) }
      return (.revoke(lease), [.leaseRevoke(id: lease)])
    default: return (.read, nil)
    }
  }

  private mutating func write(lease: LeaseID, _ generator: inout SeededGenerator) -> (Request, [Command]?) {
    nextWrite += 1
    let key = Bytes("k\(Int.random(in: 0..<Self.keyCount, using: &generator))")
    let put = PutRequest(key, Bytes("w\(nextWrite)"), lease: lease)
    if lease == 0, Bool.random(using: &generator) {
      let request = TransactionRequest(
        comparisons: [], success: [.put(put), .delete(DeleteRequest(.single(Bytes("gone"))))], failure: [])
      return (.write(nextWrite), [.transaction(request)])
    }
    return (.write(nextWrite), [.put(put)])
  }

  /// The numbers of the writes in a command of the log.
  static func writes(in command: Command) -> [Int] {
    switch command {
    case .put(let put): number(put).map { [$0] } ?? []
    case .transaction(let request):
      request.success.compactMap { if case .put(let put) = $0 { number(put) } else { nil } }
    default: []
    }
  }

  private static func number(_ put: PutRequest) -> Int? {
    let text = String(decoding: put.value.array, as: UTF8.self)
    return text.hasPrefix("w") ? Int(text.dropFirst()) : nil
  }

  // MARK: Answers

  mutating func memberDied(_ id: NodeID) {
    for (ticket, request) in open where request.member == id {
      open[ticket] = nil
      unknown += 1
    }
  }

  mutating func answered(_ ticket: UInt64, _ result: ProposalResult, by id: NodeID, _ world: World) {
    guard let request = open.removeValue(forKey: ticket) else {
      return world.oracle.violate("member \(id) answers ticket \(ticket), which nobody holds")
    }
    switch result {
    case .success(let results): succeed(request, results.first, by: id, world)
    case .failure(let error): fail(request, error)
    }
  }

  private mutating func succeed(_ request: Open, _ result: CommandResult?, by id: NodeID, _ world: World) {
    succeeded += 1
    successes[id, default: 0] += 1
    let applied = world.members[id]!.life!.machine.appliedIndex
    switch (request.request, result) {
    case (.write(let number), .refused?):
      // On a lease that is gone. It is in the log, without effect.
      world.oracle.expect(world.oracle.writes[number] != nil, "write \(number) is answered and not in the log")
    case (.write(let number), _):
      let index = world.oracle.writes[number] ?? 0
      world.oracle.expect(index > 0, "write \(number) is acknowledged and not in the log")
      world.oracle.expect(
        index > request.floor, "write \(number) at \(index) was asked for after \(request.floor) was acknowledged")
      acknowledgedIndex = max(acknowledgedIndex, index)
    case (.grant(let lease, let ttl), .leaseGranted?):
      world.oracle.alive(lease, ttlMilliseconds: ttl, asked: request.asked)
    case (.renew(let lease), .leasesRenewed(let ttls, _)?) where ttls[0] > 0:
      world.oracle.alive(lease, ttlMilliseconds: ttls[0], asked: request.asked)
    default: break
    }
    world.oracle.expect(applied >= request.floor, "an answer of member \(id) comes from before \(request.floor)")
  }

  private mutating func fail(_ request: Open, _ error: ProposalError) {
    switch error {
    case .timedOut, .timedOutByLeaderFailure, .stopped: unknown += 1
    default:
      failed += 1
      if case .write(let number) = request.request { refusedWrites.append(number) }
    }
  }

  /// A linearizable read sees everything that was acknowledged to anybody before it was asked for.
  mutating func readAnswered(_ ticket: UInt64, _ failure: ProposalError?, by id: NodeID, _ world: World) {
    guard let request = open.removeValue(forKey: ticket) else {
      return world.oracle.violate("member \(id) answers read \(ticket), which nobody holds")
    }
    guard failure == nil else { return unknown += 1 }
    succeeded += 1
    let applied = world.members[id]!.life!.machine.appliedIndex
    world.oracle.expect(
      applied >= request.floor, "a linearizable read at member \(id) sees \(applied), not \(request.floor)")
  }

  /// Whether the client waits for an answer.
  func isBusy(_ client: Int) -> Bool { open.values.contains { $0.client == client } }

  var openCount: Int { open.count }
}

extension World {
  func scheduleClients() {
    for client in 0..<Clients.count { schedule(.client(client), afterMilliseconds: random(100, 1_000)) }
  }

  func clientActs(_ client: Int) throws {
    guard !clients.isStopped else { return }
    schedule(.client(client), afterMilliseconds: random(5, 150))
    guard !clients.isBusy(client) else { return }
    let alive = members.keys.sorted().filter { members[$0]!.life != nil }
    guard let id = alive.randomElement(using: &generator) else { return }
    let event = clients.next(for: client, at: id, now: now, &generator)
    try handle(event, at: id)
  }
}
