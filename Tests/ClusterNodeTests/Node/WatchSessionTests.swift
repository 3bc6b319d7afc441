import ClusterNode
import Keyspace
import NIOCore
import NIOPosix
import Primitives
import StateMachine
import Testing

/// Watches on the real node: ordered, without gaps or repetition, whatever the reader's pace.
@Suite struct WatchSessionTests {
  private final class Watching {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let sink = RecordingSink()
    private let session: NIOLoopBoundBox<(any WatchSession)?>

    init(_ node: Node) async throws {
      session = NIOLoopBoundBox.makeBoxSendingValue(nil, eventLoop: loop)
      let (session, sink, loop) = (session, sink, loop)
      try await loop.submit { session.value = node.openWatchSession(on: loop, sink: sink) }.get()
    }

    func on<R: Sendable>(_ body: @escaping @Sendable (any WatchSession) -> R) async throws -> R {
      let session = session
      return try await loop.submit { body(session.value!) }.get()
    }

    func create(_ id: Int64, _ prefix: Bytes, from revision: Int64 = 0) async throws {
      _ = try await on { $0.create(WatchRequest(id: id, range: .prefix(prefix), startRevision: revision)) }
    }
  }

  @Test func aWatchFromNowSeesEveryLaterChangeOnceAndInOrder() async throws {
    let fixture = try NodeFixture()
    try await fixture.put("a0", "")
    let watching = try await Watching(fixture.node)
    try await watching.create(1, "a")
    for number in 1...50 { try await fixture.put("a\(number)", "") }
    try await fixture.put("b", "")
    _ = try await fixture.propose(.delete(DeleteRequest(.single("a1"))))
    #expect(try await eventually { watching.sink.keys.last == "-a1" })
    #expect(watching.sink.keys == (1...50).map { "a\($0)" } + ["-a1"])
    await fixture.node.stop()
  }

  @Test func aWatchFromThePastReadsHistoryAndGoesOnLive() async throws {
    let fixture = try NodeFixture()
    for number in 0..<3_000 { try await fixture.put("a\(number)", "") }
    let watching = try await Watching(fixture.node)
    try await watching.create(1, "a", from: 2)
    for number in 3_000..<3_100 { try await fixture.put("a\(number)", "") }
    #expect(try await eventually { watching.sink.keys.last == "a3099" })
    #expect(watching.sink.keys == (0..<3_100).map { "a\($0)" })
    await fixture.node.stop()
  }

  @Test func thePreviousValueIsThatOfTheRevisionBeforeEvenWithinATransaction() async throws {
    let fixture = try NodeFixture()
    try await fixture.put("a", "old")
    let watching = try await Watching(fixture.node)
    _ = try await watching.on {
      $0.create(WatchRequest(id: 1, range: .prefix("a"), startRevision: 0, wantsPrevious: true))
    }
    _ = try await fixture.propose(
      .transaction(
        TransactionRequest(success: [
          .put(PutRequest("a", "new")), .put(PutRequest("ab", "new")), .delete(DeleteRequest(.prefix("a"))),
        ])))
    _ = try await watching.on {
      $0.create(WatchRequest(id: 2, range: .from("a"), startRevision: 3, wantsPrevious: true, filtersPuts: true))
    }
    #expect(try await eventually { watching.sink.items.count >= 2 })
    #expect(watching.sink.previousValues[1] == ["old", nil, "old", nil], "live: two puts, two deletes")
    #expect(watching.sink.previousValues[2] == ["old", nil], "from history, the deletes alone")
    await fixture.node.stop()
  }

  @Test func aSlowReaderCostsBoundedMemoryAndMissesNothing() async throws {
    let fixture = try NodeFixture()
    let watching = try await Watching(fixture.node)
    try await watching.create(1, "a")
    watching.sink.pendingBytes = .max
    let value = String(repeating: "x", count: 100_000)
    // Three times what may wait for a stream.
    let count = 3 * Limits.maxWatchStreamBacklogBytes / value.utf8.count
    for number in 0..<count { try await fixture.put("a\(number)", value) }
    #expect(watching.sink.keys.isEmpty)
    watching.sink.pendingBytes = 0
    try await watching.on { $0.resume() }
    #expect(try await eventually { watching.sink.keys.count >= count })
    #expect(watching.sink.keys == (0..<count).map { "a\($0)" })
    await fixture.node.stop()
  }

  @Test func aCompactedStartEndsTheWatchWithTheRevision() async throws {
    let fixture = try NodeFixture()
    for _ in 0..<10 { try await fixture.put("a", "") }
    _ = try await fixture.propose(.compact(revision: 8))
    let watching = try await Watching(fixture.node)
    try await watching.create(1, "a", from: 3)
    try await watching.create(2, "a", from: 8)
    #expect(try await eventually { watching.sink.items.count >= 2 })
    #expect(watching.sink.items.contains(.compacted(watch: 1, at: 8)))
    #expect(watching.sink.keys == ["a", "a", "a", "a"])
    await fixture.node.stop()
  }

  @Test func progressComesBehindEverythingItSpeaksFor() async throws {
    let fixture = try NodeFixture()
    for number in 0..<2_500 { try await fixture.put("a\(number)", "") }
    let watching = try await Watching(fixture.node)
    _ = try await watching.on { session in
      _ = session.create(WatchRequest(id: 1, range: .prefix("a"), startRevision: 2))
      session.requestProgress()
    }
    #expect(try await eventually { watching.sink.items.last == .progress(2_501) })
    #expect(watching.sink.keys.count == 2_500)
    await fixture.node.stop()
  }

  @Test func aCancelledWatchIsTakenOffAndTheOthersStay() async throws {
    let fixture = try NodeFixture()
    let watching = try await Watching(fixture.node)
    try await watching.create(1, "a")
    try await watching.create(2, "a")
    try await watching.on { $0.cancel(1) }
    try await fixture.put("a", "")
    #expect(try await eventually { !watching.sink.items.isEmpty })
    #expect(watching.sink.items == [.events(watch: 2, keys: ["a"])])
    await fixture.node.stop()
  }
}
