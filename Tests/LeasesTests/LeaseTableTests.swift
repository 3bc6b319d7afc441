import Leases
import Primitives
import Testing

private func at(_ milliseconds: Int64) -> LeaseClock { LeaseClock(milliseconds: milliseconds) }

@Suite("A lease table")
struct LeaseTableTests {
  @Test("names a lease due at its deadline and not a millisecond before, and leaves it in place")
  func dueAtTheDeadline() {
    var table = LeaseTable()
    #expect(table.nextDeadline == nil)
    check(table.grant(7, ttlMilliseconds: 1_234, at: at(1_000)))
    #expect(table.deadline(of: 7) == at(2_234))
    #expect(table.grantedTTLMilliseconds(of: 7) == 1_234)
    #expect(table.nextDeadline == at(2_234))
    #expect(table.due(at: at(2_233), limit: 10) == [])
    #expect(table.due(at: at(2_234), limit: 10) == [7])
    #expect(table.due(at: at(2_234), limit: 0) == [])
    #expect(table.contains(7))
    check(table.remove(7))
    check(!table.remove(7))
    #expect(table.due(at: at(9_999), limit: 10) == [])
    #expect(table.count == 0)
  }

  @Test("refuses an ID that exists and keeps what it had")
  func secondGrant() {
    var table = LeaseTable()
    check(table.grant(-3, ttlMilliseconds: 500, at: .zero))
    check(!table.grant(-3, ttlMilliseconds: 9_000, at: .zero))
    #expect(table.deadline(of: -3) == at(500))
    #expect(!table.contains(0))
  }

  @Test("gives a renewed lease its whole TTL again, and never less than it had")
  func renewal() {
    var table = LeaseTable()
    check(table.grant(1, ttlMilliseconds: 1_000, at: .zero))
    check(table.renew(1, at: at(999)) == 1_000)
    #expect(table.due(at: at(1_998), limit: 1) == [])
    #expect(table.due(at: at(1_999), limit: 1) == [1])
    check(table.renew(1, at: at(10)) == 1_000)
    #expect(table.deadline(of: 1) == at(1_999))
    check(table.renew(2, at: at(10)) == nil)
  }

  @Test("renews a lease that is overdue already: it is then no longer due")
  func renewalOfAnOverdueLease() {
    var table = LeaseTable()
    check(table.grant(1, ttlMilliseconds: 1_000, at: .zero))
    table.advance(to: at(60_000))
    #expect(table.due(at: at(60_000), limit: 1) == [1])
    #expect(table.nextDeadline == at(1_000))
    check(table.renew(1, at: at(60_000)) == 1_000)
    #expect(table.due(at: at(60_999), limit: 1) == [])
    #expect(table.nextDeadline == at(61_000))
    #expect(table.violation == nil)
  }

  @Test("keeps the longest TTL of etcd, and a deadline past the end of time stands at the end")
  func longTTLs() {
    var table = LeaseTable()
    let longest = Limits.maxLeaseTTLSeconds * 1_000
    check(table.grant(1, ttlMilliseconds: longest, at: at(5)))
    check(table.grant(2, ttlMilliseconds: .max, at: at(5)))
    table.advance(to: at(longest - 1))
    #expect(table.due(at: at(longest + 4), limit: 5) == [])
    #expect(table.due(at: at(longest + 5), limit: 5) == [1])
    #expect(table.deadline(of: 2) == at(.max))
    #expect(table.due(at: at(.max), limit: 5) == [1, 2])
    #expect(table.violation == nil)
  }

  @Test("names at most as many as asked for, and the rest after those are gone")
  func limit() {
    var table = LeaseTable()
    for id in 1...100 as ClosedRange<Int64> { check(table.grant(id, ttlMilliseconds: 5_000 + id, at: .zero)) }
    var order: [LeaseID] = []
    while case let some = table.due(at: at(5_100), limit: 7), !some.isEmpty {
      #expect(some.count <= 7)
      for id in some { check(table.remove(id)) }
      order += some
    }
    #expect(order.sorted() == Array(1...100))
  }

