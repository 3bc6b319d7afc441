import Primitives
import SidecarCore
import Testing

@Suite struct EventSubscriberTests {
  private func evicts(_ range: ClosedRange<Int>, try attempt: Int = 1, connection: Int = 1) -> [String] {
    range.map { "\(connection): evict \($0) try \(attempt)" }
  }

  @Test func aNameStartsAtItsCursorAndIsToldInOrder() {
    var bench = SubscriberBench(floor: 2)
    bench.evict(5)
    bench.connect()
    #expect(bench.take() == ["1: hello 2"] + evicts(3...5))
    bench.evict()
    #expect(bench.take() == evicts(6...6), "what comes later follows by itself")
  }

  @Test func atMostInflightEventsAreOutThenTheJournalIsNotRead() throws {
    var bench = SubscriberBench()
    bench.evict(100)
    bench.connect(inflight: 3)
    #expect(bench.take() == ["1: hello 0"] + evicts(1...3))
    let read = bench.lastReadFrom
    bench.evict(10)
    #expect(bench.take() == [])
    #expect(bench.lastReadFrom == read, "no read without room")
    try bench.say("ack 2")
    #expect(bench.take() == ["ok 0"] + evicts(4...4), "one acknowledged, one more delivered; the floor waits for 1")
    try bench.say("ack to 4")
    #expect(bench.take() == ["ok 4"] + evicts(5...7))
  }

  @Test func okComesOnlyWithTheCommit() throws {
    var bench = SubscriberBench()
    bench.evict(2)
    bench.connect()
    _ = bench.take()
    bench.answersSettlements = false
    try bench.say("ack 1 2")
    bench.wait(120_000)
    #expect(bench.take() == [], "no answer, and no second delivery of what is being committed")
    bench.commitUnanswered()
    #expect(bench.take() == ["ok 2"])
  }

  @Test func aCommitThatFailsAcknowledgesNothing() throws {
    var bench = SubscriberBench()
    bench.evict(2)
    bench.connect(ackWait: 5_000)
    _ = bench.take()
    bench.answersSettlements = false
    try bench.say("ack to 2")
    bench.step(.unsettled(bench.unanswered.removeFirst()))
    #expect(bench.take() == ["err unavailable"])
    #expect(bench.state.cursor.floor == 0)
    bench.answersSettlements = true
    bench.wait(5_000)
    #expect(bench.take() == evicts(1...2, try: 2))
  }

  @Test func afterAckwaitTheEventComesAgainAndWipExtendsTheWait() throws {
    var bench = SubscriberBench()
    bench.evict(2)
    bench.connect(ackWait: 10_000)
    _ = bench.take()
    bench.wait(9_000)
    try bench.say("wip 2")
    #expect(bench.take() == ["ok wip 2"])
    bench.wait(1_000)
    #expect(bench.take() == evicts(1...1, try: 2))
    bench.wait(9_000)
    #expect(bench.take() == evicts(2...2, try: 2))
  }

  @Test func onReconnectWhatIsUnacknowledgedComesAgainAtOnce() throws {
    var bench = SubscriberBench()
    bench.evict(3)
    bench.connect()
    try bench.say("ack 2")
    _ = bench.take()
    bench.step(.detached(connection: 1))
    bench.connect()
    #expect(bench.take() == ["2: hello 0", "2: evict 1 try 2", "2: evict 3 try 2"])
  }

  @Test func theNewerConnectionFencesTheOlder() {
    var bench = SubscriberBench()
    bench.evict(1)
    bench.connect()
    _ = bench.take()
    bench.connect()
    #expect(bench.take() == ["1: closed fenced", "2: hello 0", "2: evict 1 try 2"])
    bench.step(.detached(connection: 1))
    bench.evict(1)
    #expect(bench.take() == ["2: evict 2 try 1"], "the older one's end does not touch the newer")
  }

