import CacheSidecar
import Foundation
import Primitives
import SidecarCore
import TestSupport
import Testing

/// The event socket as people and programs use it: real processes, `nc -U` and `curl --unix-socket`.
@Suite struct EventSocketTests {
  private func hello(acked: Int, head: Int, first: Int = 1) -> String {
    #"{"t":"hello","v":1,"node":"n1","epoch":"7f3a","first":\#(first),"head":\#(head),"acked":\#(acked),"caps":["batch","nak","keep","cancel"]}"#
  }

  private func evict(_ sequence: Int, _ key: String, try attempt: Int = 1) -> String {
    #"{"t":"evict","seq":\#(sequence),"cache":"c","key":"\#(key)","gen":1,"why":"expired","size":5,"idle":9,"registered":"1970-01-01T00:00:00Z","try":\#(attempt)}"#
  }

  @Test func aPersonTypesASession() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["a", "b", "c"])
    let nc = try test.nc()
    try nc.type("ack 1\nsub me\n")
    #expect(try await nc.line() == #"{"t":"err","code":"nosub","msg":"subscribe first: sub NAME"}"#)
    #expect(try await nc.lines(4) == [hello(acked: 0, head: 3), evict(1, "a"), evict(2, "b"), evict(3, "c")])
    try nc.type("\r\nack to 2\r\n")
    #expect(try await nc.line() == #"{"t":"ok","op":"ack","acked":2}"#)
    #expect(test.backend.state.withLock { $0.due } == [3], "the records are gone before the answer")
    #expect(try test.backend.record(of: "me")?.cursor.floor == 2, "and so is the cursor written")
    test.backend.revive(3, generation: 2)
    #expect(try await nc.line() == #"{"t":"cancel","seq":4,"of":3,"cache":"c","key":"c","gen":2}"#)
    try nc.type("ack 3\nstat\nunsub\n")
    #expect(
      try await nc.line()
        == #"{"t":"err","code":"stale","msg":"the entry lives again as generation 2","seq":3,"gen":2}"#)
    #expect(try await nc.line().hasPrefix(#"{"t":"ok","op":"stat","name":"me","head":4,"acked":"#))
    #expect(try await nc.rest() == "{\"t\":\"ok\",\"op\":\"unsub\"}\n")
    await test.stop()
  }

  @Test func aClosedInputKeepsTheStream() async throws {
    let test = try await EventTestServer.start()
    let nc = try TestProcess.start("sh", ["-c", "printf 'sub me\\n' | nc -N -U \(test.socket)"])
    #expect(try await nc.line() == hello(acked: 0, head: 0))
    test.backend.evict(["later"])
    #expect(try await nc.line() == evict(1, "later"))
    nc.terminate()
    await test.stop()
  }

  @Test func badLinesAreAnsweredAndLongOnesCloseTheConnection() async throws {
    let test = try await EventTestServer.start()
    let nc = try test.nc()
    try nc.type("{\"op\":\nfly\nsub me\n")
    #expect(try await nc.line().hasPrefix(#"{"t":"err","code":"badjson","msg":""#))
    #expect(try await nc.line().hasPrefix(#"{"t":"err","code":"unknown-op","msg":""#))
    #expect(try await nc.line() == hello(acked: 0, head: 0), "the connection has stayed")
    try nc.type(String(repeating: "x", count: Limits.maxEventLineBytes + 1))
    #expect(
      try await nc.rest() == "{\"t\":\"err\",\"code\":\"toolong\",\"msg\":\"a line is longer than 65536 bytes\"}\n")
    await test.stop()
  }

  @Test func theNewerConnectionWins() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["a"])
    let older = try test.nc()
    try older.type("sub me\n")
    #expect(try await older.lines(2).last == evict(1, "a"))
    let newer = try test.nc()
    try newer.type(#"{"op":"sub","name":"me","batch":10}"# + "\n")
    #expect(try await older.rest().hasPrefix(#"{"t":"err","code":"fenced","msg":""#))
    #expect(try await newer.line() == hello(acked: 0, head: 1))
    #expect(
      try await newer.line()
        == #"{"t":"evict","items":[{"seq":1,"cache":"c","key":"a","gen":1,"why":"expired","size":5,"idle":9,"registered":"1970-01-01T00:00:00Z","try":2}]}"#
    )
    await test.stop()
  }

  @Test func curlStreamsTheSameAndAcknowledgesBesideIt() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["a", "b"])
    let stream = try test.curl(["http://x/v1/events?name=me&inflight=2"])
    #expect(try await stream.lines(3) == [hello(acked: 0, head: 2), evict(1, "a"), evict(2, "b")])
    test.backend.evict(["c"])
    let body = "ack 1\n{\"op\":\"nak\",\"seq\":2,\"after\":\"1h\"}\n\npause\n{\nack 9\n"
    let answers = try test.curl(["--data-binary", body, "http://x/v1/ack?name=me"])
    #expect(try await answers.line() == #"{"t":"ok","op":"ack","acked":1}"#)
    #expect(try await answers.line() == #"{"t":"ok","op":"nak","seq":2,"after":"1h"}"#)
    #expect(try await answers.line().contains("unknown-op"))
    #expect(try await answers.line().contains("badjson"))
    #expect(try await answers.line().contains("stale"))
    #expect(try await answers.rest() == "", "one line each")
    #expect(try await stream.line() == evict(3, "c"), "1 has made room")
    await test.stop()
  }

  @Test func aLongPollEndsWithEventsOr204() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["a", "b", "c"])
    let code = ["-w", "%{http_code}\n"]
    let first = try test.curl(code + ["http://x/v1/events?name=me&limit=2&wait=20s"])
    #expect(try await first.rest() == evict(1, "a") + "\n" + evict(2, "b") + "\n200\n")
    let second = try test.curl(code + ["http://x/v1/events?name=me&limit=2&wait=20s"])
    #expect(try await second.rest() == evict(3, "c") + "\n200\n", "what the first has taken is out")
    let third = try test.curl(code + ["http://x/v1/events?name=me&limit=2&wait=300ms"])
    #expect(try await third.rest() == "204\n")
    let wrong = try test.curl(code + ["http://x/v1/events?name=me&limit=none"])
    #expect(try await wrong.rest().hasSuffix("400\n"))
    let unknown = try test.curl(code + ["--data-binary", "ack 1", "http://x/v1/ack?name=nobody"])
    #expect(try await unknown.rest().hasSuffix("404\n"))
    await test.stop()
  }

  @Test func aSlowConsumerHoldsBackTheReadingAndIsClosedWhenItTakesNothing() async throws {
    let test = try await EventTestServer.start { $0.stallMilliseconds = 800 }
    let count = 40_000
    let padding = String(repeating: "k", count: 200)
    test.backend.evict((1...count).map { "\(padding)\($0)" })
    let slow = try test.nc(reads: false)
    try slow.type("sub me inflight=65536\n")
    try await eventually("it is closed") {
      guard let standing = await test.hub.statistics().first else { return false }
      return !standing.isConnected && standing.unacknowledged > 0
    }
    #expect(test.backend.state.withLock { $0.highestRead } < 10_000, "a few buffers full, not the journal")
    let quick = try test.nc()
    try quick.type("sub me inflight=65536\n")
    _ = try await quick.line()
    var seen: Set<String> = []
    while seen.count < count {
      let line = try await quick.line()
      if line.contains("evict") { seen.insert(String(line.split(separator: ",")[1])) }
    }
    await test.stop()
  }

  @Test func anEvictionWaitsForEverybodyAndForForgottenNamesNoMore() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["a", "b"])
    let one = try test.nc()
    let two = try test.nc()
    try one.type("sub one\n")
    try two.type("sub two\n")
    _ = try await one.lines(3)
    _ = try await two.lines(3)
    try one.type("ack to 2\n")
    _ = try await one.line()
    #expect(test.backend.state.withLock { $0.due } == [1, 2])
    try two.type("ack 1\n")
    _ = try await two.line()
    #expect(test.backend.state.withLock { $0.due } == [2], "the last acknowledgement removes the record")
    try two.type("unsub forget\n")
    #expect(try await two.rest().contains(#""op":"unsub""#))
    try await eventually("the forgotten name holds nothing up, and the journal is trimmed") {
      test.backend.state.withLock { $0.due.isEmpty && $0.first == 3 }
    }
    #expect(try test.backend.record(of: "two") == nil)
    await test.stop()
  }

  @Test func aRestartGoesOnAtTheCursorAndAFailedCommitIsRepeated() async throws {
    let backend = EventTestBackend()
    let directory = TemporaryDirectory()
    let test = try await EventTestServer.start(backend, in: directory)
    backend.evict(["a", "b", "c"])
    let nc = try test.nc()
    try nc.type("sub me\n")
    _ = try await nc.lines(4)
    backend.state.withLock { $0.failures = 2 }
    try nc.type("ack 1 3\n")
    #expect(try await nc.line() == #"{"t":"ok","op":"ack","acked":1}"#)
    await test.stop()
    let again = try await EventTestServer.start(backend, in: directory)
    let curl = try again.curl(["--data-binary", "ack to 1", "http://x/v1/ack?name=me"])
    #expect(try await curl.line() == #"{"t":"ok","op":"ack","acked":1}"#)
    try await eventually("the journal is trimmed at the start") { backend.first == 2 }
    let second = try again.nc()
    try second.type("sub me\n")
    let two = try await second.lines(2)
    #expect(two == [hello(acked: 1, head: 3, first: 2), evict(2, "b")])
    try second.type("sub you from=now\n")
    #expect(try await second.line().contains("nosub"))
    await again.stop()
  }

  @Test func aSubscriptionToOneCacheSeesItAloneAndKeepsToIt() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict(["x"], cache: "other")
    test.backend.evict(["a"])
    let nc = try test.nc()
    try nc.type("sub me cache=c\n")
    #expect(try await nc.lines(2).last == evict(2, "a"))
    let other = try test.nc()
    try other.type("sub me cache=other\n")
    #expect(try await other.line().hasPrefix(#"{"t":"err","code":"nosub","msg":"me is subscribed to the cache c"#))
    await test.stop()
  }

  @Test func anAcknowledgementReachesNoOtherCachesEntries() async throws {
    let backend = EventTestBackend()
    let directory = TemporaryDirectory()
    let test = try await EventTestServer.start(backend, in: directory)
    backend.evict(["x"], cache: "other")
    backend.evict(["a"])
    let nc = try test.nc()
    try nc.type("sub me cache=c\n")
    _ = try await nc.lines(2)
    await test.stop()
    let again = try await EventTestServer.start(backend, in: directory)
    let curl = try again.curl(["--data-binary", "ack to 2\nack 1 gone\nkeep 1", "http://x/v1/ack?name=me"])
    #expect(try await curl.line() == #"{"t":"ok","op":"ack","acked":2}"#)
    #expect(try await curl.line() == #"{"t":"ok","op":"ack","acked":2}"#)
    #expect(try await curl.line().contains("stale"))
    #expect(backend.state.withLock { $0.acknowledged } == [2])
    #expect(backend.state.withLock { $0.due } == [1])
    await again.stop()
  }

  @Test func heartbeatsTellHeadAndFloor() async throws {
    let test = try await EventTestServer.start { $0.heartbeatMilliseconds = 300 }
    let nc = try test.nc()
    try nc.type("sub me\n")
    #expect(try await nc.lines(2).last == #"{"t":"hb","head":0,"acked":0}"#)
    await test.stop()
  }

  @Test func aThousandAcknowledgementsOnLinesOfTheirOwnShareCommits() async throws {
    let test = try await EventTestServer.start()
    test.backend.evict((1...1_000).map { "\($0)" })
    let nc = try test.nc()
    try nc.type("sub me inflight=1000\n")
    _ = try await nc.lines(1_001)
    let before = test.backend.state.withLock { $0.settleCalls }
    try nc.type((1...1_000).map { "ack \($0)\n" }.joined())
    #expect(try await nc.lines(1_000).last == #"{"t":"ok","op":"ack","acked":1000}"#)
    #expect(test.backend.state.withLock { $0.settleCalls } - before < 500)
    await test.stop()
  }
}
