import Keyspace
import Primitives
import StateMachine
import TestSupport
import Testing

/// What a client would believe about deadlines from the answers alone.
private struct DeadlineOracle {
  var clock = LeaseClock.zero
  var ttls: [LeaseID: Int64] = [:]
  var deadlines: [LeaseID: LeaseClock] = [:]

  mutating func observe(_ batch: CommandBatch, _ results: [CommandResult]) {
    clock = max(clock, batch.clock)
    for (command, result) in zip(batch.commands, results) { observe(command, result) }
  }

  private mutating func observe(_ command: Command, _ result: CommandResult) {
    switch (command, result) {
    case (.leaseGrant(let id, let ttl), .leaseGranted): granted(id, ttl)
    case (.grantAndTransact(let grants, _, let revokes), .transaction(let outcome, _)) where outcome.succeeded:
      for grant in grants { granted(grant.id, grant.ttlMilliseconds) }
      for id in revokes { deadlines[id] = nil }
    case (.leaseRevoke(let id), .leaseRevoked): deadlines[id] = nil
    case (.leaseRenew(let ids), .leasesRenewed(let answers, _)):
      for (id, ttl) in zip(ids, answers) {
        #expect(ttl == (deadlines[id] == nil ? 0 : ttls[id]))
        if ttl > 0 { deadlines[id] = clock.advanced(byMilliseconds: ttl) }
      }
    case (.leaseExpire(let ids), .leasesExpired(let count, _)):
      let due = Set(ids).filter { id in deadlines[id].map { $0 <= clock } ?? false }
      #expect(count == due.count)
      for id in due { deadlines[id] = nil }
    default: break
    }
  }

  private mutating func granted(_ id: LeaseID, _ ttl: Int64) {
    #expect(deadlines[id] == nil)
    ttls[id] = ttl
    deadlines[id] = clock.advanced(byMilliseconds: ttl)
  }
}

@Suite("A state machine under random entries")
struct StateMachineModelTests {
  /// What must hold after every entry: leases and keys agree about each other, and time and revisions never fall.
  private func checkInvariants(_ log: Log, after before: StateMachine) throws {
    let machine = log.machine
    #expect(machine.clock >= before.clock)
    #expect(machine.keyspace.revision >= before.keyspace.revision)
    var attached: [LeaseID: [Bytes]] = [:]
    for record in try machine.keyspace.range(RangeQuery(.from([0]))).records where record.lease != 0 {
      attached[record.lease, default: []].append(record.key)
    }
    for lease in machine.leases.ids { #expect(machine.keys(of: lease) == attached.removeValue(forKey: lease) ?? []) }
    #expect(attached.isEmpty, "keys on leases that are gone")

    for event in log.events where event.kind == .delete(.leaseExpired) {
      let lease = try #require(event.previous?.lease)
      #expect(try #require(before.leases.deadline(of: lease)) <= machine.clock)
    }
    let revisions = log.events.map(\.record.modRevision)
    #expect(revisions == revisions.sorted())
  }

  @Test("keeps leases and keys in agreement", arguments: 0..<6 as Range<UInt64>)
  func agreement(seed: UInt64) throws {
    var workload = Workload(random: SeededGenerator(seed: seed))
    var log = Log()
    var oracle = DeadlineOracle()
    for _ in 0..<300 {
      let before = log.machine
      let batch = workload.batch()
      oracle.observe(batch, log.apply(batch))
      try checkInvariants(log, after: before)
      #expect(Set(log.machine.leases.ids) == Set(oracle.deadlines.keys))
      for (lease, deadline) in oracle.deadlines { #expect(log.machine.leases.deadline(of: lease) == deadline) }
    }
    #expect(log.machine.leases.violation == nil)
  }

  @Test(
    "is the same on two members, and on one restored from a snapshot in the middle",
    arguments: 10..<16 as Range<UInt64>)
  func determinism(seed: UInt64) throws {
    var workload = Workload(random: SeededGenerator(seed: seed))
    var first = Log()
    var second = Log()
    for step in 0..<300 {
      let batch = workload.batch()
      let results = first.apply(batch)
      #expect(second.apply(batch) == results)
      #expect(first.events == second.events)
      #expect(first.machine.hash == second.machine.hash)
      if step % 37 == 0 { second.machine = try StateMachine(decoding: second.machine.encoded()) }
      #expect(
        try first.machine.keyspace.hash(at: first.machine.keyspace.revision)
          == second.machine.keyspace.hash(at: second.machine.keyspace.revision))
    }
    #expect(first.machine.encoded() == second.machine.encoded())
  }

  @Test(
    "is the same when its versions leave memory at any moment, and after starting again from the engine",
    arguments: 20..<32 as Range<UInt64>)
  func writeBehind(seed: UInt64) throws {
    var workload = Workload(random: SeededGenerator(seed: seed))
    var (first, second) = (Log(), Log())
    var engine = MemoryEngine()
    first.machine.recordChanges()
    for step in 0..<300 {
      let batch = workload.batch()
      let results = first.apply(batch)
      #expect(second.apply(batch) == results)
      #expect(first.events == second.events)
      if step % 40 == 20 {
        let revision = second.machine.keyspace.revision - 3
        #expect(
          first.apply(workload.batch(of: [.compact(revision: revision)]))
            == second.apply(workload.batch(of: [.compact(revision: revision)])))
      }
      switch Int.random(in: 0..<20, using: &workload.random) {
      case ..<4: if engine.pending == nil { engine.cut(&first.machine) }
      case ..<8: engine.commit(&first.machine)
      case 8:
        engine.commit(&first.machine)
        engine.cut(&first.machine)
        engine.commit(&first.machine)
        #expect(first.machine.uncommittedBytes == 0)
        let before = first.machine.encoded()
        first.machine = try engine.load()
        #expect(first.machine.encoded() == before)
        #expect(first.machine.leases.violation == nil)
        for lease in second.machine.leases.ids {
          #expect(first.machine.keys(of: lease) == second.machine.keys(of: lease))
        }
      default: break
      }
    }
    #expect(first.machine.encoded() == second.machine.encoded())
  }
}
