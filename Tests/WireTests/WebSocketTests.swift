import NIOCore
import NIOEmbedded
import Testing
import Wire

/// A request that becomes a WebSocket, byte by byte, and what comes of frames of all kinds.
@Suite struct WebSocketTests {
  private static let handshake =
    "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

  /// A connection whose `/socket` answers each message with itself, and "close" by closing.
  private final class Peer {
    let channel = EmbeddedChannel()
    let journal = Journal()

    init(_ limits: WireLimits = WireLimits()) throws {
      let journal = journal
      var http = HTTPRouter()
      http.on("GET", "/socket") { request, responder in
        responder.openWebSocket(request, subprotocol: "Bearer") { socket in
          socket.onMessage = { message in
            journal.note("message of \(message.readableBytes)")
            if String(buffer: message) == "close" { return socket.close() }
            socket.send(message)
          }
          socket.onClose = { journal.note("closed") }
          socket.onWritable = { journal.note("writable") }
        }
      }
      http.on("GET", "/hello") { _, responder in responder.respond(.text("hello\n")) }
      try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
      try WirePipeline.installHTTP(on: channel, services: WireServices(http: http, limits: limits))
    }

    func send(_ bytes: [UInt8]) throws -> [UInt8] {
      if channel.isActive { try channel.writeInbound(ByteBuffer(bytes: bytes)) }
      channel.embeddedEventLoop.run()
      var received: [UInt8] = []
      while let bytes = try channel.readOutbound(as: ByteBuffer.self) { received += Array(bytes.readableBytesView) }
      return received
    }

    func open() throws -> Peer {
      let answer = String(decoding: try send(Array((WebSocketTests.handshake + "\r\n").utf8)), as: UTF8.self)
      #expect(answer.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n") && answer.hasSuffix("\r\n\r\n"))
      return self
    }
  }

  /// A client's frame, masked.
  private func frame(_ first: UInt8, _ text: String) -> [UInt8] {
    let mask: [UInt8] = [1, 2, 3, 4]
    let body = Array(text.utf8)
    let short = body.count < 126
    let length = short ? [0x80 | UInt8(body.count)] : [0xfe, UInt8(body.count >> 8), UInt8(body.count & 255)]
    return [first] + length + mask + body.enumerated().map { $1 ^ mask[$0 % 4] }
  }

  private func text(_ text: String) -> [UInt8] { [0x81, UInt8(text.utf8.count)] + Array(text.utf8) }
  private func close(_ code: UInt16) -> [UInt8] { [0x88, 2, UInt8(code >> 8), UInt8(code & 255)] }

