import ClusterNode
import EtcdAPI
import Foundation
import Keyspace
import NIOCore
import Primitives
import Testing
import Wire

@Suite("Watch service")
struct WatchServiceTests {
  let client: Client
  let call: FakeCall
  let handler: any GRPCHandler

  init() throws {
    var settings = EtcdSettings()
    settings.maxRequestBytes = 10_000
    client = Client(settings)
    (call, handler) = try client.open("/etcdserverpb.Watch/Watch")
  }

  func create(_ build: (inout EtcdWatchCreateRequest) -> Void) throws -> EtcdWatchResponse {
    handler.receive(EtcdWatchRequest.with { build(&$0.createRequest) }.wireBuffer)
    return try #require(try call.take(EtcdWatchResponse.self).last)
  }

  func cancel(_ id: Int64) { handler.receive(EtcdWatchRequest.with { $0.cancelRequest.watchID = id }.wireBuffer) }

  func requestProgress() {
    handler.receive(EtcdWatchRequest.with { $0.progressRequest = EtcdWatchProgressRequest() }.wireBuffer)
  }

  func session() throws -> FakeWatchSession { try #require(client.node.sessions.first) }

  func event(_ key: String, _ revision: Int64, value: Int = 1, previous: Bool = false) -> KeyspaceEvent {
    func record(_ revision: Int64) -> KeyRecord {
      KeyRecord(
        key: Bytes(key), value: Bytes(Array(repeating: 65, count: value)), createRevision: 1, modRevision: revision,
        version: 1)
    }
    return KeyspaceEvent(kind: .put, record: record(revision), previous: previous ? record(revision - 1) : nil)
  }

  @Test("A watch is created with the current revision, and its request reaches the node")
  func created() throws {
    try client.put("a", "1")
    let answer = try create {
      $0.key = bytes("a")
      $0.rangeEnd = bytes("b")
      $0.startRevision = 2
      $0.prevKv = true
      $0.filters = [.nodelete]
    }
    #expect(answer.created && !answer.canceled && answer.watchID == 0)
    #expect(answer.header.revision == 2 && answer.header.memberID == 7)
    let request = try #require(try session().created.first)
    #expect(request.range == .halfOpen(start: "a", end: "b") && request.startRevision == 2 && request.wantsPrevious)
    #expect(request.filtersDeletes && !request.filtersPuts)
  }

  @Test("Without a key a watch begins at the smallest one")
  func emptyKey() throws {
    _ = try create { $0.rangeEnd = Data([0]) }
    #expect(try session().created.first?.range == .from([0]))
  }

  @Test("IDs are counted up from 0 and step over those that clients chose; a taken one is refused")
  func ids() throws {
    #expect(try create { $0.key = bytes("a") }.watchID == 0)
    let own = try create {
      $0.key = bytes("a")
      $0.watchID = 1
    }
    #expect(own.watchID == 1)
    #expect(try create { $0.key = bytes("a") }.watchID == 2)
    let clash = try create {
      $0.key = bytes("a")
      $0.watchID = 2
    }
    #expect(clash.watchID == -1 && clash.created && clash.canceled)
    #expect(clash.cancelReason == "mvcc: duplicate watch ID provided on the WatchStream")
    #expect(client.metrics.watchers.value == 3)
  }

  @Test("A range that holds nothing is refused")
  func emptyRange() throws {
    let answer = try create {
      $0.key = bytes("b")
      $0.rangeEnd = bytes("a")
    }
    #expect(answer.watchID == -1 && answer.created && answer.canceled)
    #expect(answer.cancelReason == "mvcc: watcher range is empty")
  }

  @Test("Events go out with the revision they were read at; the value before only to who asked for it")
  func events() throws {
    _ = try create { $0.key = bytes("a") }
    _ = try create {
      $0.key = bytes("a")
      $0.prevKv = true
    }
    let session = try session()
    var delete = event("a", 4, previous: true)
    delete.kind = .delete(.leaseExpired)
    delete.record = KeyRecord(key: "a", value: Bytes(), createRevision: 0, modRevision: 4, version: 0)
    for id: Int64 in [0, 1] {
      session.sink.events(watch: id, [event("a", 3, previous: true), delete], revision: 5)
    }
    let answers = try call.take(EtcdWatchResponse.self)
    #expect(answers.map(\.watchID) == [0, 1])
    #expect(answers.allSatisfy { $0.header.revision == 5 && $0.events.map(\.type) == [.put, .delete] })
    #expect(answers[0].events.allSatisfy { !$0.hasPrevKv })
    #expect(answers[1].events.map(\.prevKv.modRevision) == [2, 3])
    #expect(
      answers[1].events[1].kv
        == .with {
          $0.key = bytes("a"); $0.modRevision = 4
        })
  }