  @Test func naksBackOffFromASecondToFiveMinutesWithJitter() throws {
    var bench = SubscriberBench()
    bench.evict(1)
    bench.connect()
    _ = bench.take()
    var base: Int64 = 1_000
    for attempt in 1..<Limits.maxDeliveryTries {
      try bench.say("nak 1")
      let answer = try #require(bench.take().first)
      let wait = try #require(Int64(answer.split(separator: " ").last ?? ""))
      #expect(wait >= base && wait <= min(base + base / 4, 300_000), "\(answer)")
      bench.wait(wait - 1)
      #expect(bench.take() == [])
      bench.wait(1)
      #expect(bench.take() == ["1: evict 1 try \(attempt + 1)"])
      base = min(base * 2, 300_000)
    }
    try bench.say("nak 1 30s")
    #expect(bench.take() == ["ok nak 1 after 30000"])
    bench.wait(30_000)
    #expect(bench.take() == [], "after 20 tries it is parked")
    #expect(bench.state.parked.contains(1))
    bench.evict(1)
    #expect(bench.take() == ["1: evict 2 try 1"], "and holds nobody up")
    try bench.say("ack to 2")
    #expect(bench.take() == ["ok 0"], "a cumulative acknowledgement leaves it out")
    try bench.say("kick")
    #expect(bench.take() == ["ok kick 1", "1: evict 1 try 1"])
    try bench.say("ack 1")
    #expect(bench.take() == ["ok 2"])
  }

  @Test func termParksAtOnceAndAParkedEventCanBeAcknowledged() throws {
    var bench = SubscriberBench()
    bench.evict(2)
    bench.connect()
    _ = bench.take()
    try bench.say("term 1 no such disk")
    #expect(bench.take() == ["ok term 1"])
    bench.wait(120_000)
    #expect(bench.take() == ["1: evict 2 try 2"])
    try bench.say("ack 1 2")
    #expect(bench.take() == ["ok 2"])
    #expect(bench.state.parked.isEmpty)
  }

  @Test func aVoidItemCountsAsAcknowledged() {
    var bench = SubscriberBench()
    bench.notDue = [1, 2, 4]
    bench.evict(4)
    bench.connect()
    #expect(bench.take() == ["1: hello 0", "1: evict 3 try 1"])
    #expect(bench.state.cursor.floor == 2)
    #expect(bench.state.cursor.contains(4))
  }

  @Test func theCacheOfASubscriptionFiltersAndTheRestCountsAsAcknowledged() {
    var bench = SubscriberBench(scope: .cache("b"))
    bench.evict(2, cache: "a")
    bench.evict(1, cache: "b")
    bench.evict(1, cache: "a")
    bench.connect(cache: "b")
    #expect(bench.take() == ["1: hello 0", "1: evict 3 try 1"])
    #expect(bench.state.cursor.floor == 2)
  }

  @Test func anAcknowledgementOfACancelledLifeIsStaleWithTheLivingGeneration() throws {
    var bench = SubscriberBench()
    bench.evict(2)
    bench.connect()
    _ = bench.take()
    bench.cancel(1, generation: 4)
    #expect(bench.take() == ["1: cancel 3 of 1"])
    try bench.say("ack 1")
    #expect(bench.take() == ["err stale gen 4"])
    #expect(bench.state.cursor.floor == 1, "the event is over all the same")
    try bench.say("ack 2 3")
    #expect(bench.take() == ["ok 3"])
  }

  @Test func whoAcknowledgesTheCancelIsDoneWithItsEvictionAndItIsNotDeliveredAgain() throws {
    var bench = SubscriberBench()
    bench.evict(1)
    bench.connect(ackWait: 1_000)
    bench.cancel(1)
    _ = bench.take()
    bench.wait(1_000)
    #expect(bench.take() == ["1: cancel 2 of 1"], "only the cancel comes again")
    try bench.say("nak 1")
    #expect(bench.take() == ["err stale gen 2"])
    try bench.say("ack 2")
    #expect(bench.take() == ["ok 2"])
    #expect(bench.state.unacknowledgedCount == 0)
  }

