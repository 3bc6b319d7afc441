import ClusterNode
import Keyspace
import NIOCore
import NIOEmbedded
import NIOPosix
import Primitives
import StateMachine
import Synchronization
import Testing

/// Many watches on one event loop, told step by step: the loop of these tests runs only when it is told to, so that
/// each test decides who is how far when something happens.
@Suite struct WatchHubTests {
  /// A state machine with watches on an embedded event loop, in one thread.
  private final class Hub {
    let loop = EmbeddedEventLoop()
    let applied = AppliedWatches()
    var sessions: [(session: any WatchSession, sink: RecordingSink)] = []

    deinit {
      for (session, _) in sessions { session.close() }
      loop.run()
    }

    func open() -> (session: any WatchSession, sink: RecordingSink) {
      let sink = RecordingSink()
      let session = applied.openWatchSession(on: loop, sink: sink)
      sessions.append((session, sink))
      return (session, sink)
    }

    /// A stream with one watch.
    func watch(_ range: KeyRange = .prefix("a"), from start: Int64 = 0) -> (
      session: any WatchSession, sink: RecordingSink
    ) {
      let opened = open()
      _ = opened.session.create(WatchRequest(id: 1, range: range, startRevision: start))
      return opened
    }

    @discardableResult
    func put(_ keys: String..., bytes: Int = 0) -> Int64 {
      let value = Bytes(Array(repeating: 0x61, count: bytes))
      return applied.apply(keys.map { .put(PutRequest(Bytes($0), value)) })
    }

    /// Lets time pass so that polls happen, too.
    func settle() {
      for _ in 0..<50 { loop.advanceTime(by: .milliseconds(20)) }
    }
  }

  @Test func batchesThatComeTogetherAreToldTogetherAndInOrder() {
    let hub = Hub()
    let watching = hub.watch()
    for number in 0..<5 { hub.put("a\(number)", "b") }
    hub.settle()
    #expect(watching.sink.items == [.events(watch: 1, keys: ["a0", "a1", "a2", "a3", "a4"])])
  }

  @Test func aWatchThatJoinsBetweenAnApplyAndItsDeliveryIsNotToldOfWhatItMissed() {
    let hub = Hub()
    let first = hub.watch()
    hub.put("a1")
    let second = hub.watch()
    let third = hub.watch(from: 2)
    hub.put("a2")
    hub.settle()
    #expect(first.sink.keys == ["a1", "a2"])
    #expect(second.sink.keys == ["a2"])
    #expect(third.sink.keys == ["a1", "a2"], "from history and the batch, each once")
  }

  @Test func aStartInTheFutureHoldsEvenWhenTheWatchFallsBehind() {
    let hub = Hub()
    let watching = hub.watch(from: 4)
    hub.put("a2")
    hub.settle()
    watching.sink.pendingBytes = .max
    hub.put("a3")
    hub.put("a4")
    hub.put("a5")
    hub.settle()
    #expect(watching.sink.keys.isEmpty)
    watching.sink.pendingBytes = 0
    watching.session.resume()
    hub.settle()
    #expect(watching.sink.keys == ["a4", "a5"])
  }

