import Member
import Primitives
import Testing

/// Readers in groups that share one question to the leader (thesis §6.4).
@Suite struct ReadTableTests {
  private var table = ReadTable()

  private static func at(_ milliseconds: Int64) -> MonotonicTime {
    MonotonicTime(nanoseconds: milliseconds * 1_000_000)
  }

  private mutating func add(_ tickets: ReadTicket..., deadline: Int64 = 1_000) {
    for ticket in tickets { table.add(ticket, deadline: Self.at(deadline)) }
  }

  /// The question that is to be asked then; 0: none.
  private mutating func question(at milliseconds: Int64) -> UInt64 { table.ask(at: Self.at(milliseconds)) ?? 0 }

  @Test("All who wait share one question; who comes later needs another")
  mutating func groups() {
    #expect(table.ask(at: Self.at(0)) == nil, "nobody waits")
    add(1, 2)
    let first = question(at: 0)
    #expect(table.ask(at: Self.at(0)) == nil)
    add(3)
    let second = question(at: 0)
    #expect(first != second)
    // The first answer says nothing about who came after its question.
    table.confirm(first, at: 9)
    #expect(table.takeAnswered(applied: 9).map(\.ticket) == [1, 2])
    #expect(!table.isEmpty)
    table.confirm(second, at: 9)
    #expect(table.takeAnswered(applied: 9).map(\.ticket) == [3])
    #expect(table.isEmpty)
  }

  @Test("A reader is answered when the confirmed index is applied, not before, and once")
  mutating func applied() {
    add(1)
    let context = question(at: 0)
    #expect(table.takeAnswered(applied: 100).isEmpty, "not confirmed")
    table.confirm(context, at: 50)
    #expect(table.takeAnswered(applied: 49).isEmpty)
    #expect(table.takeAnswered(applied: 50).map(\.ticket) == [1])
    #expect(table.takeAnswered(applied: 51).isEmpty)
  }

  @Test("A refused question waits before it is asked again, under another name, with whoever has come meanwhile")
  mutating func refusal() {
    add(1)
    let refused = question(at: 0)
    table.refuse(refused, askAgainAt: Self.at(100))
    add(2)
    #expect(table.ask(at: Self.at(99)) == nil)
    let again = question(at: 100)
    #expect(again != refused)
    // An answer to the refused question that arrives late is nobody's.
    table.confirm(refused, at: 1)
    #expect(table.takeAnswered(applied: 9).isEmpty)
    table.confirm(again, at: 1)
    #expect(Set(table.takeAnswered(applied: 9).map(\.ticket)) == [1, 2])
    // A refusal of a question that nobody has asked delays nobody.
    table.refuse(again, askAgainAt: Self.at(10_000))
    add(3)
    #expect(table.ask(at: Self.at(101)) != nil)
  }

  @Test("A question without an answer for a while is asked anew; one that was confirmed is kept")
  mutating func lostAnswers() {
    add(1)
    let lost = question(at: 0)
    add(2)
    let confirmed = question(at: 0)
    table.confirm(confirmed, at: 7)
    add(3)
    let young = question(at: 10)
    table.forget(askedBefore: Self.at(10))
    #expect(table.asked.keys.sorted() == [confirmed, young])
    #expect(table.unasked.map(\.ticket) == [1])
    #expect(question(at: 500) != lost)
    #expect(table.takeAnswered(applied: 7).map(\.ticket) == [2])
  }

  @Test("Readers whose time is up leave, asked or not, and take nobody along")
  mutating func deadlines() {
    add(1, deadline: 100)
    add(2, deadline: 200)
    let context = question(at: 0)
    add(3, deadline: 100)
    add(4, deadline: 200)
    #expect(table.takeExpired(at: Self.at(99)).isEmpty)
    #expect(Set(table.takeExpired(at: Self.at(100)).map(\.ticket)) == [1, 3])
    table.confirm(context, at: 1)
    #expect(table.takeAnswered(applied: 1).map(\.ticket) == [2])
    #expect(table.takeExpired(at: Self.at(200)).map(\.ticket) == [4])
    #expect(table.isEmpty, "a group without readers is gone")
  }
}
