import Keyspace
import Primitives
import Testing

@Suite("A keyspace survives as bytes, and no bytes can harm it")
struct CodingTests {
  private static func sample() throws -> Trial {
    var trial = Trial()
    trial.leases = [-5, 77]
    for number in 0..<30 {
      try trial.put(Bytes("key/\(number % 12)"), Bytes("value \(number)"), lease: number % 3 == 0 ? 77 : -5)
    }
    trial.delete(.prefix("key/1"))
    try trial.keyspace.compact(to: 20)
    try trial.transact(then: [.put("key/1", "again"), .put("key/10", "again"), .delete(.single("key/2"))])
    trial.keyspace.delete(keys: ["key/3", "key/4"], cause: .leaseRevoked, events: &trial.events)
    return trial
  }

  @Test("What is decoded is what was encoded, and goes on alike")
  func roundTrip() throws {
    var trial = try Self.sample()
    var copy = trial
    copy.keyspace = try Keyspace(encoded: trial.keyspace.encoded())
    #expect(copy.revision == trial.revision)
    #expect(copy.keyspace.compactRevision == 20)
    #expect(copy.keyspace.keyCount == trial.keyspace.keyCount)
    #expect(try copy.all() == trial.all())
    #expect(try copy.all(at: 20) == trial.all(at: 20))
    #expect(try copy.history(from: 21).events == trial.history(from: 21).events)
    try trial.put("key/5", "on")
    try copy.put("key/5", "on")
    #expect(copy.keyspace.encoded() == trial.keyspace.encoded())
    while trial.keyspace.compactStep(maxKeys: 3) {}
    #expect(copy.keyspace.sizeInBytes == trial.keyspace.sizeInBytes)
  }

  @Test("A fresh keyspace and one compacted to nothing")
  func empty() throws {
    #expect(try Keyspace(encoded: Keyspace().encoded()).revision == 1)
    var trial = Trial()
    try trial.put("k", "v")
    trial.delete(.single("k"))
    try trial.transact(then: [.put("k", "v"), .delete(.single("k"))])
    try trial.keyspace.compact(to: 4)
    while trial.keyspace.compactStep(maxKeys: 1) {}
    let copy = try Keyspace(encoded: trial.keyspace.encoded())
    #expect(copy.revision == 4)
    #expect(copy.keyCount == 0)
    #expect(throws: KeyspaceError.compacted(compactRevision: 4)) { try copy.range(RangeQuery(.from(""), revision: 3)) }
  }

  @Test("Another format, an early end and a history that cannot be are refused")
  func refusals() throws {
    let bytes = try Self.sample().keyspace.encoded()
    #expect(throws: DecodingFailure.unknownVersion(9)) { try Keyspace(encoded: [9] + bytes.dropFirst()) }
    for count in 0..<bytes.count {
      #expect(throws: DecodingFailure.self) { try Keyspace(encoded: Array(bytes.prefix(count))) }
    }
    func expectRefusal(_ write: (inout ByteWriter) -> Void) {
      var writer = ByteWriter()
      writer.writeVarint(1)
      write(&writer)
      #expect(throws: DecodingFailure.self) { try Keyspace(encoded: writer.bytes) }
    }
    expectRefusal {
      $0.writeSigned(0); $0.writeSigned(-1); $0.writeByte(0)
    }  // revision 0
    expectRefusal {
      $0.writeSigned(5); $0.writeSigned(6); $0.writeByte(0)
    }  // compacted in the future
    expectRefusal {
      $0.writeSigned(.max); $0.writeSigned(-1); $0.writeByte(0)
    }
    expectRefusal { writer in  // a tombstone of a key that never was
      writer.writeSigned(5)
      writer.writeSigned(-1)
      writer.writeByte(2)
      writer.writeVarint(2)
      writer.writeVarint(0)
      writer.writeBytes("k")
      writer.writeByte(0)
    }
  }

  @Test("Randomly changed bytes decode to something sound or throw; they never crash", arguments: 1...8)
  func mutations(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let original = try Self.sample().keyspace.encoded()
    for _ in 0..<600 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        guard !bytes.isEmpty else { break }
        let index = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: bytes[index] = .random(in: 0...255, using: &generator)
        case 1: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 2: bytes.remove(at: index)
        case 3: bytes.insert([0, 1, 0x7f, 0xff].randomElement(using: &generator)!, at: index)
        default: bytes.replaceSubrange(index..<min(bytes.count, index + 10), with: [UInt8](repeating: 0xff, count: 9))
        }
      }
      guard let keyspace = try? Keyspace(encoded: bytes) else { continue }
      try exercise(keyspace)
      #expect(try Keyspace(encoded: keyspace.encoded()).encoded() == keyspace.encoded())
    }
  }

  private func exercise(_ keyspace: Keyspace) throws {
    var trial = Trial(keyspace: keyspace)
    let all = try trial.keyspace.range(RangeQuery(.from(""))).records
    #expect(all.count == trial.keyspace.keyCount)
    _ = try trial.history(from: trial.keyspace.compactRevision + 1)
    _ = try trial.keyspace.hash(at: 0)
    for record in all { try trial.put(record.key, "more") }
    trial.delete(.from(""))
    try trial.keyspace.compact(to: trial.revision)
    while trial.keyspace.compactStep(maxKeys: 4) {}
    #expect(trial.keyspace.keyCount == 0)
  }

  @Test("The hash covers what is kept up to a revision, and nothing else")
  func hashes() throws {
    var trial = try Self.sample()
    let revision = trial.revision
    let before = try trial.keyspace.hash(at: 0)
    #expect(try trial.keyspace.hash(at: revision) == before)
    try trial.put("later", "x")
    #expect(try trial.keyspace.hash(at: revision) == before)
    #expect(try trial.keyspace.hash(at: 0) != before)
    let unsettled = try trial.keyspace.hash(at: 20)
    while trial.keyspace.compactStep(maxKeys: 2) {}
    #expect(try trial.keyspace.hash(at: 20) == unsettled)
    #expect(throws: KeyspaceError.compacted(compactRevision: 20)) { try trial.keyspace.hash(at: 19) }
    #expect(throws: KeyspaceError.futureRevision) { try trial.keyspace.hash(at: revision + 2) }

    var (one, other) = (Trial(), Trial())
    try one.put("k", "a")
    try other.put("k", "b")
    #expect(try one.keyspace.hash(at: 0) != other.keyspace.hash(at: 0))
  }
}