  @Test("What the session tells during the creation is sent after the answer to it")
  func createdComesFirst() throws {
    _ = try create { $0.key = bytes("z") }
    let session = try session()
    session.duringCreate = { session.sink.events(watch: 1, [event("a", 3)], revision: 3) }
    handler.receive(EtcdWatchRequest.with { $0.createRequest.key = bytes("a") }.wireBuffer)
    let answers = try call.take(EtcdWatchResponse.self)
    #expect(answers.map(\.created) == [true, false])
    #expect(answers.map(\.events.count) == [0, 1])
  }

  @Test("A cancelled watch is answered once and hears nothing more; an unknown one is not answered")
  func cancels() throws {
    _ = try create { $0.key = bytes("a") }
    cancel(0)
    let answer = try #require(try call.take(EtcdWatchResponse.self).first)
    #expect(answer.canceled && answer.watchID == 0 && answer.compactRevision == 0 && answer.header.revision == 1)
    let session = try session()
    #expect(session.cancelled == [0])
    session.sink.events(watch: 0, [event("a", 3)], revision: 3)
    cancel(0)
    #expect(call.sent.isEmpty)
    #expect(client.metrics.watchers.value == 0)
  }

  @Test("A compacted watch ends with the compact revision, without a reason and without a revision in its header")
  func compacted() throws {
    _ = try create {
      $0.key = bytes("a")
      $0.startRevision = 1
    }
    try session().sink.compacted(watch: 0, compactRevision: 9, revision: 12)
    let answer = try #require(try call.take(EtcdWatchResponse.self).first)
    #expect(answer.canceled && answer.compactRevision == 9 && answer.cancelReason.isEmpty)
    #expect(answer.header.revision == 0 && answer.header.memberID == 7)
  }

  @Test("The ID of a compacted watch stays taken until the client cancels it, which is answered once")
  func idOfCompacted() throws {
    _ = try create {
      $0.key = bytes("a")
      $0.startRevision = 1
    }
    try session().sink.compacted(watch: 0, compactRevision: 9, revision: 12)
    _ = try call.take(EtcdWatchResponse.self)
    let own: (inout EtcdWatchCreateRequest) -> Void = {
      $0.key = bytes("a")
      $0.watchID = 1
    }
    #expect(try create(own).watchID == 1)
    try session().sink.compacted(watch: 1, compactRevision: 9, revision: 12)
    _ = try call.take(EtcdWatchResponse.self)
    #expect(try create(own).cancelReason == "mvcc: duplicate watch ID provided on the WatchStream")
    #expect(try create { $0.key = bytes("a") }.watchID == 2)
    cancel(1)
    cancel(1)
    let answers = try call.take(EtcdWatchResponse.self)
    #expect(answers.map(\.watchID) == [1] && answers.map(\.canceled) == [true])
    #expect(try create(own).watchID == 1)
  }

  @Test("Progress on request speaks for the whole stream, one answer for each request")
  func progress() throws {
    requestProgress()
    #expect(client.node.sessions.first?.progressRequests == 0, "a stream without watches stays silent")
    _ = try create { $0.key = bytes("a") }
    requestProgress()
    requestProgress()
    let session = try session()
    #expect(session.progressRequests == 1, "one at a time")
    session.sink.progress(revision: 8)
    session.sink.progress(revision: 9)
    let answers = try call.take(EtcdWatchResponse.self)
    #expect(answers.map(\.watchID) == [-1, -1])
    #expect(answers.map(\.header.revision) == [8, 9])
    #expect(session.progressRequests == 2)
  }

  @Test("A watch that starts in the future holds the stream's progress back")
  func futureStart() throws {
    _ = try create {
      $0.key = bytes("a")
      $0.startRevision = 100
    }
    requestProgress()
    try session().sink.progress(revision: 8)
    #expect(call.sent.isEmpty)
  }

