import CNghttp2
import NIOCore
import NIOEmbedded
import Testing
import Wire

/// A gRPC message that is made in parts while the peer takes it.
@Suite struct LargeMessageTests {
  /// `byteCount` bytes that count up, in parts of `partBytes`.
  final class Counting: GRPCMessageSource {
    let byteCount: Int
    let partBytes: Int
    private(set) var madeBytes = 0

    init(byteCount: Int, partBytes: Int = 50_000) {
      self.byteCount = byteCount
      self.partBytes = partBytes
    }

    static func bytes(_ range: Range<Int>) -> [UInt8] { range.map { UInt8(truncatingIfNeeded: $0 / 7) } }

    func nextPart() -> ByteBuffer {
      let end = min(byteCount, madeBytes + partBytes)
      defer { madeBytes = end }
      return ByteBuffer(bytes: Self.bytes(madeBytes..<end))
    }
  }

  /// The server's one method answers with what `source` holds, which it lets go of.
  final class Holder: @unchecked Sendable {
    var source: Counting?
    init(_ source: Counting) { self.source = source }

    func take() -> Counting {
      defer { source = nil }
      return source!
    }
  }

  static func client(
    _ source: Counting, window: UInt32? = nil, limits: WireLimits = WireLimits()
  ) throws -> HTTP2Client {
    let holder = Holder(source)
    var grpc = GRPCRegistry()
    grpc.unary("/test.Large/Read") { _, call in call.reply(holder.take()) }
    return try joinedClient(WireServices(grpc: grpc, limits: limits), window: window)
  }

  /// The next turn of the server's event loop, which begins as soon after the one before.
  static func turn(_ client: HTTP2Client) throws {
    client.channel.embeddedEventLoop.advanceTime(by: .microseconds(100))
    try client.exchange()
  }

  @Test func arrivesWhole() throws {
    let source = Counting(byteCount: 3_000_000)
    let client = try Self.client(source)
    let id = try client.call("/test.Large/Read", [[]])
    while !client.answers[id]!.isClosed { try Self.turn(client) }
    let answer = client.answers[id]!
    #expect(answer.messages == [Counting.bytes(0..<3_000_000)])
    #expect(answer.grpcStatus == "0" && answer.errorCode == 0)
  }

  /// One turn of the event loop makes no more than its budget, however fast the peer takes it.
  @Test func isMadeTurnByTurn() throws {
    var limits = WireLimits()
    limits.madeBytesPerTurn = 200_000
    let source = Counting(byteCount: 1_000_000)
    let client = try Self.client(source, limits: limits)
    let id = try client.call("/test.Large/Read", [[]])
    #expect(source.madeBytes == 200_000)
    try Self.turn(client)
    #expect(source.madeBytes == 400_000)
    for _ in 0..<4 { try Self.turn(client) }
    #expect(source.madeBytes == 1_000_000 && client.answers[id]!.isClosed)
  }

  /// Nothing is made ahead of the peer's window but the part that reaches it.
  @Test func waitsForTheWindow() throws {
    let source = Counting(byteCount: 500_000, partBytes: 10_000)
    let client = try Self.client(source, window: 30_000)
    let id = try client.call("/test.Large/Read", [[]])
    for _ in 0..<5 { try Self.turn(client) }
    #expect(client.answers[id]!.body.count == 30_000)
    #expect(source.madeBytes <= 40_000)
    while !client.answers[id]!.isClosed {
      let before = client.answers[id]!.body.count
      nghttp2Consume(client, id, 15_000)
      try Self.turn(client)
      let taken = client.answers[id]!.body.count
      #expect(taken > before && source.madeBytes <= taken + 10_000)
    }
    #expect(client.answers[id]!.messages == [Counting.bytes(0..<500_000)])
  }

  /// A peer that takes nothing for the time that it has loses the stream, and we what we held for it.
  @Test func isGivenUpWhenThePeerTakesNothing() throws {
    weak var source: Counting?
    let client: HTTP2Client
    do {
      let made = Counting(byteCount: 500_000)
      source = made
      client = try Self.client(made, window: 30_000)
    }
    let id = try client.call("/test.Large/Read", [[]])
    let loop = client.channel.embeddedEventLoop
    loop.advanceTime(by: .seconds(59))
    try client.exchange()
    #expect(!client.answers[id]!.isClosed && source != nil)
    nghttp2Consume(client, id, 30_000)
    try client.exchange()
    loop.advanceTime(by: .seconds(59))
    try client.exchange()
    #expect(!client.answers[id]!.isClosed && source != nil, "it has taken something meanwhile")
    loop.advanceTime(by: .seconds(2))
    try client.exchange()
    #expect(client.answers[id]!.isClosed && source == nil)
    #expect(client.answers[id]!.errorCode == NGHTTP2_ENHANCE_YOUR_CALM.rawValue)
  }

  /// A client that goes away, by RST_STREAM or with its connection, frees what was held for it.
  @Test(arguments: [false, true]) func isLetGoOfWithTheStream(closesConnection: Bool) throws {
    weak var source: Counting?
    let client: HTTP2Client
    do {
      let made = Counting(byteCount: 500_000)
      source = made
      client = try Self.client(made, window: 30_000)
    }
    let id = try client.call("/test.Large/Read", [[]])
    #expect(source != nil)
    if closesConnection {
      client.channel.close(promise: nil)
      client.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
    } else {
      try client.reset(id)
      try Self.turn(client)
    }
    #expect(source == nil)
  }
}