  @Test func anEvictionIsCheckedAgainBeforeItIsDeliveredAgain() {
    var bench = SubscriberBench()
    bench.evict(2)
    bench.connect()
    _ = bench.take()
    bench.notDue = [1]
    bench.wait(60_000)
    #expect(bench.take() == evicts(2...2, try: 2))
    #expect(bench.state.cursor.floor == 1)
  }

  @Test func aBlobThatIsGoneIsSettledEvenWhenTheEventIsLongOver() throws {
    var bench = SubscriberBench()
    bench.evict(1)
    bench.connect()
    try bench.say("ack 1")
    bench.answersSettlements = false
    try bench.say("ack 1 gone")
    let settlement = try #require(bench.unanswered.first)
    #expect(settlement.blobIsGone)
    #expect(settlement.unread.contains(1))
  }

  @Test func afterARestartAcknowledgementsOfEarlierDeliveriesCount() throws {
    var bench = SubscriberBench()
    bench.evict(5)
    try bench.say("ack 4")
    #expect(bench.take() == ["ok 0"])
    try bench.say("ack to 2")
    #expect(bench.take() == ["ok 2"])
    try bench.say("ack to 6")
    #expect(bench.take() == ["err stale"], "beyond the head there is nothing to acknowledge")
    bench.connect()
    #expect(bench.take() == ["1: hello 2", "1: evict 3 try 1", "1: evict 5 try 1"])
  }

  @Test func aPauseHoldsDeliveriesAndACongestedConnectionStopsTheReading() throws {
    var bench = SubscriberBench()
    bench.connect()
    try bench.say("pause")
    bench.evict(1)
    #expect(bench.take() == ["1: hello 0", "ok"])
    try bench.say("resume")
    #expect(bench.take() == ["ok", "1: evict 1 try 1"])
    bench.step(.congested(connection: 1))
    let read = bench.lastReadFrom
    bench.evict(5)
    #expect(bench.take() == [])
    #expect(bench.lastReadFrom == read)
    bench.step(.writable(connection: 1))
    #expect(bench.take() == evicts(2...6))
  }

  @Test func aCursorOlderThanTheJournalIsToldOfTheGap() {
    var bench = SubscriberBench()
    bench.evict(9)
    bench.first = 6
    bench.connect()
    #expect(bench.take() == ["1: hello 0", "1: gap 6"] + evicts(6...9))
    #expect(bench.state.cursor.floor == 5)
  }

