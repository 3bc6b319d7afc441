import NIOCore
import NIOEmbedded
import Testing
import Wire

@Suite struct GRPCCallTests {
  @Test func aUnaryCallIsAnsweredInOneWrite() throws {
    let journal = Journal()
    let client = try joinedClient(testServices(journal))
    let before = client.serverWrites
    let id = try client.call("/test.Echo/Say", [[1, 2, 3]])
    let answer = client.answers[id]!
    #expect(answer.headers[":status"] == "200")
    #expect(answer.headers["content-type"] == "application/grpc")
    #expect(answer.messages == [[1, 2, 3]])
    #expect(answer.trailers["grpc-status"] == "0")
    #expect(answer.isClosed && answer.errorCode == 0)
    // The client's HEADERS and DATA come as two reads here; the second is answered by one write.
    #expect(client.serverWrites - before <= 2)
    #expect(journal.all == ["started /test.Echo/Say", "finished /test.Echo/Say OK in 3 out 3"])
  }

  @Test func statusesCarryCodeAndEncodedText() throws {
    let client = try joinedClient(testServices())
    let answer = client.answers[try client.call("/test.Echo/Fail", [[]])]!
    #expect(answer.grpcStatus == "9")
    #expect(answer.grpcMessage == "etcdserver: 100%25 na%C3%AFve")
    #expect(answer.headerFrames == 1, "an immediate error is one HEADERS frame")
  }

  /// grpc-go's words for what is not there.
  @Test(arguments: [
    ("/test.Nothing/Say", "unknown service test.Nothing"),
    ("/test.Echo/Whisper", "unknown method Whisper for service test.Echo"),
    ("/nonsense", "malformed method name: \"/nonsense\""),
  ])
  func unknownMethods(path: String, text: String) throws {
    let client = try joinedClient(testServices())
    let answer = client.answers[try client.call(path, [[]])]!
    #expect(answer.grpcStatus == "12")
    #expect(answer.grpcMessage == text)
  }

  @Test func tooLargeAMessageIsRefused() throws {
    var limits = WireLimits()
    limits.maxMessageBytes = 1_000
    let client = try joinedClient(testServices(limits: limits))
    let answer = client.answers[try client.call("/test.Echo/Say", [Array(repeating: 0, count: 1_001)])]!
    #expect(answer.grpcStatus == "8")
    #expect(answer.grpcMessage == "grpc: received message larger than max (1001 vs. 1000)")
    #expect(client.answers[try client.call("/test.Echo/Say", [Array(repeating: 0, count: 1_000)])]!.grpcStatus == "0")
  }

  @Test func compressedMessagesAreRefused() throws {
    let client = try joinedClient(testServices())
    let id = try client.call("/test.Echo/Say", [], ends: false, extra: [("grpc-encoding", "gzip")])
    try client.send(id, [1, 0, 0, 0, 1, 0], ends: true)
    #expect(client.answers[id]!.grpcStatus == "12")
  }

  @Test func aRequestThatEndsEarlyIsAnError() throws {
    let client = try joinedClient(testServices())
    #expect(client.answers[try client.call("/test.Echo/Say", [])]!.grpcStatus == "13")
    let cut = try client.call("/test.Echo/Chat", [], ends: false)
    try client.send(cut, [0, 0, 0, 0, 9, 1], ends: true)
    #expect(client.answers[cut]!.grpcMessage == "unexpected EOF")
  }

