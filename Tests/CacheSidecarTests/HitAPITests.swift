import CacheSidecar
import NIOCore
import NIOPosix
import Primitives
import SidecarCore
import Testing
import Wire

/// The HTTP API as a client sees it, without a socket.
@Suite struct HitAPITests {
  /// Answers arrive on an event loop, as they do on a connection.
  private final class Responder: HTTPResponder {
    let eventLoop: any EventLoop
    let promise: EventLoopPromise<HTTPResponse>

    init(_ promise: EventLoopPromise<HTTPResponse>, on eventLoop: any EventLoop) {
      self.promise = promise
      self.eventLoop = eventLoop
    }

    func respond(_ response: HTTPResponse) { promise.succeed(response) }

    func startStream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream {
      preconditionFailure("nothing here streams")
    }
  }

  private struct Client {
    let router: HTTPRouter

    init(_ fixture: EntryFixture) {
      var router = HTTPRouter()
      fixture.sidecar.addRoutes(to: &router)
      self.router = router
    }

    func send(_ method: String, _ target: String, _ body: String = "") async throws -> (status: Int, body: String) {
      let parts = target.split(separator: "?", maxSplits: 1).map(String.init)
      let request = HTTPRequest(
        method: method, path: parts[0], query: parts.count > 1 ? parts[1] : "", body: ByteBuffer(string: body))
      let eventLoop = MultiThreadedEventLoopGroup.singleton.any()
      let response = try await eventLoop.flatSubmit {
        let promise = eventLoop.makePromise(of: HTTPResponse.self)
        router.dispatch(request, Responder(promise, on: eventLoop))
        return promise.futureResult
      }.get()
      return (response.status, String(buffer: response.body))
    }
  }

  @Test func aHitIsAnsweredByWhatBecameOfIt() async throws {
    let fixture = try await EntryFixture("c:ttl=10s,jitter=0", "x:ttl=10s,register=explicit")
    let client = Client(fixture)
    #expect(try await client.send("POST", "/v1/caches/c/hit/cas/ab%20c").status == 201)
    #expect(try await client.send("POST", "/v1/caches/c/hit/cas/ab%20c").status == 204)
    #expect(try await fixture.record("cas/ab c")?.state == .live)
    #expect(try await client.send("POST", "/v1/caches/x/hit/k").status == 404)
    #expect(try await client.send("POST", "/v1/caches/c/hit?key64=_w8").status == 201)
    let missing = try await client.send("POST", "/v1/caches/nope/hit/k")
    #expect(missing.status == 404 && missing.body.contains("configured: c, x"))
    #expect(try await client.send("GET", "/v1/caches/c/hit/k").status == 405)
    #expect(try await client.send("POST", "/v1/caches/c/hit/").status == 400)
    #expect(try await client.send("POST", "/v1/caches/c/hit/a%zz").status == 400)
    let long = String(repeating: "x", count: 1_025)
    #expect(try await client.send("POST", "/v1/caches/c/hit/\(long)").status == 414)
    #expect(try await client.send("PUT", "/v1/caches/c/pins/k").status == 404)
    _ = await fixture.evict("cas/ab c")
    #expect(try await fixture.acknowledge(1, "cas/ab c", isLast: false) == .accepted)
    #expect(try await client.send("POST", "/v1/caches/c/hit/cas/ab%20c").status == 410)
  }

  @Test func aBatchCountsWhatBecameOfItsHits() async throws {
    let fixture = try await EntryFixture("c:ttl=10s,jitter=0", "x:ttl=10s,register=explicit")
    let client = Client(fixture)
    let first = try await client.send("POST", "/v1/caches/c/hits", "a\nb\r\n\n{\"key\":\"c\",\"refs\":[\"a\"]}\n")
    #expect(first.status == 200)
    #expect(
      first.body == #"{"hits":3,"renewed":0,"coalesced":0,"registered":3,"unknown":[],"evicting":[]}"# + "\n")
    #expect(try await fixture.record("c")?.refs == ["a"])
    let second = try await client.send("POST", "/v1/caches/c/hits", "a\nb\na")
    #expect(second.body.contains(#""hits":3,"renewed":0,"coalesced":3"#))
    let unknown = try await client.send("POST", "/v1/caches/x/hits", "a")
    #expect(unknown.body.contains(#""unknown":["a"]"#))
    let bad = try await client.send("POST", "/v1/caches/c/hits", "a\n{\"key\":1}")
    #expect(bad.status == 400 && bad.body.contains("line 2"))
  }