  @Test("With progress_notify a quiet watch reports every ten minutes, a busy one is left out once")
  func periodicProgress() throws {
    _ = try create {
      $0.key = bytes("a")
      $0.progressNotify = true
    }
    _ = try create { $0.key = bytes("b") }
    let session = try session()
    session.told = [0: 6, 1: 6]
    client.loop.advanceTime(by: .minutes(11))
    let answers = try call.take(EtcdWatchResponse.self)
    #expect(answers.map(\.watchID) == [0] && answers.map(\.header.revision) == [6])
    session.sink.events(watch: 0, [event("a", 7)], revision: 7)
    _ = try call.take(EtcdWatchResponse.self)
    client.loop.advanceTime(by: .minutes(11))
    #expect(call.sent.isEmpty)
    client.loop.advanceTime(by: .minutes(11))
    #expect(try call.take(EtcdWatchResponse.self).map(\.watchID) == [0])
    handler.cancelled()
  }

  @Test("Neither a watch that reads history nor one in the future has progress to report, a neighbour has")
  func progressOfEach() throws {
    for start: Int64 in [0, 1, 50] {
      _ = try create {
        $0.key = bytes("a")
        $0.startRevision = start
        $0.progressNotify = true
      }
    }
    let session = try session()
    session.told = [0: 9, 2: 9]
    client.loop.advanceTime(by: .minutes(11))
    #expect(try call.take(EtcdWatchResponse.self).map(\.watchID) == [0])
    handler.cancelled()
  }

  @Test("A compaction tells the watches with progress_notify whose clients could not resume behind it")
  func progressBeforeCompaction() throws {
    for wantsProgress in [true, false, true] {
      _ = try create {
        $0.key = bytes("a")
        $0.progressNotify = wantsProgress
      }
    }
    let session = try session()
    session.told = [0: 20, 1: 20, 2: 20]
    session.sink.events(watch: 2, [event("a", 19)], revision: 19)
    _ = try call.take(EtcdWatchResponse.self)
    session.sink.compactionBegan(at: 15)
    let answers = try call.take(EtcdWatchResponse.self)
    #expect(answers.map(\.watchID) == [0] && answers.map(\.header.revision) == [20])
    session.sink.compactionBegan(at: 20)
    #expect(try call.take(EtcdWatchResponse.self).map(\.watchID) == [2], "the first has been told of 20")
  }

  @Test("The cause of a deletion is told to a stream that asks for it, and to no other")
  func deletionCause() throws {
    let (own, ownHandler) = try client.open(
      "/etcdserverpb.Watch/Watch", headers: ["leasehold-deletion-cause": "1"])
    for handler in [handler, ownHandler] {
      handler.receive(EtcdWatchRequest.with { $0.createRequest.key = bytes("a") }.wireBuffer)
    }
    let causes: [DeletionCause] = [.deleted, .leaseExpired, .leaseRevoked]
    let events = causes.enumerated().map { place, cause in
      var delete = event("a", 4 + Int64(place))
      delete.kind = .delete(cause)
      return delete
    }
    for session in client.node.sessions { session.sink.events(watch: 0, [event("a", 3)] + events, revision: 9) }
    let plain = try #require(try call.take(EtcdWatchResponse.self).last)
    #expect(plain.events.map(\.deletionCause) == [.untold, .untold, .untold, .untold])
    let native = try #require(try own.take(EtcdWatchResponse.self).last)
    #expect(native.events.map(\.deletionCause) == [.untold, .deleted, .expired, .revoked])
  }

  @Test("With fragment a large answer is split, and only its last part does not say so")
  func fragments() throws {
    _ = try create {
      $0.key = bytes("a")
      $0.fragment = true
    }
    let events = (0..<5).map { event("a\($0)", 3, value: 250_000) }
    try session().sink.events(watch: 0, events, revision: 3)
    let answers = try call.take(EtcdWatchResponse.self)
    #expect(answers.map(\.events.count) == [2, 2, 1])
    #expect(answers.map(\.fragment) == [true, true, false])
    _ = try create { $0.key = bytes("a") }
    try session().sink.events(watch: 1, events, revision: 3)
    #expect(try call.take(EtcdWatchResponse.self).map(\.events.count) == [5])
  }

  @Test("The stream outlives the client's half; its loss closes the session")
  func ends() throws {
    _ = try create { $0.key = bytes("a") }
    handler.halfClosed()
    let session = try session()
    session.sink.events(watch: 0, [event("a", 3)], revision: 3)
    #expect(call.sent.count == 1 && call.status == nil)
    handler.writable()
    #expect(session.resumptions == 1)
    handler.cancelled()
    #expect(session.isClosed)
    #expect(client.metrics.watchStreams.value == 0 && client.metrics.watchers.value == 0)
  }
}
