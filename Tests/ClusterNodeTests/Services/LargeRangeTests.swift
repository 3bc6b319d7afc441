import ClusterNode
import EtcdAPI
import Keyspace
import NIOCore
import NIOPosix
import Primitives
import Testing
import Wire

import struct Foundation.Data

/// Ranges that are read and sent in parts: the bytes are those of the whole answer.
@Suite("Large ranges")
struct LargeRangeTests {
  static let header = AnswerHeader(clusterID: 1, memberID: 2, revision: 3, term: 4)

  /// `count` keys, some with large values, every tenth deleted again.
  static func keyspace(_ count: Int, valueBytes: Int) throws -> Keyspace {
    var keyspace = Keyspace()
    var events: [KeyspaceEvent] = []
    for number in 0..<count {
      let value = Bytes(Array(repeating: UInt8(truncatingIfNeeded: number), count: valueBytes * (number % 3)))
      _ = try keyspace.put(PutRequest(key(number), value), leaseExists: { _ in true }, events: &events)
      if number % 10 == 9 { _ = keyspace.delete(DeleteRequest(.single(key(number))), events: &events) }
    }
    return keyspace
  }

  static func key(_ number: Int) -> Bytes { Bytes("key/\(100_000 + number)") }

  static func drained(_ parts: RangeParts) -> (whole: ByteBuffer, largestPart: Int) {
    var (whole, largest) = (ByteBuffer(), 0)
    while whole.readableBytes < parts.byteCount {
      let part = parts.nextPart()
      largest = max(largest, part.readableBytes)
      whole.writeImmutableBuffer(part)
    }
    return (whole, largest)
  }

  @Test(
    "By a cursor, whatever the range, limit and revision",
    arguments: [
      RangeQuery(.from(Bytes([1]))), RangeQuery(.prefix("key/")), RangeQuery(.prefix("nothing")),
      RangeQuery(.halfOpen(start: key(100), end: key(1_900)), limit: 1), RangeQuery(.prefix("key/"), limit: 700),
      RangeQuery(.prefix("key/"), limit: 1_800), RangeQuery(.prefix("key/"), limit: 5_000),
      RangeQuery(.prefix("key/"), revision: 900), RangeQuery(.single(key(5))), RangeQuery(.single(key(9))),
    ], [false, true])
  func byCursor(query: RangeQuery, keysOnly: Bool) throws {
    var query = query
    query.keysOnly = keysOnly
    let keyspace = try Self.keyspace(2_000, valueBytes: 150)
    let cursor = try RangeCursor(keyspace, query.range, revision: query.revision)
    let (parts, largestPart) = Self.drained(RangeParts(query, cursor, header: Self.header))
    #expect(parts == RangeAnswer(header: Self.header, result: try keyspace.range(query)).wireBuffer)
    #expect(largestPart < 66 * 1024)
  }