  @Test func entriesAreRegisteredShownListedAndEvicted() async throws {
    let fixture = try await EntryFixture("c:ttl=10s,window=1s,jitter=0")
    let client = Client(fixture)
    let body = #"{"size":5,"ttl":"20s","refs":["r"],"labels":{"team":"ci"}}"#
    #expect(try await client.send("PUT", "/v1/caches/c/entries/a", body).status == 201)
    #expect(try await client.send("PUT", "/v1/caches/c/entries/a", body).status == 200)
    fixture.store.advance(milliseconds: 500)
    let shown = try await client.send("GET", "/v1/caches/c/entries/a")
    #expect(
      shown.body
        == #"{"key":"a","state":"live","gen":1,"deadline":"1970-01-01T00:00:22Z","remaining":20.5,"idle":0.5,"size":5,"#
        + #""registered":"1970-01-01T00:00:01Z","ttl":"20s","refs":["r"],"labels":{"team":"ci"}}"# + "\n")
    for key in ["b", "c", "d"] { #expect(try await client.send("PUT", "/v1/caches/c/entries/\(key)").status == 201) }
    #expect(try await client.send("DELETE", "/v1/caches/c/entries/d").status == 202)
    #expect(try await client.send("DELETE", "/v1/caches/c/entries/e").status == 404)
    let page = try await client.send("GET", "/v1/caches/c/entries?limit=2")
    #expect(page.body.hasSuffix(#"],"next":"b"}"# + "\n"))
    let rest = try await client.send("GET", "/v1/caches/c/entries?limit=2&after=b&state=live")
    #expect(rest.body.contains(#""key":"c""#) && !rest.body.contains(#""key":"d""#) && !rest.body.contains("next"))
    let gone = try await client.send("GET", "/v1/caches/c/entries?state=evicting")
    #expect(gone.body.contains(#""state":"evicting","gen":1,"seq":1,"why":"deleted""#))
    let cache = try await client.send("GET", "/v1/caches/c")
    #expect(cache.body.contains(#""entries":{"live":3,"evicting":1}"#))
  }

  @Test func badInputIsToldFromTheField() async throws {
    let client = Client(try await EntryFixture())
    for (body, field) in [
      (#"{"size":-1}"#, "size"), (#"{"ttl":"soon"}"#, "ttl"), (#"{"ttl":"1ms"}"#, "ttl"), (#"{"refs":[1]}"#, "refs"),
      (#"{"labels":{"a":1}}"#, "labels"), (#"{"sise":1}"#, "sise"),
    ] {
      let answer = try await client.send("PUT", "/v1/caches/c/entries/a", body)
      #expect(answer.status == 400 && answer.body.contains("\"field\":\"\(field)\""), "\(body) → \(answer)")
    }
    #expect(try await client.send("PUT", "/v1/caches/c/entries/a", "{").status == 400)
    #expect(try await client.send("GET", "/v1/caches/c/entries?limit=0").status == 400)
    #expect(try await client.send("GET", "/v1/caches/c/entries?state=dead").status == 400)
  }

  @Test func aStoreThatIsDownIsSaidSo() async throws {
    let fixture = try await EntryFixture()
    fixture.store.crash(afterTransitions: 0)
    #expect(try await Client(fixture).send("POST", "/v1/caches/c/hit/k").status == 503)
    #expect(try await Client(fixture).send("GET", "/health").status == 503)
    let status = try await Client(fixture).send("GET", "/v1/status")
    #expect(status.status == 200 && status.body.contains("\"head\":0"))
  }

  @Test func metricsCountHitsOnce() async throws {
    let fixture = try await EntryFixture()
    let client = Client(fixture)
    for _ in 0..<4 { _ = try await client.send("POST", "/v1/caches/c/hit/k") }
    _ = try await client.send("POST", "/v1/caches/c/hits", "k\nk")
    let text = try await client.send("GET", "/metrics").body
    #expect(text.contains(#"leasehold_hits_total{cache="c",hook="http",outcome="registered"} 1"#))
    #expect(text.contains(#"leasehold_hits_total{cache="c",hook="http",outcome="coalesced"} 3"#))
    #expect(text.contains(#"leasehold_hits_total{cache="c",hook="batch",outcome="coalesced"} 2"#))
    #expect(text.contains(#"leasehold_cache_entries{cache="c",state="live"} 1"#))
  }
}