  @Test func whatDoesNotFitIntoTheInboxIsReadFromHistory() {
    let hub = Hub()
    let watchings = (0..<20).map { _ in hub.watch() }
    let late = hub.watch(from: 100)
    let count = 2 * Limits.maxWatchInboxBytes / 500_000
    for number in 0..<count { hub.put("a\(number)", bytes: 500_000) }
    hub.settle()
    for watching in watchings { #expect(watching.sink.keys == (0..<count).map { "a\($0)" }) }
    #expect(late.sink.keys.isEmpty)
    for number in count..<110 { hub.put("a\(number)") }
    hub.settle()
    for watching in watchings { #expect(watching.sink.keys == (0..<110).map { "a\($0)" }) }
    #expect(late.sink.keys == (98..<110).map { "a\($0)" }, "revision 100 is the 98th put")
  }

  @Test func aStateThatWasReplacedIsCaughtUpWith() {
    let hub = Hub()
    let watching = hub.watch()
    hub.put("a1")
    hub.settle()
    hub.applied.applyUnpublished([.put(PutRequest("a2", "")), .put(PutRequest("b", ""))])
    hub.put("a3")
    hub.settle()
    #expect(watching.sink.keys == ["a1", "a2", "a3"])
  }

  @Test func watchesThatLagShareOneWalkThroughHistory() {
    let hub = Hub()
    for number in 0..<5_000 { hub.put("a\(number)", "b\(number)") }
    let watchings = (0..<300).map { hub.watch($0 % 2 == 0 ? .prefix("a") : .prefix("b"), from: 2 + Int64($0)) }
    hub.settle()
    for (number, watching) in watchings.enumerated() {
      // Revision 2 + 2k is the put of ak, 3 + 2k that of bk.
      let prefix = number % 2 == 0 ? "a" : "b"
      #expect(watching.sink.keys == (number / 2..<5_000).map { "\(prefix)\($0)" })
    }
    #expect(hub.applied.counters.slow == 0)
  }

  @Test func watchesOfSingleKeysReadTheirOwnHistory() {
    let hub = Hub()
    for number in 0..<4_000 { hub.put("k\(number % 40)") }
    let watchings = (0..<200).map { hub.watch(.single(Bytes("k\($0 % 40)")), from: 2 + Int64($0)) }
    hub.settle()
    for (number, watching) in watchings.enumerated() {
      let own = (number..<4_000).filter { $0 % 40 == number % 40 }
      #expect(watching.sink.keys == own.map { _ in "k\(number % 40)" })
    }
    #expect(hub.applied.counters.slow == 0)
  }

  @Test func oneWithoutRoomHoldsNobodyUpAndIsToldLaterWhereItStood() {
    let hub = Hub()
    let silent = (0..<50).map { _ in hub.watch() }
    let reader = hub.watch()
    for watching in silent { watching.sink.pendingBytes = .max }
    for number in 0..<3_000 {
      hub.put("a\(number)")
      if number % 100 == 0 { hub.loop.run() }
    }
    hub.settle()
    #expect(reader.sink.keys.count == 3_000)
    #expect(hub.applied.counters.slow == 50)
    for watching in silent { #expect(watching.sink.keys.isEmpty) }
    // Nobody calls `resume`: the hub looks by itself.
    for watching in silent { watching.sink.pendingBytes = 0 }
    hub.settle()
    for watching in silent { #expect(watching.sink.keys == reader.sink.keys) }
    #expect(hub.applied.counters.slow == 0)
  }

  @Test func aCompactionThatOvertakesASilentWatchEndsItWhenItReadsAgain() {
    let hub = Hub()
    let watching = hub.watch()
    hub.put("a1")
    hub.settle()
    watching.sink.pendingBytes = .max
    for _ in 0..<10 { hub.put("a") }
    hub.applied.apply([.compact(revision: 9)])
    hub.settle()
    watching.sink.pendingBytes = 0
    hub.settle()
    #expect(watching.sink.items == [.events(watch: 1, keys: ["a1"]), .compacted(watch: 1, at: 9)])
    hub.put("a")
    hub.settle()
    #expect(watching.sink.items.count == 2)
  }

  @Test func progressIsToldWhenTheLastWatchOfTheStreamIsUpToDate() {
    let hub = Hub()
    for number in 0..<2_500 { hub.put("a\(number)") }
    let watching = hub.watch()
    _ = watching.session.create(WatchRequest(id: 2, range: .prefix("a"), startRevision: 2))
    watching.session.requestProgress()
    #expect(watching.sink.items.isEmpty)
    #expect(watching.session.toldThrough(1) == 2_501)
    #expect(watching.session.toldThrough(2) == nil)
    hub.settle()
    #expect(watching.sink.items.last == .progress(2_501))
    #expect(watching.session.toldThrough(2) == 2_501)
  }

  @Test func progressNeverRunsAheadOfEventsOnTheirWay() {
    let hub = Hub()
    let watching = hub.watch()
    hub.put("a1")
    watching.session.requestProgress()
    #expect(watching.sink.items.isEmpty, "the event of revision 2 has not been told")
    hub.settle()
    #expect(watching.sink.items == [.events(watch: 1, keys: ["a1"]), .progress(2)])
  }

  @Test func aCompactionIsAnnouncedBehindTheEventsBeforeIt() {
    let hub = Hub()
    let watching = hub.watch()
    hub.put("a1")
    hub.applied.apply([.compact(revision: 2)])
    hub.settle()
    #expect(watching.sink.items == [.events(watch: 1, keys: ["a1"])])
    #expect(watching.sink.compactions == [2])
  }

  @Test func manyStreamsShareTheBudgetForWhatIsNotRead() {
    let hub = Hub()
    let crowd = 4 * Limits.maxWatchBacklogBytesPerLoop / Limits.maxWatchStreamBacklogBytes
    let watchings = (0..<crowd).map { _ in hub.watch() }
    for watching in watchings {
      watching.sink.sharesBudget = true
    }
    let sharing = (0..<crowd).map { _ -> RecordingSink in
      let sink = RecordingSink()
      sink.sharesBudget = true
      let session = hub.applied.openWatchSession(on: hub.loop, sink: sink)
      hub.sessions.append((session, sink))
      _ = session.create(WatchRequest(id: 1, range: .prefix("a")))
      return sink
    }
    for sink in sharing { sink.pendingBytes = Limits.maxWatchStreamBacklogBytes / 2 }
    for watching in watchings { watching.sink.pendingBytes = Limits.maxWatchStreamBacklogBytes / 2 }
    hub.put("a")
    hub.settle()
    #expect(sharing.allSatisfy { $0.keys.isEmpty }, "a quarter of the largest backlog is each stream's share")
    #expect(watchings.allSatisfy { $0.sink.keys == ["a"] }, "those that count for themselves have all of it")
    for sink in sharing { sink.pendingBytes = Limits.maxWatchStreamBacklogBytes / 8 }
    hub.settle()
    #expect(sharing.allSatisfy { $0.keys == ["a"] })
  }

  @Test(arguments: 1...30)
  func whateverHappensEveryWatchIsToldWhatItAskedFor(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    func number(_ range: Range<Int>) -> Int { .random(in: range, using: &generator) }
    let hub = Hub()
    var changes: [(key: String, revision: Int64)] = []
    var watched: [(range: KeyRange, from: Int64, sink: RecordingSink, session: any WatchSession)] = []
    for _ in 0..<400 {
      switch number(0..<10) {
      case 0..<5:
        for _ in 0..<number(1..<30) {
          let key = "\(number(0..<5))/\(number(0..<20))"
          changes.append((key, hub.put(key)))
        }
      case 5:
        let range: KeyRange =
          [.single(Bytes("\(number(0..<5))/\(number(0..<20))")), .prefix(Bytes("\(number(0..<5))/")), .from("2")][
            number(0..<3)]
        let now = hub.applied.revision
        let start = [0, Int64(number(1..<Int(now) + 1)), now + Int64(number(1..<20))][number(0..<3)]
        let opened = hub.watch(range, from: start)
        watched.append((range, start == 0 ? now + 1 : start, opened.sink, opened.session))
      case 6: if let one = watched.randomElement(using: &generator) { one.sink.pendingBytes = .max }
      case 7:
        if let one = watched.randomElement(using: &generator) {
          one.sink.pendingBytes = 0
          if number(0..<2) == 0 { one.session.resume() }
        }
      case 8: hub.loop.run()
      default: hub.loop.advanceTime(by: .milliseconds(Int64(number(0..<150))))
      }
    }
    for one in watched { one.sink.pendingBytes = 0 }
    hub.settle()
    for one in watched {
      let wanted = changes.filter { $0.revision >= one.from && one.range.contains(Bytes($0.key)) }
      #expect(one.sink.keys == wanted.map(\.key))
    }
    #expect(hub.applied.counters.slow == 0 && hub.applied.counters.pending == 0)
  }
}
