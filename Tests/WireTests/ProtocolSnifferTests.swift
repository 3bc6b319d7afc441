import NIOCore
import NIOEmbedded
import Testing
import Wire

@Suite struct ProtocolSnifferTests {
  @Test(arguments: [
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ProtocolSniffer.Verdict.http2), ("GET / HTTP/1.1\r\n", .http1),
    ("PUT /x", .http1), ("PROPFIND /", .lines), ("sub me\n", .lines), ("GETTY\n", .lines), ("\n", .lines),
  ])
  func verdicts(text: String, expected: ProtocolSniffer.Verdict) {
    #expect(ProtocolSniffer.verdict(ByteBuffer(string: text), acceptsLines: true) == expected)
    // However the bytes are cut, no other verdict comes first.
    for count in 0..<text.utf8.count {
      let verdict = ProtocolSniffer.verdict(ByteBuffer(bytes: text.utf8.prefix(count)), acceptsLines: true)
      #expect(verdict == nil || verdict == expected)
    }
  }

  /// The bytes seen are replayed to whoever is installed, with an end of input behind them.
  @Test func bytesAreReplayed() throws {
    final class Recorder: ChannelInboundHandler {
      typealias InboundIn = ByteBuffer
      let journal: Journal
      init(_ journal: Journal) { self.journal = journal }
      func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        journal.note(String(buffer: unwrapInboundIn(data)))
      }
      func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed? = event as? ChannelEvent { journal.note("end") }
      }
    }
    let journal = Journal()
    let channel = EmbeddedChannel()
    try WirePipeline.installHTTPOrLines(on: channel, services: testServices()) { channel in
      try channel.pipeline.syncOperations.addHandler(Recorder(journal))
    }
    try channel.writeInbound(ByteBuffer(string: "P"))
    #expect(journal.all.isEmpty)
    try channel.writeInbound(ByteBuffer(string: "ing\n"))
    try channel.writeInbound(ByteBuffer(string: "more\n"))
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    #expect(journal.all == ["Ping\n", "more\n", "end"])
  }
}