  @Test func metadataAndPeerAreVisible() throws {
    let client = try joinedClient(testServices())
    #expect(
      client.answers[try client.call("/test.Echo/Metadata", [[]], extra: [("token", "secret")])]!.messages
        == [Array("secret".utf8)])
    #expect(client.answers[try client.call("/test.Echo/Metadata", [[]])]!.messages == [Array("none".utf8)])
  }

  /// A stream is answered message by message and ends when the client says so.
  @Test func streamsGoBothWays() throws {
    let client = try joinedClient(testServices())
    let id = try client.call("/test.Echo/Chat", [[1]], ends: false)
    #expect(client.answers[id]!.messages == [[1]])
    #expect(!client.answers[id]!.isClosed)
    try client.send(id, grpcFramed([2]) + grpcFramed([3, 3]))
    #expect(client.answers[id]!.messages == [[1], [2], [3, 3]])
    try client.send(id, [], ends: true)
    #expect(client.answers[id]!.grpcStatus == "0")
    #expect(client.answers[id]!.isClosed)
  }

  @Test func aMessageLargerThanEveryWindowArrives() throws {
    let client = try joinedClient(testServices())
    let message = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    #expect(client.answers[try client.call("/test.Echo/Say", [message])]!.messages == [message])
  }

  @Test func resetAndLossReachTheHandler() throws {
    let journal = Journal()
    let client = try joinedClient(testServices(journal))
    let id = try client.call("/test.Echo/Chat", [[1]], ends: false)
    try client.reset(id)
    #expect(journal.all.filter { $0 == "cancelled" }.count == 1)
    try client.call("/test.Echo/Chat", [[1]], ends: false)
    _ = try client.channel.finish(acceptAlreadyClosed: true)
    #expect(journal.all.filter { $0 == "cancelled" }.count == 2)
    #expect(
      journal.all.last == "cancelled" || journal.all.contains { $0.hasPrefix("finished /test.Echo/Chat Canceled") })
  }

  @Test func deadlinesAreHonoured() throws {
    let journal = Journal()
    let client = try joinedClient(testServices(journal))
    let short = try client.call("/test.Echo/Hold", [[]], extra: [("grpc-timeout", "100m")])
    let long = try client.call("/test.Echo/Hold", [[]], extra: [("grpc-timeout", "2S")])
    let chat = try client.call("/test.Echo/Chat", [[]], ends: false, extra: [("grpc-timeout", "1S")])
    client.channel.embeddedEventLoop.advanceTime(by: .milliseconds(150))
    try client.exchange()
    #expect(client.answers[short]!.grpcStatus == "4")
    #expect(client.answers[short]!.grpcMessage == "context deadline exceeded")
    #expect(!client.answers[long]!.isClosed)
    client.channel.embeddedEventLoop.advanceTime(by: .seconds(2))
    try client.exchange()
    #expect(client.answers[long]!.grpcStatus == "4")
    #expect(client.answers[chat]!.grpcStatus == "4")
    #expect(journal.all.contains("cancelled"))
    #expect(
      client.answers[try client.call("/test.Echo/Say", [[]], extra: [("grpc-timeout", "soon")])]!.grpcStatus == "13")
  }

  /// Answers that come later, from one turn of the event loop, leave in one write; one whose call is gone is dropped.
  @Test func answersOfOneTurnLeaveInOneWrite() throws {
    final class Held { var calls: [any GRPCCall] = [] }
    let held = NIOLoopBoundBox(Held(), eventLoop: EmbeddedEventLoop())
    var grpc = GRPCRegistry()
    grpc.unary("/test.Echo/Hold") { _, call in held.value.calls.append(call) }
    let client = try joinedClient(WireServices(grpc: grpc))
    let ids = try (0..<10).map { _ in try client.call("/test.Echo/Hold", [[]]) }
    try client.reset(ids[0])
    #expect(held.value.calls.map(\.isOver) == [true] + Array(repeating: false, count: 9))
    let before = client.serverWrites
    for call in held.value.calls { call.reply(ByteBuffer(bytes: [7])) }
    try client.exchange()
    #expect(client.serverWrites - before == 1)
    #expect(client.answers[ids[0]]!.messages.isEmpty)
    for id in ids.dropFirst() { #expect(client.answers[id]!.messages == [[7]] && client.answers[id]!.isClosed) }
  }

  /// Unfinished requests may hold only so much memory together; what was held is given back.
  @Test func unfinishedRequestsAreBounded() throws {
    var limits = WireLimits()
    limits.maxBufferedRequestBytes = 10_000
    let client = try joinedClient(testServices(limits: limits))
    let part: [UInt8] = [0, 0, 0, 0xff, 0xff] + Array(repeating: 1, count: 4_000)
    for _ in 0..<5 {
      let ids = try (0..<3).map { _ in try client.call("/test.Echo/Say", [], ends: false) }
      for id in ids { try client.send(id, part) }
      #expect(ids.map { client.answers[$0]!.grpcStatus } == [nil, nil, "8"])
      try client.reset(ids[0])
      try client.send(ids[1], Array(repeating: 1, count: 4_000))
      try client.reset(ids[1])
    }
  }

  /// What the client's window does not take stays pending, and the handler learns when it has drained.
  @Test func backPressure() throws {
    let journal = Journal()
    let client = try joinedClient(testServices(journal), window: 70_000)
    let id = try client.call("/test.Echo/Flood", [[]], ends: false)
    #expect(journal.all.contains("pending \(64 * (16 * 1024 + 5))"))
    #expect(client.answers[id]!.body.count < 70_000)
    #expect(!journal.all.contains("writable"))
    while client.answers[id]!.body.count < 64 * (16 * 1024 + 5) {
      let taken = client.answers[id]!.body.count
      nghttp2Consume(client, id, 60_000)
      try client.exchange()
      #expect(client.answers[id]!.body.count > taken)
      guard client.answers[id]!.body.count > taken else { break }
    }
    #expect(journal.all.filter { $0 == "writable" }.count == 1)
  }

  @Test func gracefulStopLetsOpenCallsFinish() throws {
    let client = try joinedClient(testServices())
    let id = try client.call("/test.Echo/Chat", [[1]], ends: false)
    client.channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    try client.exchange()
    #expect(client.goAwayCode == 0)
    #expect(client.channel.isActive)
    try client.send(id, grpcFramed([2]), ends: true)
    #expect(client.answers[id]!.messages == [[1], [2]])
    #expect(client.answers[id]!.grpcStatus == "0")
    #expect(!client.channel.isActive)
  }

  /// Bandwidth PINGs follow data and are free; PINGs out of nothing end the connection at the third too many.
  @Test func pingPolicy() throws {
    let client = try joinedClient(testServices())
    for _ in 0..<20 {
      try client.call("/test.Echo/Say", [[1]])
      try client.ping()
    }
    #expect(client.goAwayCode == nil)
    for _ in 0..<4 { try client.ping() }
    #expect(client.goAwayCode == 11)
    #expect(!client.channel.isActive)
  }

  @Test func aSilentPeerIsProbedAndDropped() throws {
    var limits = WireLimits()
    limits.keepaliveInterval = .seconds(60)
    let client = try joinedClient(testServices(limits: limits))
    let loop = client.channel.embeddedEventLoop
    for _ in 0..<60 {
      loop.advanceTime(by: .seconds(10))
      try client.exchange()
    }
    #expect(client.channel.isActive, "it answered every probe")
    for _ in 0..<15 { loop.advanceTime(by: .seconds(10)) }
    #expect(!client.channel.isActive)
  }
}
