import Leases
import Primitives
import Testing

/// The table against a dictionary that is searched from end to end: the same answers after thousands of random
/// operations, on clocks that creep, rest and leap.
@Suite("A lease table beside its model")
struct LeaseTableModelTests {
  private struct Model {
    var leases: [LeaseID: (ttl: Int64, deadline: Int64)] = [:]

    func due(at clock: Int64) -> [LeaseID] {
      leases.filter { $0.value.deadline <= clock }.sorted { ($0.value.deadline, $0.key) < ($1.value.deadline, $1.key) }
        .map(\.key)
    }
  }

  private static func ttl(_ random: inout SeededGenerator) -> Int64 {
    switch Int.random(in: 0..<5, using: &random) {
    case 0: Int64.random(in: 1...300, using: &random)
    case 1: 10_000
    case 2: Int64.random(in: 1...7_000_000, using: &random)
    case 3: 7 * 86_400_000
    default: Int64.random(in: 1...9_000_000_000_000, using: &random)
    }
  }

  private static func step(_ random: inout SeededGenerator) -> Int64 {
    switch Int.random(in: 0..<40, using: &random) {
    case 0: Int64.random(in: 1...20_000_000, using: &random)
    case 1...10: Int64.random(in: 1...500, using: &random)
    default: 0
    }
  }

  @Test("answers the same, step by step", arguments: 0..<12 as Range<UInt64>)
  func sameAnswers(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var table = LeaseTable()
    var model = Model()
    var clock: Int64 = 0
    for step in 0..<3_000 {
      clock += Self.step(&random)
      let now = LeaseClock(milliseconds: clock)
      let id = Int64.random(in: 1...400, using: &random)
      switch Int.random(in: 0..<10, using: &random) {
      case 0...3:
        let ttl = Self.ttl(&random)
        let isNew = model.leases[id] == nil
        check(table.grant(id, ttlMilliseconds: ttl, at: now) == isNew)
        if isNew { model.leases[id] = (ttl, clock + ttl) }
      case 4...6:
        let known = model.leases[id]
        check(table.renew(id, at: now) == known?.ttl)
        if let known { model.leases[id] = (known.ttl, clock + known.ttl) }
      case 7:
        check(table.remove(id) == (model.leases.removeValue(forKey: id) != nil))
      case 8:
        table.advance(to: now)
      default:
        try compareDue(&table, &model, at: clock, removing: Bool.random(using: &random))
      }
      #expect(table.count == model.leases.count)
      #expect(table.deadline(of: id)?.milliseconds == model.leases[id]?.deadline)
      if let bound = table.nextDeadline {
        #expect(bound.milliseconds <= (try #require(model.leases.values.map(\.deadline).min())))
      }
      if step % 500 == 499 { table = try restored(table, at: now) }
    }
  }

  private func compareDue(
    _ table: inout LeaseTable, _ model: inout Model, at clock: Int64, removing: Bool
  ) throws {
    let now = LeaseClock(milliseconds: clock)
    let expected = model.due(at: clock)
    #expect(table.due(at: now, limit: .max) == expected)
    let some = table.due(at: now, limit: 3)
    #expect(some.count == min(3, expected.count))
    #expect(Set(some).isSubset(of: expected))
    guard removing else { return }
    for id in some {
      check(table.remove(id))
      model.leases[id] = nil
    }
  }

  private func loaded(from table: LeaseTable, at clock: LeaseClock) throws -> LeaseTable {
    var loader = LeaseTableLoader(at: clock)
    for id in table.ids.sorted() {
      let ttl = try #require(table.grantedTTLMilliseconds(of: id))
      let deadline = try #require(table.deadline(of: id))
      try loader.add(id, ttlMilliseconds: ttl, deadlineMilliseconds: deadline.milliseconds)
    }
    let loaded = loader.finish()
    #expect(loaded.violation == nil)
    #expect(loaded.ids == table.ids)
    let asked = table.ids + [0, .max, .min]
    var slots = [7]
    loaded.slots(of: asked, into: &slots)
    #expect(slots == asked.map { loaded.slot(of: $0) ?? -1 })
    return loaded
  }

  private func restored(_ table: LeaseTable, at clock: LeaseClock) throws -> LeaseTable {
    #expect(table.violation == nil)
    var writer = ByteWriter()
    table.encode(into: &writer)
    var reader = ByteReader(writer.bytes)
    let restored = try LeaseTable(decoding: &reader, at: clock)
    #expect(reader.isAtEnd)
    #expect(restored.ids == table.ids)
    let loaded = try loaded(from: table, at: clock)
    return table.count % 2 == 0 ? restored : loaded
  }

  @Test("stays whole while a crowd is renewed in place, passed by, and drained")
  func renewedCrowd() {
    var table = LeaseTable()
    let crowd: ClosedRange<LeaseID> = 1...20_000
    for id in crowd { check(table.grant(id, ttlMilliseconds: 10_000, at: .zero)) }
    for id in crowd { check(table.renew(id, at: LeaseClock(milliseconds: 5_000 + id / 10)) == 10_000) }
    for clock in stride(from: 5_000, to: 15_000, by: 100) as StrideTo<Int64> {
      table.advance(to: LeaseClock(milliseconds: clock))
      #expect(table.due(at: LeaseClock(milliseconds: clock), limit: 1) == [])
    }
    #expect(table.violation == nil)
    var drained = 0
    while case let due = table.due(at: LeaseClock(milliseconds: 16_000), limit: 4_096), !due.isEmpty {
      for id in due { check(table.remove(id)) }
      drained += due.count
    }
    #expect(drained == 10_009)
    #expect(table.violation == nil)
  }
}
