import Keyspace
import Primitives
import StateMachine
import Testing

/// Sensible entries in random order: leases and keys from small sets, so that they meet.
private struct Workload {
  var random: SeededGenerator
  var clock: Int64 = 0

  mutating func key() -> Bytes { Bytes("key\(Int.random(in: 0..<30, using: &random))") }
  mutating func lease() -> LeaseID { Int64.random(in: 1...12, using: &random) }
  mutating func leaseOrNone() -> LeaseID { Bool.random(using: &random) ? 0 : lease() }
  mutating func put() -> PutRequest { PutRequest(key(), Bytes("v\(clock)"), lease: leaseOrNone()) }

  mutating func command() -> Command {
    switch Int.random(in: 0..<14, using: &random) {
    case 0...3: return .put(put())
    case 4: return .delete(key())
    case 5: return .delete(DeleteRequest(.halfOpen(start: "key1", end: key())))
    case 6, 7: return .grant(lease(), Int64.random(in: 1...3_000, using: &random))
    case 8: return .leaseRevoke(id: lease())
    case 9: return .leaseRenew(ids: [lease(), lease()])
    case 10: return .leaseExpire(ids: (1...12).map { $0 })
    case 11:
      return .transaction(
        TransactionRequest(
          comparisons: [Comparison(.single(key()), .greater, .createRevision(0))],
          success: [.delete(DeleteRequest(.single("key5"))), .put(put())], failure: [.put(PutRequest("x", "y"))]))
    case 12:
      let id = lease()
      return .grantAndTransact(
        grants: [LeaseGrant(id: id, ttlMilliseconds: 700)],
        request: TransactionRequest(
          comparisons: [Comparison(.single(key()), .equal, .createRevision(0))],
          success: [.put(PutRequest(key(), "g", lease: id))]))
    default: return .tick
    }
  }

  mutating func batch() -> CommandBatch {
    clock += Int64.random(in: -50...300, using: &random)
    let count = Int.random(in: 0...5, using: &random)
    return CommandBatch(clock: LeaseClock(milliseconds: clock), commands: (0..<count).map { _ in command() })
  }
}

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
    case (.grantAndTransact(let grants, _), .transaction(let outcome, _)) where outcome.succeeded:
      for grant in grants { granted(grant.id, grant.ttlMilliseconds) }
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
      if step % 37 == 0 { second.machine = try StateMachine(decoding: second.machine.encoded()) }
      #expect(
        try first.machine.keyspace.hash(at: first.machine.keyspace.revision)
          == second.machine.keyspace.hash(at: second.machine.keyspace.revision))
    }
    #expect(first.machine.encoded() == second.machine.encoded())
  }
}

@Suite("A snapshot of the state")
struct StateMachineSnapshotTests {
  private static func filled() -> Log {
    var log = Log()
    log.at(
      123, .grant(1, 60_000), .grant(2, 5), .put("a", lease: 1), .put("b", lease: 1), .put("c"), .put("a", lease: 1))
    log.machine.skip(index: 9, term: 4)
    return log
  }

  @Test("keeps position, clock, keys and every remaining TTL to the millisecond")
  func roundTrip() throws {
    let log = Self.filled()
    let restored = try StateMachine(decoding: log.machine.encoded())
    #expect(restored.appliedIndex == 9)
    #expect(restored.appliedTerm == 4)
    #expect(restored.clock == LeaseClock(milliseconds: 123))
    #expect(restored.remainingMilliseconds(of: 1, at: LeaseClock(milliseconds: 1_123)) == 59_000)
    #expect(restored.remainingMilliseconds(of: 2, at: restored.clock) == 5)
    #expect(restored.keys(of: 1) == ["a", "b"])
    #expect(restored.dueLeases(at: LeaseClock(milliseconds: 128)) == [2])
    #expect(restored.encoded() == log.machine.encoded())
  }

  @Test("taken by copying stays as it was while the original goes on")
  func copyIsFrozen() {
    var log = Self.filled()
    let copy = log.machine
    let bytes = copy.encoded()
    var results: [CommandResult] = []
    var events: [KeyspaceEvent] = []
    log.machine.apply(
      CommandBatch(clock: LeaseClock(milliseconds: 900), commands: [.leaseRevoke(id: 1), .put("d")]), index: 10,
      term: 4,
      results: &results, events: &events)
    #expect(copy.encoded() == bytes)
    #expect(log.machine.encoded() != bytes)
  }

  @Test("is refused when a single bit is wrong, or its end is missing")
  func checksum() {
    let bytes = Self.filled().machine.encoded()
    for position in bytes.indices {
      var damaged = bytes
      damaged[position] ^= 0x10
      #expect(throws: DecodingFailure.self) { try StateMachine(decoding: damaged) }
      #expect(throws: DecodingFailure.self) { try StateMachine(decoding: Array(bytes[..<position])) }
    }
  }

  @Test("that is forged behind a right checksum is refused or read as some state, and never crashes")
  func forged() {
    var random = SeededGenerator(seed: 5)
    let intact = Array(Self.filled().machine.encoded().dropLast(4))
    for _ in 0..<3_000 {
      var bytes = intact
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 5..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      var writer = ByteWriter()
      for byte in bytes { writer.writeByte(byte) }
      writer.writeFixed(CRC32C.checksum(bytes))
      if let machine = try? StateMachine(decoding: writer.bytes) {
        #expect(machine.leases.ids.allSatisfy { machine.keys(of: $0).count <= machine.keyspace.keyCount })
      }
    }
  }
}
