import Keyspace
import Primitives
import StateMachine
import TestSupport
import Testing

@Suite("A snapshot of the state")
struct StateMachineSnapshotTests {
  private static func filled() -> Log {
    var log = Log()
    log.at(
      123, .grant(1, 60_000), .grant(2, 5), .put("a", lease: 1), .put("b", lease: 1), .put("c"), .put("a", lease: 1))
    log.at(124, .member(.add(ClusterMember(id: 5, peerURLs: ["http://a:2380"]))), .member(.remove(id: 5)))
    log.at(125, .member(.add(ClusterMember(id: 6, peerURLs: ["http://b:2380"], isLearner: true))))
    log.machine.applyMembership([1, 2, 3])
    log.machine.skip(index: 9, term: 4)
    return log
  }

  @Test("keeps position, clock, keys and every remaining TTL to the millisecond")
  func roundTrip() throws {
    let log = Self.filled()
    let restored = try StateMachine(decoding: log.machine.encoded())
    #expect(restored.appliedIndex == 9)
    #expect(restored.appliedTerm == 4)
    #expect(restored.clock == LeaseClock(milliseconds: 125))
    #expect(restored.remainingMilliseconds(of: 1, at: LeaseClock(milliseconds: 1_123)) == 59_000)
    #expect(restored.remainingMilliseconds(of: 2, at: restored.clock) == 3)
    #expect(restored.cluster == log.machine.cluster && restored.cluster.membershipBytes == [1, 2, 3])
    #expect(restored.cluster.members.map(\.id) == [6] && restored.cluster.removedMembers == [5])
    #expect(restored.hash == log.machine.hash)
    #expect(restored.keys(of: 1) == ["a", "b"])
    #expect(restored.expiryBatch(at: LeaseClock(milliseconds: 128)).ids == [2])
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

  // MARK: In pieces

  /// Enough for many frames: long histories, leases, tombstones, alarms.
  private static func large(seed: UInt64) -> Log {
    var random = SeededGenerator(seed: seed)
    var log = Log()
    log.machine.recordChanges()
    for lease in 1...2_000 as ClosedRange<LeaseID> { log.at(lease, .grant(lease * 1_000, 1_000_000 + lease)) }
    for step in 0..<3_000 as Range<Int64> {
      let lease = LeaseID.random(in: 0...2_000, using: &random) * 1_000
      let key = Bytes("key/\(Int.random(in: 0..<900, using: &random))")
      let value = Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: step), count: Int(step) % 400))
      log.at(step, .put(PutRequest(key, value, lease: lease)))
      if step % 10 == 0 { log.at(step, .leaseRevoke(id: lease)) }
      if step % 700 == 0 { log.at(step, .compact(revision: log.machine.keyspace.revision - 100)) }
    }
    log.at(4_000, .alarm(.activate, Alarm(memberID: 1, kind: .noSpace)))
    return log
  }

  @Test("is the same bytes in whichever pieces it is written, and the same state in whichever it is read")
  func pieces() throws {
    let machine = Self.large(seed: 1).machine
    let bytes = machine.encoded()
    #expect(bytes.count > 200_000)
    var random = SeededGenerator(seed: 2)
    for most in [1_000, 40_000, 1_000_000] {
      var writer = StateSnapshotWriter(machine)
      var (written, reader) = ([UInt8](), StateSnapshotReader())
      while let piece = writer.next(maxBytes: .random(in: 1...most, using: &random)) { written += piece }
      #expect(written == bytes)
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Int.random(in: 1...most, using: &random)
        try reader.feed(rest.prefix(count))
        rest = rest.dropFirst(count)
      }
      #expect(try reader.finish().encoded() == bytes)
    }
  }

  @Test("is read in bounded memory by a driver that commits what is there already")
  func restoredThroughEngine() throws {
    var source = Self.large(seed: 3)
    var sourceEngine = MemoryEngine()
    sourceEngine.cut(&source.machine)
    sourceEngine.commit(&source.machine)
    var writer = StateSnapshotWriter(source.machine)
    var reader = StateSnapshotReader(recordingChanges: true)
    var engine = MemoryEngine()
    var mostRecent = 0
    while let piece = writer.next(maxBytes: 20_000) {
      try reader.feed(piece[...])
      mostRecent = max(mostRecent, reader.machine.keyspace.recentBytes)
      engine.cut(&reader.machine)
      engine.commit(&reader.machine)
      #expect(reader.machine.keyspace.recentBytes == 0)
    }
    #expect(mostRecent < 300_000)
    var restored = try reader.finish()
    #expect(restored.encoded() == source.machine.encoded())
    engine.cut(&restored)
    engine.commit(&restored)
    let loaded = try engine.load()
    #expect(loaded.encoded() == source.machine.encoded())
    for lease in loaded.leases.ids { #expect(loaded.keys(of: lease) == source.machine.keys(of: lease)) }
  }

  @Test("of the former format is refused by its number, and bytes behind the end are refused")
  func refusals() {
    #expect(throws: DecodingFailure.unknownVersion(1)) {
      try StateMachine(decoding: Array("LHSM".utf8) + [1] + [UInt8](repeating: 0, count: 40))
    }
    let bytes = Self.filled().machine.encoded()
    #expect(throws: DecodingFailure.trailingBytes(offset: bytes.count)) { try StateMachine(decoding: bytes + [0]) }
  }

  @Test("in pieces that are damaged is refused, and never crashes")
  func damagedPieces() {
    var random = SeededGenerator(seed: 8)
    let intact = Self.filled().machine.encoded()
    for _ in 0..<2_000 {
      var bytes = intact
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let position = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes.remove(at: position)
        default: bytes.insert(.random(in: 0...255, using: &random), at: position)
        }
      }
      guard bytes != intact else { continue }
      #expect(throws: DecodingFailure.self) {
        var reader = StateSnapshotReader()
        var rest = bytes[...]
        while !rest.isEmpty {
          let count = Int.random(in: 1...30, using: &random)
          try reader.feed(rest.prefix(count))
          rest = rest.dropFirst(count)
        }
        _ = try reader.finish()
      }
    }
  }
}