  @Test("is a value: what happens to a copy does not happen to the original")
  func copies() {
    var original = LeaseTable()
    for id in 1...5_000 as ClosedRange<Int64> { check(original.grant(id, ttlMilliseconds: 1_000, at: .zero)) }
    var copy = original
    for id in 1...4_000 as ClosedRange<Int64> { check(copy.remove(id)) }
    check(copy.renew(4_500, at: at(900)) == 1_000)
    check(copy.grant(9_999, ttlMilliseconds: 1, at: .zero))
    #expect(original.count == 5_000)
    #expect(original.due(at: at(1_000), limit: 9_999).count == 5_000)
    #expect(copy.due(at: at(1_000), limit: 9_999).count == 1_000)
    #expect(original.violation == nil)
    #expect(copy.violation == nil)
  }

  @Test("lets a crowd of one deadline, far away, come by spread out and still be due at one instant")
  func crowd() {
    var table = LeaseTable()
    let week: Int64 = 7 * 86_400_000
    for id in 1...3_000 as ClosedRange<Int64> { check(table.grant(id, ttlMilliseconds: week, at: .zero)) }
    var now: Int64 = 0
    while now < week {
      table.advance(to: at(now))
      #expect(table.due(at: at(now), limit: 1) == [])
      now += 3_600_000
    }
    #expect(table.violation == nil)
    #expect(table.due(at: at(week - 1), limit: 1) == [])
    #expect(table.due(at: at(week), limit: 9_999).count == 3_000)
  }
}

@Suite("A snapshot of the lease table")
struct LeaseTableSnapshotTests {
  private static func filled() -> LeaseTable {
    var table = LeaseTable()
    for (id, ttl) in [(.min, 1), (-5, 60_000), (1, 7_777), (Int64.max, 9_000_000_000_000)] as [(Int64, Int64)] {
      check(table.grant(id, ttlMilliseconds: ttl, at: at(123_456)))
    }
    return table
  }

  private static func bytes(_ table: LeaseTable) -> [UInt8] {
    var writer = ByteWriter()
    table.encode(into: &writer)
    return writer.bytes
  }

  @Test("keeps every deadline to the millisecond, and equal tables have equal bytes whatever their past")
  func roundTrip() throws {
    var table = Self.filled()
    var reader = ByteReader(Self.bytes(table))
    let restored = try LeaseTable(decoding: &reader, at: at(200_000))
    try reader.finish()
    #expect(restored.ids == table.ids)
    for id in table.ids {
      #expect(restored.deadline(of: id) == table.deadline(of: id))
      #expect(restored.grantedTTLMilliseconds(of: id) == table.grantedTTLMilliseconds(of: id))
    }
    #expect(restored.violation == nil)
    check(table.grant(99, ttlMilliseconds: 5, at: .zero))
    #expect(Self.bytes(table) != Self.bytes(restored))
    check(table.remove(99))
    #expect(Self.bytes(table) == Self.bytes(restored))
  }

  @Test("that is damaged is refused or read as some table, and never crashes")
  func damaged() {
    var random = SeededGenerator(seed: 11)
    let intact = Self.bytes(Self.filled())
    for _ in 0..<3_000 {
      var bytes = intact
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      bytes.removeLast(Int.random(in: 0...3, using: &random))
      var reader = ByteReader(bytes)
      if let table = try? LeaseTable(decoding: &reader, at: .zero) {
        #expect(table.ids.count == table.count)
      }
    }
  }

  @Test("A loader refuses IDs that do not rise, ID 0 and a TTL that is not positive")
  func loaderRefusals() throws {
    var loader = LeaseTableLoader(at: .zero)
    try loader.add(-3, ttlMilliseconds: 1, deadlineMilliseconds: 1)
    for (id, ttl) in [(-3, 1), (-4, 1), (0, 1), (1, 0), (1, -1)] as [(LeaseID, Int64)] {
      #expect(throws: DecodingFailure.self) { try loader.add(id, ttlMilliseconds: ttl, deadlineMilliseconds: 1) }
    }
    try loader.add(1, ttlMilliseconds: 1, deadlineMilliseconds: -1)
    #expect(loader.finish().ids == [1, -3])
  }
}
