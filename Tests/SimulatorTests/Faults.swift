import Member
import Primitives
import Raft
import StateMachine

/// What goes wrong, and when it is put right again.
struct Faults {
  /// No fault any more.
  var isOver = false
  /// The next member that joins.
  var nextMember: NodeID
  var counts: [String: Int] = [:]
  /// Members that have been asked out: their process ends when the cluster has agreed.
  var leaving: Set<NodeID> = []
}

extension World {
  func injectFault() throws {
    guard !faults.isOver else { return }
    schedule(.fault, afterMilliseconds: random(200, 2_500))
    try settleMembers()
    let ids = members.keys.sorted()
    guard let id = ids.randomElement(using: &generator), let other = ids.randomElement(using: &generator) else {
      return
    }
    switch Int.random(in: 0..<17, using: &generator) {
    case 0, 1: count("crash", crash(id, losingPower: false))
    case 2, 3: count("power loss", crash(id, losingPower: true))
    case 4: count("power loss of all", ids.forEach { crash($0, losingPower: true) })
    case 5, 6: for id in ids where members[id]!.life == nil { try start(id, genesis: nil) }
    case 7: count("pause", members[id]!.isPaused = members[id]!.life != nil)
    case 8: try resumeAll()
    case 9: count("partition", isolate(id))
    case 10: count("one-way partition", network.close(from: id, to: other))
    case 11: count("split", split(ids))
    case 12, 13: network.heal()
    case 14:
      count("bad network", ())
      network.lostPerMille = Int(random(0, 200))
      network.repeatedPerMille = Int(random(0, 200))
      network.maxDelayMicroseconds = random(500, 400_000)
    case 15: count("slow disk", members[id]!.isDiskSlow.toggle())
    default: try changeMembers()
    }
  }

  private func count(_ name: String, _ effect: Void) {
    faults.counts[name, default: 0] += 1
    trace.note(now, name)
  }

  private func isolate(_ id: NodeID) {
    for other in members.keys {
      network.close(from: id, to: other)
      network.close(from: other, to: id)
    }
  }

  /// Two halves; sometimes one member belongs to both and bridges them.
  private func split(_ ids: [NodeID]) {
    let bridge = Bool.random(using: &generator) ? ids.randomElement(using: &generator) : nil
    let side = Dictionary(uniqueKeysWithValues: ids.map { ($0, Bool.random(using: &generator)) })
    for from in ids {
      for to in ids where from != to && side[from] != side[to] && from != bridge && to != bridge {
        network.close(from: from, to: to)
      }
    }
  }

  private func resumeAll() throws {
    for id in members.keys.sorted() where members[id]!.isPaused {
      let member = members[id]!
      member.isPaused = false
      let events = member.backlog
      member.backlog = []
      if member.life != nil { try turn(member, events) }
      try sidecars[id]?.resumed()
    }
  }

  // MARK: Members

  /// Asks some member for a change; whether it comes to pass is the cluster's matter.
  private func changeMembers() throws {
    let alive = members.keys.sorted().filter { members[$0]!.life != nil && !members[$0]!.isPaused }
    guard let asked = alive.randomElement(using: &generator) else { return }
    let cluster = members[asked]!.life!.machine.cluster
    guard let victim = cluster.members.randomElement(using: &generator) else { return }
    switch Int.random(in: 0..<4, using: &generator) {
    case 0:
      let voters = cluster.members.filter { !$0.isLearner }
      guard let target = voters.randomElement(using: &generator) else { return }
      count("transfer", ())
      try handle(clients.askForTransfer(to: target.id, at: asked, now: now), at: asked)
    case 1 where cluster.members.count > 3:
      count("remove member", ())
      faults.leaving.insert(victim.id)
      try handle(clients.ask(.remove(id: victim.id), at: asked, now: now), at: asked)
    case 2, 3:
      guard cluster.members.count < 6 else { return }
      let id = faults.nextMember
      faults.nextMember += 1
      count("add member", ())
      let member = ClusterMember(id: id, peerURLs: ["sim://\(id)"], isLearner: Bool.random(using: &generator))
      try handle(clients.ask(.add(member), at: asked, now: now), at: asked)
    default: break
    }
  }

  /// Members that the cluster has taken in are started; those that it has put out end.
  func settleMembers() throws {
    for known in members.values.compactMap({ $0.life?.machine.cluster }) {
      for member in known.members where members[member.id] == nil && !known.removedMembers.contains(member.id) {
        members[member.id] = SimulatedMember(id: member.id, clusterID: genesis.id)
        try start(member.id, genesis: nil)
      }
    }
    let newest = members.values.compactMap { $0.life?.machine }.max { $0.appliedIndex < $1.appliedIndex }
    for id in newest?.cluster.removedMembers ?? [] where members[id] != nil {
      crash(id, losingPower: false)
      members[id] = nil
    }
  }

  // MARK: The end

  func healAll() throws {
    faults.isOver = true
    cacheOracle.healedAt = now
    trace.note(now, "everything heals")
    network.heal()
    clients.successes = [:]
    for member in members.values { member.isDiskSlow = false }
    try resumeAll()
    for id in members.keys.sorted() where members[id]!.life == nil { try start(id, genesis: nil) }
    try settleMembers()
  }

  var newestAppliedIndex: LogIndex { members.values.compactMap { $0.life?.machine.appliedIndex }.max() ?? 0 }

  /// Long after the last fault, and some time after the last request.
  /// - Parameter index: how far the first had come a second ago; a leader records its clock at any time.
  func checkEnd(appliedByAll index: LogIndex) {
    guard oracle.violations.isEmpty else { return }
    let newest = members.values.compactMap { $0.life?.machine }.max { $0.appliedIndex < $1.appliedIndex }!
    let ids = newest.cluster.members.map(\.id)
    for id in ids {
      guard let life = members[id]?.life else {
        oracle.violate("member \(id) does not run")
        continue
      }
      oracle.expect(life.machine.appliedIndex >= index, "member \(id) has not caught up")
      oracle.expect(life.machine.cluster == newest.cluster, "member \(id) knows other members")
      oracle.expect(
        life.machine.appliedIndex != newest.appliedIndex || life.machine.encoded() == newest.encoded(),
        "member \(id) ends with another state")
      oracle.expect(clients.successes[id, default: 0] > 0, "no request succeeds at member \(id) after the faults")
    }
    oracle.expect(clients.openCount == 0, "\(clients.openCount) requests are never answered")
    oracle.expect(newest.leases.count == 0, "\(newest.leases.count) leases never expire")
    if hasSidecars { cacheOracle.checkEnd(&oracle, now: now) }
    for number in clients.refusedWrites {
      oracle.expect(oracle.writes[number] == nil, "write \(number) was refused and happens all the same")
    }
  }
}
