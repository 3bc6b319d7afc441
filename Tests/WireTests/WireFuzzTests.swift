import NIOCore
import NIOEmbedded
import Testing
import Wire

/// Seeded noise against whole pipelines: whatever comes in, nothing crashes or hangs.
@Suite struct WireFuzzTests {
  /// SplitMix64.
  struct Seeded: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var z = state
      z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
      z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
      return z ^ (z >> 31)
    }
  }

  private func feed(_ bytes: [UInt8], _ random: inout Seeded) throws {
    let channel = EmbeddedChannel()
    try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
    try WirePipeline.installHTTPOrLines(on: channel, services: testServices()) { _ in }
    var rest = bytes[...]
    while !rest.isEmpty, channel.isActive {
      let count = Int.random(in: 1...max(1, rest.count), using: &random)
      // An error that nobody handles would be thrown here and fail the test.
      try channel.writeInbound(ByteBuffer(bytes: rest.prefix(count)))
      rest = rest.dropFirst(count)
      channel.embeddedEventLoop.run()
      while try channel.readOutbound(as: ByteBuffer.self) != nil {}
    }
    channel.embeddedEventLoop.advanceTime(by: .hours(3))
    _ = try channel.finish(acceptAlreadyClosed: true)
  }

  /// A valid HTTP/2 session as a client sends it: settings, unary calls, a stream, a plain request, a reset.
  private func validSession() throws -> [UInt8] {
    final class Tap: ChannelInboundHandler {
      typealias InboundIn = ByteBuffer
      typealias InboundOut = ByteBuffer
      var bytes: [UInt8] = []
      func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        bytes += Array(buffer: unwrapInboundIn(data))
        context.fireChannelRead(data)
      }
    }
    let channel = EmbeddedChannel()
    try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
    let tap = Tap()
    try channel.pipeline.syncOperations.addHandler(tap)
    try WirePipeline.installHTTP(on: channel, services: testServices())
    let client = try HTTP2Client(channel)
    try client.call("/test.Echo/Say", [[1, 2, 3]], extra: [("grpc-timeout", "5S")])
    let chat = try client.call("/test.Echo/Chat", [[4]], ends: false)
    try client.request(
      [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "t")], body: [1, 2])
    try client.send(chat, grpcFramed(Array(repeating: 5, count: 400)))
    try client.ping()
    try client.reset(chat)
    return tap.bytes
  }

  @Test func noise() throws {
    var random = Seeded(state: 1)
    for _ in 0..<400 {
      let count = Int.random(in: 0...400, using: &random)
      try feed((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }, &random)
    }
    let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    for _ in 0..<400 {
      let count = Int.random(in: 0...400, using: &random)
      try feed(preface + (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }, &random)
    }
  }

  @Test func mutatedHTTP2() throws {
    var random = Seeded(state: 2)
    let valid = try validSession()
    try feed(valid, &random)
    for _ in 0..<1_500 { try feed(mutated(valid, keeping: 24, &random), &random) }
  }

  @Test func mutatedHTTP1() throws {
    var random = Seeded(state: 3)
    let valid = Array(
      """
      POST /echo?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /count HTTP/1.1\r\nHost: x\r\n\r\n\
      POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n2\r\nab\r\n0\r\n\r\n\
      GET /forever HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.0\r\n\r\n
      """.utf8)
    try feed(valid, &random)
    for _ in 0..<1_500 { try feed(mutated(valid, keeping: 0, &random), &random) }
  }

  private func mutated(_ valid: [UInt8], keeping prefix: Int, _ random: inout Seeded) -> [UInt8] {
    var bytes = valid
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      let index = Int.random(in: min(prefix, bytes.count - 1)..<bytes.count, using: &random)
      switch Int.random(in: 0...4, using: &random) {
      case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes[index] ^= 1 << UInt8.random(in: 0...7, using: &random)
      case 2: bytes.remove(at: index)
      case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: index)
      default: bytes.removeLast(min(bytes.count - index, bytes.count - prefix - 1))
      }
      if bytes.count <= prefix + 1 { return bytes }
    }
    return bytes
  }
}
