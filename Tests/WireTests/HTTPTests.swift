import NIOCore
import NIOEmbedded
import Testing
import Wire

/// The same requests over HTTP/2 and HTTP/1.1, and what is particular to HTTP/1.1.
@Suite struct HTTPTests {
  // MARK: HTTP/2

  func get(_ path: String, _ method: String = "GET") -> [(String, String)] {
    [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")]
  }

  @Test func http2() throws {
    let client = try joinedClient(testServices())
    let hello = client.answers[try client.request(get("/hello"))]!
    #expect(hello.headers[":status"] == "200")
    #expect(hello.headers["content-length"] == "6")
    #expect(hello.body == Array("hello\n".utf8) && hello.isClosed)
    let head = client.answers[try client.request(get("/hello", "HEAD"))]!
    #expect(head.headers["content-length"] == "6" && head.body.isEmpty && head.isClosed)
    let echo = client.answers[try client.request(get("/echo", "POST"), body: Array("x=1".utf8))]!
    #expect(echo.body == Array("x=1".utf8))
    #expect(client.answers[try client.request(get("/nowhere"))]!.headers[":status"] == "404")
    let wrong = client.answers[try client.request(get("/hello", "POST"), body: [1])]!
    #expect(wrong.headers[":status"] == "405" && wrong.headers["allow"] == "GET, HEAD")
    #expect(client.answers[try client.request(get("/who"))]!.body == Array("alice".utf8))
    let count = client.answers[try client.request(get("/count?to=2"))]!
    #expect(count.body == Array("{\"n\":0}\n{\"n\":1}\n".utf8) && count.isClosed)
  }

  @Test func http2BodyLimit() throws {
    var limits = WireLimits()
    limits.maxBodyBytes = 100
    let client = try joinedClient(testServices(limits: limits))
    let id = try client.request(get("/echo", "POST"), body: Array(repeating: 1, count: 101))
    #expect(client.answers[id]!.headers[":status"] == "413")
    #expect(client.answers[id]!.isClosed)
  }

  @Test func http2StreamsTellWhenThePeerLeaves() throws {
    let journal = Journal()
    let client = try joinedClient(testServices(journal))
    let id = try client.request(get("/forever"))
    #expect(client.answers[id]!.body == Array("{\"first\":true}\n".utf8))
    try client.reset(id)
    #expect(journal.all == ["stream open", "stream closed"])
  }

  @Test func oversizedHeadersAreRefused() throws {
    let client = try joinedClient(testServices())
    let id = try client.request(get("/hello") + [("x-long", String(repeating: "x", count: 20_000))])
    #expect(client.answers[id]!.headers[":status"] == "431")
    let call = try client.call("/test.Echo/Say", [[]], extra: [("x-long", String(repeating: "x", count: 20_000))])
    #expect(client.answers[call]!.grpcStatus == "8")
  }

  /// etcdctl 3.4 gives its endpoint as the authority, scheme and all.
  @Test func anAuthorityThatIsNoHostIsServed() throws {
    let client = try joinedClient(testServices())
    let fields = [
      (":method", "GET"), (":scheme", "http"), (":path", "/hello"), (":authority", "http://127.0.0.1:2379"),
    ]
    #expect(client.answers[try client.request(fields)]!.headers[":status"] == "200")
  }

  @Test(
    arguments: [
      [(":method", "GET"), (":path", "/hello")], [(":scheme", "http"), (":path", "/hello")],
      [(":method", "GET"), (":scheme", "http")], [(":method", ""), (":scheme", "http"), (":path", "/hello")],
      [(":method", "GET"), (":scheme", "http"), (":path", "hello")],
      [(":method", "GET"), (":scheme", "http"), (":path", "*")],
      [(":method", "CONNECT"), (":authority", "other:80")],
      [(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/hello")],
      [(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/hello")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/hello"), (":status", "200")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/hello"), ("x y", "z")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/hello"), ("x", "y\r\nz: 1")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/he\0llo")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/hello"), ("x", " y")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/hello"), ("connection", "close")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/hello"), ("transfer-encoding", "chunked")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/hello"), ("te", "gzip")],
    ] as [[(String, String)]])
  func whatIsNoRequestIsResetAndTheConnectionLivesOn(fields: [(String, String)]) throws {
    let client = try joinedClient(testServices())
    let refused = client.answers[try client.request(fields)]!
    #expect(refused.headers.isEmpty && refused.isClosed && refused.errorCode == 1, "\(fields)")
    #expect(client.answers[try client.request(get("/hello"))]!.headers[":status"] == "200")
  }

  @Test func http2RequestsTellWhenTheirPeerLeaves() throws {
    let journal = Journal()
    let client = try joinedClient(testServices(journal))
    let id = try client.request(get("/patient"))
    #expect(!client.answers[id]!.isClosed && journal.all.isEmpty)
    try client.reset(id)
    #expect(journal.all == ["abandoned"])
  }

  @Test func aStreamThatIsGivenUpIsReset() throws {
    let journal = Journal()
    let client = try joinedClient(testServices(journal))
    let id = try client.request(get("/given-up"))
    #expect(client.answers[id]!.isClosed && client.answers[id]!.errorCode == 11)
    #expect(journal.all == ["stream closed"])
    #expect(client.answers[try client.request(get("/hello"))]!.headers[":status"] == "200")
  }

  @Test func noMoreStreamsThanAreGranted() throws {
    var limits = WireLimits()
    limits.maxConcurrentStreams = 3
    let client = try joinedClient(testServices(limits: limits))
    let open = try (0..<3).map { _ in try client.call("/test.Echo/Chat", [[1]], ends: false) }
    let waiting = try client.call("/test.Echo/Say", [[1]])
    #expect(client.answers[waiting]!.grpcStatus == nil, "a client that heeds the limit holds it back")
    try client.reset(open[0])
    #expect(client.answers[waiting]!.grpcStatus == "0")
  }

  // MARK: HTTP/1.1

  @Test func http1RequestsTellWhenTheirPeerLeaves() throws {
    for halfCloses in [true, false] {
      let journal = Journal()
      let text = try Text(testServices(journal))
      #expect(try text.send("GET /patient HTTP/1.1\r\nHost: x\r\n\r\n").isEmpty)
      if halfCloses {
        text.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
      } else {
        _ = try text.channel.finish(acceptAlreadyClosed: true)
      }
      #expect(journal.all == ["abandoned"])
    }
  }

  @Test func aStreamThatIsGivenUpEndsItsConnection() throws {
    let journal = Journal()
    let text = try Text(testServices(journal))
    _ = try text.send("GET /given-up HTTP/1.1\r\nHost: x\r\n\r\n")
    text.channel.embeddedEventLoop.run()
    #expect(!text.channel.isActive && journal.all == ["stream closed"])
  }

  /// A connection that is fed text and gives text back.
  private final class Text {
    let channel = EmbeddedChannel()
    init(_ services: WireServices) throws {
      try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
      try WirePipeline.installHTTP(on: channel, services: services, peerCommonName: nil)
    }
    func send(_ text: String) throws -> String {
      if channel.isActive { try channel.writeInbound(ByteBuffer(string: text)) }
      return try received()
    }
    func received() throws -> String {
      channel.embeddedEventLoop.run()
      var text = ""
      while let bytes = try channel.readOutbound(as: ByteBuffer.self) { text += String(buffer: bytes) }
      return text
    }
  }

  @Test func http1() throws {
    let text = try Text(testServices())
    #expect(
      try text.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        == "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 6\r\n\r\nhello\n")
    #expect(
      try text.send("HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        == "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 6\r\n\r\n")
    #expect(try text.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd").hasSuffix("\r\n\r\nabcd"))
    let wrong = try text.send("DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(wrong.hasPrefix("HTTP/1.1 405 Method Not Allowed\r\n") && wrong.contains("allow: GET, HEAD\r\n"))
    #expect(try text.send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").hasPrefix("HTTP/1.1 404 Not Found\r\n"))
    #expect(text.channel.isActive)
    #expect(try text.send("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").contains("connection: close"))
    #expect(!text.channel.isActive)
  }

  /// Requests sent in one go, one of them answered later: answers in order, each complete.
  @Test func pipelinedRequestsAreAnsweredInOrder() throws {
    let text = try Text(testServices())
    let request = { (path: String) in "GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n" }
    let answers = try text.send(request("/later") + request("/hello") + request("/count?to=1") + request("/hello"))
    let bodies = answers.split(separator: "HTTP/1.1 200 OK").map { $0.split(separator: "\r\n\r\n", maxSplits: 1)[1] }
    #expect(bodies == ["later\n", "hello\n", "8\r\n{\"n\":0}\n\r\n0\r\n\r\n", "hello\n"])
  }

  /// As many as fit a read, answered from within each other's delivery: the stack must not grow with them.
  @Test func manyPipelinedRequests() throws {
    let text = try Text(testServices())
    let answers = try text.send(String(repeating: "GET /hello HTTP/1.1\r\n\r\n", count: 5_000))
    #expect(answers.split(separator: "\r\n\r\nhello\n").count == 5_000)
  }

  @Test func everyCutOfARequestGivesTheSameAnswer() throws {
    let bytes = Array(
      "POST /echo?a=b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".utf8)
    for cut in 1..<bytes.count {
      let text = try Text(testServices())
      var answer = try text.send(String(decoding: bytes[..<cut], as: UTF8.self))
      answer += try text.send(String(decoding: bytes[cut...], as: UTF8.self))
      #expect(answer.hasSuffix("\r\n\r\nabc"), "cut at \(cut)")
    }
  }

  @Test func bodyLimitDeclaredAndNot() throws {
    var limits = WireLimits()
    limits.maxBodyBytes = 10
    let declared = try Text(testServices(limits: limits))
    #expect(
      try declared.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n").hasPrefix("HTTP/1.1 413"))
    #expect(declared.channel.isActive, "the rest is drained first")
    _ = try declared.send("12345678901")
    #expect(!declared.channel.isActive)
    let chunked = try Text(testServices(limits: limits))
    let answer = try chunked.send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 413") && answer.contains("connection: close"))
    chunked.channel.embeddedEventLoop.advanceTime(by: .seconds(6))
    #expect(!chunked.channel.isActive)
  }

  @Test func expectContinue() throws {
    let text = try Text(testServices())
    let head = "Host: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    #expect(try text.send("POST /echo HTTP/1.1\r\n" + head) == "HTTP/1.1 100 Continue\r\n\r\n")
    #expect(try text.send("ok").hasSuffix("\r\n\r\nok"))
    #expect(try text.send("POST /nowhere HTTP/1.1\r\n" + head).hasPrefix("HTTP/1.1 404"))
  }

  @Test func streams() throws {
    let journal = Journal()
    let text = try Text(testServices(journal))
    let start = try text.send("GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(start.contains("transfer-encoding: chunked") && start.hasSuffix("f\r\n{\"first\":true}\n\r\n"))
    text.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    text.channel.embeddedEventLoop.run()
    #expect(journal.all == ["stream open", "stream closed"])
    let old = try Text(testServices())
    let answer = try old.send("GET /count?to=1 HTTP/1.0\r\n\r\n")
    #expect(answer.hasSuffix("\r\n\r\n{\"n\":0}\n") && !answer.contains("chunked") && !old.channel.isActive)
  }

  @Test func anAnswerStillGoesToAClientThatClosedItsSide() throws {
    let text = try Text(testServices())
    try text.channel.writeInbound(ByteBuffer(string: "GET /later HTTP/1.1\r\nHost: x\r\n\r\n"))
    text.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    #expect(try text.received().hasSuffix("later\n"))
    #expect(!text.channel.isActive)
  }

  /// Slow or silent clients are let go.
  @Test func timeouts() throws {
    let silent = try Text(testServices())
    silent.channel.embeddedEventLoop.advanceTime(by: .seconds(11))
    #expect(!silent.channel.isActive)

    let slow = try Text(testServices())
    for byte in "GET /hello HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyy" where slow.channel.isActive {
      _ = try slow.send(String(byte))
      slow.channel.embeddedEventLoop.advanceTime(by: .seconds(1))
    }
    #expect(!slow.channel.isActive)

    let body = try Text(testServices())
    _ = try body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    for _ in 0..<11 {
      body.channel.embeddedEventLoop.advanceTime(by: .seconds(29))
      if body.channel.isActive { _ = try body.send("x") }
    }
    body.channel.embeddedEventLoop.advanceTime(by: .seconds(6))
    #expect(!body.channel.isActive)

    let idle = try Text(testServices())
    _ = try idle.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    idle.channel.embeddedEventLoop.advanceTime(by: .seconds(60))
    #expect(idle.channel.isActive)
    idle.channel.embeddedEventLoop.advanceTime(by: .seconds(61))
    #expect(!idle.channel.isActive)
  }

  @Test func nonsenseIsRefused() throws {
    let text = try Text(testServices())
    #expect(try text.send("hello there\r\n\r\n").hasPrefix("HTTP/1.1 400 Bad Request\r\n"))
    #expect(!text.channel.isActive)
    let long = try Text(testServices())
    let answer = try long.send("GET / HTTP/1.1\r\nX: " + String(repeating: "x", count: 20_000) + "\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 431"))
  }

  @Test func responseHeadersCannotBeSplit() throws {
    #expect(headerSafe("a\r\nb: c") == "a  b: c")
  }

  // MARK: Router and text

  @Test func routes() {
    var router = HTTPRouter()
    router.onPrefix("GET", "/v1/") { _, _ in }
    router.onPrefix("PUT", "/v1/caches/") { _, _ in }
    router.on("DELETE", "/v1/caches/all") { _, _ in }
    func outcome(_ method: String, _ path: String) -> String {
      switch router.match(method: method, path: path) {
      case .handler: "found"
      case .notFound: "not found"
      case .wrongMethod(let allow): allow
      }
    }
    #expect(outcome("GET", "/v1/x") == "found")
    #expect(outcome("HEAD", "/v1/x") == "found")
    #expect(outcome("PUT", "/v1/x") == "GET, HEAD")
    #expect(outcome("PUT", "/v1/caches/a") == "found")
    #expect(outcome("GET", "/v1/caches/a") == "PUT", "the longest match decides")
    #expect(outcome("PUT", "/v1/caches/all") == "DELETE", "an exact match above all")
    #expect(outcome("GET", "/v2") == "not found")
  }

  @Test func requestParts() {
    let request = HTTPRequest(
      method: "GET", path: "/v1/a%2Fb/%C3%BC", query: "verbose&q=a+b%26c&broken=%zz", headers: [("X-Token", "t")])
    #expect(request.header("x-token") == "t")
    #expect(request.parameter("verbose") == "")
    #expect(request.parameter("q") == "a b&c")
    #expect(request.parameter("broken") == nil)
    #expect(request.parameter("absent") == nil)
    #expect(request.pathSegments == ["v1", "a/b", "ü"])
  }

  @Test func problems() {
    let problem = HTTPResponse.problem(400, "bad \"key\"\n", field: "ttl")
    #expect(
      String(buffer: problem.body)
        == "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"bad \\\"key\\\"\\n\",\"field\":\"ttl\"}\n"
    )
  }
}
