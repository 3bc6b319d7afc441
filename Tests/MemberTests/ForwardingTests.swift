import Member
import Primitives
import StateMachine
import Testing

/// A follower's side of forwarding: what it has handed on, and what becomes of it.
@Suite struct ForwardTableTests {
  private var table = ForwardTable(session: 7)

  private static func proposal(_ ticket: Ticket, deadline: Int64 = 1_000) -> Proposal {
    Proposal(
      commands: [.tick], bytes: 24, source: .local(ticket), deadline: MonotonicTime(nanoseconds: deadline * 1_000_000))
  }

  private static func tickets(_ proposals: [Proposal]) -> [Ticket] {
    proposals.compactMap { if case .local(let ticket) = $0.source { ticket } else { nil } }
  }

  private static func at(_ milliseconds: Int64) -> MonotonicTime {
    MonotonicTime(nanoseconds: milliseconds * 1_000_000)
  }

  @Test("Every proposal gets a number of its own, and its origin names member, session and number")
  mutating func numbers() {
    let first = table.add(Self.proposal(11), term: 3, at: Self.at(0))
    let second = table.add(Self.proposal(12), term: 3, at: Self.at(0))
    #expect(first < second)
    #expect(table.origin(second, member: 4) == ProposalOrigin(memberID: 4, session: 7, sequence: second))
    #expect(table.count == 2)
    _ = table.take(second)
    #expect(table.add(Self.proposal(13), term: 3, at: Self.at(0)) > second, "a number is never given twice")
  }

  @Test("An origin answers its proposal once, and never one of another life of the process")
  mutating func origins() {
    let sequence = table.add(Self.proposal(11), term: 3, at: Self.at(0))
    #expect(table.take(ProposalOrigin(memberID: 4, session: 6, sequence: sequence)) == nil)
    #expect(table.count == 1)
    #expect(table.take(ProposalOrigin(memberID: 4, session: 7, sequence: sequence)).map { Self.tickets([$0]) } == [11])
    #expect(table.take(ProposalOrigin(memberID: 4, session: 7, sequence: sequence)) == nil)
    #expect(table.take(sequence) == nil)
  }

  @Test("An entry of a later term loses what was sent under earlier ones, in the order of sending; no more than that")
  mutating func lost() {
    // More than a few, so that their order cannot be a dictionary's by chance.
    for ticket in 1...20 { _ = table.add(Self.proposal(UInt64(ticket)), term: ticket <= 15 ? 3 : 4, at: Self.at(0)) }
    #expect(Self.tickets(table.takeLost(before: 3)) == [])
    #expect(Self.tickets(table.takeLost(before: 4)) == Array(1...15))
    #expect(Self.tickets(table.takeLost(before: 4)) == [])
    #expect(Self.tickets(table.takeAll()) == Array(16...20))
    #expect(table.count == 0)
  }

  @Test("What nobody has answered by its deadline is given back, the rest stays")
  mutating func expiry() {
    for ticket in 1...9 {
      _ = table.add(Self.proposal(UInt64(ticket), deadline: ticket <= 5 ? 100 : 101), term: 3, at: Self.at(0))
    }
    #expect(Self.tickets(table.takeExpired(at: Self.at(99))) == [])
    #expect(Self.tickets(table.takeExpired(at: Self.at(100))) == Array(1...5))
    #expect(table.count == 4)
  }

  @Test("Unanswered ones of this term are repeated in order, and then not again for as long")
  mutating func repetition() {
    for ticket in 1...12 {
      _ = table.add(Self.proposal(UInt64(ticket)), term: ticket == 5 ? 2 : 3, at: Self.at(ticket == 12 ? 50 : 0))
    }
    let due = table.due(term: 3, sentBefore: Self.at(50), now: Self.at(550))
    #expect(
      Self.tickets(due.map(\.1)) == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11], "neither the other term's nor the young one")
    #expect(due.map(\.0) == due.map(\.0).sorted())
    let later = table.due(term: 3, sentBefore: Self.at(550), now: Self.at(1_050))
    #expect(Self.tickets(later.map(\.1)) == [12], "the others count as sent at 550")
    #expect(table.count == 12)
  }
}

/// A leader's side: each number once in its term.
@Suite struct ForwardIntakeTests {
  private var intake = ForwardIntake()

  /// Which of these it takes, in their order.
  private mutating func takes(_ origins: (member: UInt64, session: UInt64, sequence: UInt64)...) -> [Bool] {
    origins.map {
      intake.takes(ProposalOrigin(memberID: $0.member, session: $0.session, sequence: $0.sequence))
    }
  }

  @Test("A repetition is not taken again")
  mutating func once() {
    intake.begin(term: 3)
    #expect(takes((1, 7, 1), (1, 7, 1), (1, 7, 2), (1, 7, 1), (1, 7, 2)) == [true, false, true, false, false])
  }

  @Test("What a broken connection took along is taken once when it comes again, even before the first that came")
  mutating func overtaken() {
    intake.begin(term: 3)
    let taken = takes((1, 7, 5), (1, 7, 8), (1, 7, 6), (1, 7, 6), (1, 7, 4), (1, 7, 4), (1, 7, 7), (1, 7, 8))
    #expect(taken == [true, true, true, false, true, false, true, false])
  }

  @Test("A message of an earlier life that comes late does not make the numbers of the present one new again")
  mutating func lateLife() {
    intake.begin(term: 3)
    #expect(takes((1, 7, 9), (1, 8, 1), (1, 7, 10), (1, 8, 1), (1, 7, 9)) == [true, true, true, false, false])
  }

  @Test("Members count by themselves, and a process that has started anew counts from the beginning")
  mutating func members() {
    intake.begin(term: 3)
    let taken = takes((1, 7, 5), (2, 7, 5), (1, 8, 1), (1, 8, 1))
    #expect(taken == [true, true, true, false])
  }

  @Test("A new term forgets the numbers; the same term begun twice does not")
  mutating func terms() {
    intake.begin(term: 3)
    #expect(takes((1, 7, 5)) == [true])
    intake.begin(term: 3)
    #expect(takes((1, 7, 5)) == [false])
    intake.begin(term: 4)
    #expect(takes((1, 7, 5)) == [true])
  }
}