  @Test func aPollTakesItsLimitAndTheNextPollTakesOthers() throws {
    var bench = SubscriberBench()
    bench.evict(5)
    bench.connect(ackWait: 10_000, .poll(limit: 2))
    #expect(bench.take() == evicts(1...2))
    bench.step(.detached(connection: 1))
    bench.connect(ackWait: 10_000, .poll(limit: 2))
    #expect(bench.take() == evicts(3...4, connection: 2))
    bench.step(.detached(connection: 2))
    bench.wait(10_000)
    bench.connect(.poll(limit: 9))
    #expect(
      bench.take() == evicts(1...4, try: 2, connection: 3) + ["3: evict 5 try 1"],
      "what nobody acknowledged comes again first")
  }

  @Test func aKickDuringAReadLosesNothing() throws {
    var bench = SubscriberBench()
    bench.evict(1)
    bench.connect()
    try bench.say("term 1")
    bench.holdsReads = true
    bench.evict(1)
    try bench.say("kick")
    _ = bench.take()
    bench.holdsReads = false
    // Read from 2 on, while the position has gone back to 1: neither gone from the journal nor passed.
    bench.step(try #require(bench.heldRead))
    #expect(bench.take() == ["1: evict 1 try 1", "1: evict 2 try 1"])
    #expect(bench.state.cursor.floor == 0)
  }

  @Test func aVetoThatComesTooLateLeavesTheEvictionToItsSubscriber() throws {
    var bench = SubscriberBench()
    bench.evict(1)
    bench.connect()
    _ = bench.take()
    bench.keepOutcome = .tooLate
    try bench.say("keep 1")
    #expect(bench.take() == ["err stale"])
    #expect(bench.state.cursor.floor == 0, "its blob is there yet")
    try bench.say("ack 1")
    #expect(bench.take() == ["ok 1"])
  }

  @Test func keepAndUnsub() throws {
    var bench = SubscriberBench()
    bench.evict(2)
    bench.connect()
    _ = bench.take()
    try bench.say("keep 1 7d")
    #expect(bench.take() == ["ok keep 1"])
    #expect(bench.state.cursor.floor == 1)
    try bench.say("keep 1")
    #expect(bench.take() == ["err stale"])
    try bench.say("unsub")
    #expect(bench.take() == ["ok", "1: closed"])
    bench.evict(1)
    #expect(bench.take() == [])
    try bench.say("unsub forget")
    #expect(bench.take() == ["forgotten"])
  }

  /// Under any order of deliveries, acknowledgements, refusals, losses of the connection, failing commits and restarts:
  /// never more than `inflight` are out, nothing is settled that was not acknowledged, first deliveries come in order,
  /// and in the end everything is acknowledged.
  @Test(arguments: 0..<60) func nothingIsLostAndInflightIsKept(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var bench = SubscriberBench()
    let inflight = Int.random(in: 1...8, using: &generator)
    var acknowledged: Set<UInt64> = []
    var highestFirst: UInt64 = 0
    var isConnected = false
    // A kick counts the tries afresh.
    var everParked: Set<UInt64> = []
    func check(_ lines: [String]) {
      for line in lines where line.contains(": evict ") && line.hasSuffix("try 1") {
        let sequence = UInt64(line.split(separator: " ")[2])!
        guard !everParked.contains(sequence) else { continue }
        #expect(sequence > highestFirst)
        highestFirst = sequence
      }
      everParked.formUnion(bench.state.parked.sequences)
      #expect(bench.state.unacknowledgedCount <= inflight)
      #expect(bench.settled.isSubset(of: acknowledged))
    }
    for _ in 0..<400 {
      let head = UInt64(bench.items.count)
      let sequence = UInt64.random(in: 1...max(head, 1), using: &generator)
      switch Int.random(in: 0...11, using: &generator) {
      case 0...1: bench.evict(Int.random(in: 1...4, using: &generator))
      case 2:
        if isConnected { bench.step(.detached(connection: bench.lastConnection)) }
        bench.connect(inflight: inflight, ackWait: 5_000)
        isConnected = true
      case 3:
        bench.step(.detached(connection: bench.lastConnection))
        isConnected = false
      case 4...6 where sequence <= highestFirst && bench.state.unacknowledgedCount > 0:
        acknowledged.insert(sequence)
        try bench.say("ack \(sequence)")
      case 7: if head > 0 { try bench.say("nak \(sequence)") }
      case 8: if head > 0 { try bench.say("wip \(sequence)") }
      case 9: bench.wait(Int64.random(in: 0...8_000, using: &generator))
      case 10:
        bench.answersSettlements.toggle()
        for settlement in bench.unanswered {
          bench.step(Bool.random(using: &generator) ? .unsettled(settlement) : .settled(settlement, stale: []))
        }
        bench.unanswered = []
      default: if head > 0, Bool.random(using: &generator) { try bench.say("kick") }
      }
      check(bench.take())
    }
    bench.answersSettlements = true
    bench.commitUnanswered()
    bench.connect(inflight: inflight, ackWait: 5_000)
    let head = UInt64(bench.items.count)
    for _ in 0..<2_000 where bench.state.cursor.floor < head {
      for line in bench.take() where line.contains(": evict ") {
        acknowledged.insert(UInt64(line.split(separator: " ")[2])!)
        try bench.say("ack \(line.split(separator: " ")[2])")
      }
      if !bench.state.parked.isEmpty { try bench.say("kick") }
      bench.wait(5_000)
      #expect(bench.state.unacknowledgedCount <= inflight)
    }
    #expect(bench.state.cursor.floor == head)
    #expect(acknowledged.count >= bench.settled.count)
  }
}
