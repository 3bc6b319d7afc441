import NIOCore
import NIOEmbedded
import Testing
import Wire

/// What clients of HTTP/2 announce and do not keep.
extension HTTPTests {
  @Test(
    "A body has the length that its headers announce",
    arguments: [
      ("5", 5, true), ("5", 4, false), ("5", 6, false), ("0", 0, true), ("0", 1, false), ("x", 1, false),
      ("", 0, false), ("-1", 0, false), ("+5", 5, false), ("99999999999999999999", 5, false),
    ])
  func announcedLength(_ announced: String, _ sent: Int, _ isRight: Bool) throws {
    let client = try joinedClient(testServices())
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "x")]
    let id = try client.request(post + [("content-length", announced)], body: [UInt8](repeating: 7, count: sent))
    let answer = client.answers[id]!
    #expect(answer.isClosed)
    #expect(answer.errorCode == (isRight ? 0 : 1))
    #expect(answer.headers[":status"] == (isRight ? "200" : nil))
    let call = try client.request(
      [
        (":method", "POST"), (":scheme", "http"), (":path", "/test.Echo/Say"), (":authority", "x"),
        ("content-type", "application/grpc"), ("content-length", announced == "5" ? "8" : announced),
      ], body: grpcFramed([UInt8](repeating: 7, count: sent == 5 ? 3 : sent + 1)))
    if announced == "5" { #expect(client.answers[call]!.grpcStatus == (sent == 5 ? "0" : nil)) }
    if announced == "5", sent != 5 { #expect(client.answers[call]!.errorCode == 1) }
    #expect(client.answers[try client.request(get("/hello"))]!.headers[":status"] == "200")
  }

  @Test func twoLengthsMustAgree() throws {
    let client = try joinedClient(testServices())
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "x")]
    let same = [("content-length", "2"), ("content-length", "2")]
    #expect(client.answers[try client.request(post + same, body: [1, 2])]!.headers[":status"] == "200")
    let other = [("content-length", "2"), ("content-length", "3")]
    #expect(client.answers[try client.request(post + other, body: [1, 2])]!.errorCode == 1)
  }

  /// Whoever begins something has to go on with it.
  @Test func slowClientsOfHTTP2() throws {
    func connection() throws -> EmbeddedChannel {
      let channel = EmbeddedChannel()
      try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
      try WirePipeline.installHTTP(on: channel, services: testServices(), peerCommonName: nil)
      return channel
    }
    let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    let settings: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 0, 0]

    let withoutSettings = try connection()
    try withoutSettings.writeInbound(ByteBuffer(bytes: preface))
    withoutSettings.embeddedEventLoop.advanceTime(by: .seconds(9))
    #expect(withoutSettings.isActive)
    withoutSettings.embeddedEventLoop.advanceTime(by: .seconds(2))
    #expect(!withoutSettings.isActive)

    // HEADERS of 100 bytes, of which one comes each second.
    let dripping = try connection()
    try dripping.writeInbound(ByteBuffer(bytes: preface + settings + [0, 0, 100, 1, 4, 0, 0, 0, 1]))
    for _ in 0..<15 where dripping.isActive {
      try dripping.writeInbound(ByteBuffer(bytes: [0x82]))
      dripping.embeddedEventLoop.advanceTime(by: .seconds(1))
    }
    #expect(!dripping.isActive)

    // A block in each read, and the beginning of the next: that is a busy client.
    let busy = try connection()
    let headers: [UInt8] = [0, 0, 3, 1, 5, 0, 0, 0]
    try busy.writeInbound(ByteBuffer(bytes: preface + settings + headers))
    for number in 0..<30 {
      let stream = UInt8(2 * number + 1)
      try busy.writeInbound(ByteBuffer(bytes: [stream, 0x82, 0x86, 0x84] + headers))
      busy.embeddedEventLoop.advanceTime(by: .seconds(1))
      #expect(busy.isActive)
    }

    // A body that does not come: the stream is answered, the connection lives on.
    let client = try joinedClient(testServices())
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "x")]
    let id = try client.request(post, body: [1], ends: false)
    for _ in 0..<4 {
      client.channel.embeddedEventLoop.advanceTime(by: .seconds(70))
      try client.exchange()
      try client.send(id, [1])
    }
    #expect(!client.answers[id]!.isClosed)
    client.channel.embeddedEventLoop.advanceTime(by: .seconds(30))
    try client.exchange()
    #expect(client.answers[id]!.headers[":status"] == "408")
    #expect(client.answers[try client.request(get("/hello"))]!.headers[":status"] == "200")
  }
}