@Suite("The state from an engine")
struct StateLoaderTests {
  @Test("is refused when counts or leases do not agree")
  func refusals() throws {
    var log = Log()
    log.machine.recordChanges()
    log.at(5, .grant(1, 1_000), .grant(2, 1_000), .put("a", lease: 1), .put("b"), .put("a", lease: 2))
    var engine = MemoryEngine()
    engine.cut(&log.machine)
    engine.commit(&log.machine)
    let head = try #require(engine.head)
    #expect((head.keyCount, head.leaseCount, head.revision, head.nextOrdinal) == (2, 2, 4, 3))
    #expect(try engine.load().encoded() == log.machine.encoded())
    func expectRefusal(_ change: (inout StateHead) -> Void) {
      var wrong = head
      change(&wrong)
      #expect(throws: DecodingFailure.self) { try engine.load(wrong) }
    }
    expectRefusal { $0.keyCount = 3 }
    expectRefusal { $0.leaseCount = 1 }
    expectRefusal { $0.revision = 3 }
    expectRefusal { $0.revision = -5 }
    expectRefusal { $0.compactedRevision = 9 }
    expectRefusal { $0.nextOrdinal = 2 }
    expectRefusal { $0.alarms = [Alarm(memberID: 2, kind: .corrupt), Alarm(memberID: 1, kind: .corrupt)] }

    var loader = StateLoader(head: head)
    let key: [UInt8] = [1]
    try key.withUnsafeBytes {
      try loader.addVersion(key: $0, VersionReference(main: 2, ordinal: 0, isTombstone: false), lease: 3)
    }
    #expect(throws: DecodingFailure.self) {
      try loader.addLease(id: 1, ttlMilliseconds: 5, deadlineMilliseconds: 5)
    }
    #expect(throws: DecodingFailure.self) { try loader.finish(archive: MemoryArchive([:]), archivedBytes: 0) }
  }

  @Test("goes on where a compaction had been interrupted")
  func unfinishedCompaction() throws {
    var log = Log()
    log.machine.recordChanges()
    for number in 0..<300 { log.at(0, .put(Bytes("key \(number % 100)"))) }
    log.at(0, .compact(revision: 301))
    var engine = MemoryEngine()
    engine.cut(&log.machine)
    engine.commit(&log.machine)
    var loaded = try engine.load()
    let bytes = loaded.encoded()
    #expect(bytes == log.machine.encoded())
    for _ in 0..<10 { loaded.advanceCompaction(maxKeys: 20) }
    engine.cut(&loaded)
    engine.commit(&loaded)
    #expect(engine.versions.count == 100)
    #expect(loaded.encoded() == bytes)
  }
}