  @Test func theHandshakeIsAnsweredByItsRules() throws {
    let answer = String(decoding: try Peer().send(Array((Self.handshake + "\r\n").utf8)), as: UTF8.self).lowercased()
    #expect(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"))
    #expect(answer.contains("connection: upgrade\r\n") && answer.contains("upgrade: websocket\r\n"))
    #expect(answer.contains("sec-websocket-protocol: bearer\r\n") && !answer.contains("content-length"))
    for wrong in [
      Self.handshake.replacingPart("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
      Self.handshake.replacingPart("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
    ] {
      let peer = try Peer()
      let refusal = String(decoding: try peer.send(Array((wrong + "\r\n").utf8)), as: UTF8.self)
      #expect(refusal.hasPrefix("HTTP/1.1 400 "), "\(refusal)")
      #expect(!peer.channel.isActive)
    }
    let old = "GET /socket HTTP/1.0\r\n\r\n"
    #expect(String(decoding: try Peer().send(Array(old.utf8)), as: UTF8.self).hasPrefix("HTTP/1.0 400 "))
  }

  @Test func messagesGoBothWays() throws {
    let peer = try Peer().open()
    #expect(try peer.send(frame(0x81, "one")) == text("one"))
    #expect(try peer.send(frame(0x82, "two") + frame(0x81, "three")) == text("two") + text("three"))
    #expect(try peer.send(frame(0x89, "ping")) == [0x8a, 4] + Array("ping".utf8))
    #expect(try peer.send(frame(0x8a, "pong")).isEmpty)
  }

  /// What comes in one packet with the handshake belongs to the socket.
  @Test func bytesBehindTheHandshakeAreNotLost() throws {
    let peer = try Peer()
    let answer = try peer.send(Array((Self.handshake + "\r\n").utf8) + frame(0x81, "early"))
    #expect(answer.suffix(7) == text("early")[...])
  }

  @Test func messagesInPartsAreJoinedAndOthersComeBetween() throws {
    let peer = try Peer().open()
    #expect(try peer.send(frame(0x01, "a")).isEmpty)
    #expect(try peer.send(frame(0x89, "")) == [0x8a, 0])
    #expect(try peer.send(frame(0x00, "b")).isEmpty)
    #expect(try peer.send(frame(0x80, "c")) == text("abc"))
  }

  @Test func whatIsAgainstTheRulesClosesTheSocket() throws {
    var limits = WireLimits()
    limits.maxBodyBytes = 100
    let long = String(repeating: "x", count: 60)
    for (bytes, code) in [
      (text("unmasked"), 1002), (frame(0x80, "no beginning"), 1002), (frame(0x01, "a") + frame(0x81, "b"), 1002),
      (frame(0x81, long + long), 1009), (frame(0x01, long) + frame(0x80, long), 1009),
    ] as [([UInt8], UInt16)] {
      let peer = try Peer(limits).open()
      #expect(try peer.send(bytes).suffix(4) == close(code)[...])
      #expect(peer.journal.all == ["closed"])
      _ = try peer.send(frame(0x88, ""))
      #expect(!peer.channel.isActive)
    }
  }

  @Test func eitherSideCloses() throws {
    let leaving = try Peer().open()
    #expect(try leaving.send(frame(0x88, "\u{3}\u{e8}")) == close(1000))
    #expect(!leaving.channel.isActive && leaving.journal.all == ["closed"])
    let left = try Peer().open()
    #expect(try left.send(frame(0x81, "close")) == close(1000))
    #expect(left.channel.isActive)
    #expect(try left.send(frame(0x81, "late")).isEmpty)
    _ = try left.send(frame(0x88, ""))
    #expect(!left.channel.isActive && left.journal.all == ["message of 5"])
    let lost = try Peer().open()
    _ = try lost.channel.finish(acceptAlreadyClosed: true)
    #expect(lost.journal.all == ["closed"])
    let stopped = try Peer().open()
    stopped.channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    #expect(try stopped.send([]) == close(1001))
    #expect(stopped.journal.all == ["closed"])
  }

  /// Frames in any state of disrepair: the socket goes on or closes by the rules, and its user is told at most once.
  @Test func mutatedFramesNeverCrash() throws {
    var limits = WireLimits()
    limits.maxBodyBytes = 200
    var random = WireFuzzTests.Seeded(state: 5)
    var closed = 0
    for _ in 0..<1_500 {
      let peer = try Peer(limits).open()
      var bytes: [UInt8] = []
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let first: UInt8 = [0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88].randomElement(using: &random)!
        bytes += frame(first, String(repeating: "x", count: Int.random(in: 0...140, using: &random)))
      }
      for _ in 0..<Int.random(in: 0...3, using: &random) {
        let place = Int.random(in: bytes.indices, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[place] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
        case 1: bytes.insert(.random(in: 0...255, using: &random), at: place)
        default: if bytes.count > 1 { bytes.remove(at: place) }
        }
      }
      let cut = Int.random(in: bytes.indices, using: &random)
      _ = try peer.send(Array(bytes[..<cut]))
      _ = try peer.send(Array(bytes[cut...]))
      let notes = peer.journal.all
      #expect(notes.filter { $0 == "closed" }.count <= 1 && notes.dropLast().allSatisfy { $0 != "closed" })
      if notes.last == "closed" { closed += 1 }
      _ = try? peer.channel.finish(acceptAlreadyClosed: true)
    }
    #expect(closed > 300)
  }

  /// A server that does not change the protocol ends the connection: nothing behind such a request is read.
  @Test func anOfferThatIsNotTakenIsAnsweredAndTheConnectionEnds() throws {
    let peer = try Peer()
    let request = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    let answer = String(decoding: try peer.send(Array(request.utf8)), as: UTF8.self)
    #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"))
    #expect(!peer.channel.isActive)
  }
}

extension String {
  fileprivate func replacingPart(_ part: String, _ other: String) -> String {
    guard let range = firstRange(of: part) else { return self }
    return self[..<range.lowerBound] + other + self[range.upperBound...]
  }
}