  @Test("Sorted, sifted and cut, with the values read again one by one", arguments: [false, true])
  func bySelection(keysOnly: Bool) throws {
    let keyspace = try Self.keyspace(2_000, valueBytes: 150)
    for target in [SortTarget.key, .version, .create, .mod, .value] {
      for order in [SortOrder.none, .ascend, .descend] {
        for (limit, least) in [(0, 0), (7, 0), (700, 400), (5_000, 1_990)] as [(Int64, Int64)] {
          var query = RangeQuery(.prefix("key/"), limit: limit)
          (query.sortTarget, query.sortOrder, query.minModRevision, query.keysOnly) = (target, order, least, keysOnly)
          let parts = try RangeParts(query, in: keyspace, header: Self.header)
          #expect(
            Self.drained(parts).whole == RangeAnswer(header: Self.header, result: try keyspace.range(query)).wireBuffer)
        }
      }
    }
    var counted = RangeQuery(.prefix("key/"))
    counted.countOnly = true
    let parts = try RangeParts(counted, in: keyspace, header: Self.header)
    #expect(
      Self.drained(parts).whole == RangeAnswer(header: Self.header, result: try keyspace.range(counted)).wireBuffer)
    #expect(throws: KeyspaceError.futureRevision) {
      try RangeParts(RangeQuery(.prefix("key/"), revision: 10_000), in: keyspace, header: Self.header)
    }
  }

  @Test("From records that are there, when they are few and large")
  func fromRecords() throws {
    var query = RangeQuery(.prefix("key/"))
    query.sortTarget = .value
    query.sortOrder = .descend
    let answer = RangeAnswer(header: Self.header, result: try Self.keyspace(2_000, valueBytes: 150).range(query))
    #expect(Self.drained(RangeParts(answer, size: answer.wireBuffer.readableBytes)).whole == answer.wireBuffer)
  }

  @Test("A cursor knows what has been compacted and what is still to come")
  func revisions() throws {
    var keyspace = try Self.keyspace(20, valueBytes: 1)
    try keyspace.compact(to: 10)
    #expect(throws: KeyspaceError.compacted(compactRevision: 10)) {
      try RangeCursor(keyspace, .from(Self.key(0)), revision: 9)
    }
    #expect(throws: KeyspaceError.futureRevision) {
      try RangeCursor(keyspace, .from(Self.key(0)), revision: keyspace.revision + 1)
    }
  }

  @Test("Short is what touches no more keys than asked for")
  func short() throws {
    let keyspace = try Self.keyspace(100, valueBytes: 1)
    #expect(keyspace.isShort(.prefix("key/"), limit: 100) && !keyspace.isShort(.prefix("key/"), limit: 99))
    #expect(keyspace.isShort(.single(Self.key(3)), limit: 0) && keyspace.isShort(.prefix("nothing"), limit: 0))
  }

  @Test("A scan runs on another thread and its answer comes back on the call's event loop")
  func scan() async throws {
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let (node, metrics) = (FakeNode(), EtcdMetrics())
    var registry = GRPCRegistry()
    EtcdServices.register(into: &registry, node: node, settings: EtcdSettings(), metrics: metrics)
    let count = 6_000
    var commands: [PutRequest] = []
    for number in 0..<count { commands.append(PutRequest(Self.key(number), Bytes("value \(number)"))) }
    node.propose(commands.map { .put($0) }) { _ in }
    let made = registry
    func answer(_ request: EtcdRangeRequest) async throws -> EtcdRangeResponse {
      let message = request.wireBuffer
      let answer = loop.makePromise(of: ByteBuffer.self)
      loop.execute {
        let call = PromisedCall("/etcdserverpb.KV/Range", on: loop, answer)
        let handler = made.handler(for: call)!
        handler.receive(message)
        handler.halfClosed()
      }
      return try EtcdRangeResponse(wire: try await answer.futureResult.get())
    }
    let everything = EtcdRangeRequest.with {
      $0.key = Data([0])
      $0.rangeEnd = Data([0])
    }
    let all = try await answer(everything)
    #expect(all.kvs.count == count && all.count == Int64(count) && !all.more)
    #expect(all.kvs.last?.value == bytes("value \(count - 1)"))
    var counting = everything
    counting.countOnly = true
    #expect(try await answer(counting).count == Int64(count))
    var sorted = everything
    sorted.sortOrder = .descend
    sorted.limit = 2
    #expect(try await answer(sorted).kvs.map { text($0.key) } == ["key/105999", "key/105998"])
    var future = everything
    future.revision = 1_000_000
    await #expect(throws: EtcdErrors.futureRevision) { try await answer(future) }
    #expect(metrics.ranges.value == 3)
  }
}

/// A unary call that keeps its promise.
private final class PromisedCall: GRPCCall {
  let eventLoop: any EventLoop
  let path: String
  private let answer: EventLoopPromise<ByteBuffer>
  private var message: ByteBuffer?
  private(set) var isOver = false

  init(_ path: String, on eventLoop: any EventLoop, _ answer: EventLoopPromise<ByteBuffer>) {
    self.path = path
    self.eventLoop = eventLoop
    self.answer = answer
  }

  func metadata(_ name: String) -> String? { nil }
  var peerCommonName: String? { nil }
  var pendingBytes: Int { 0 }
  func send(_ message: ByteBuffer) { self.message = message }

  func finish(_ status: GRPCStatus) {
    eventLoop.preconditionInEventLoop()
    isOver = true
    if let message, status == .ok { answer.succeed(message) } else { answer.fail(status) }
  }
}
