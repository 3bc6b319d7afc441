import NIOCore
import PeerProtocol
import PeerTransport
import Primitives
import Raft
import Testing

/// Who is not let in, and what both sides say about it.
@Suite struct RefusalTests {
  /// Starts two members that dial each other.
  private func pair(
    _ one: TestMember, _ two: TestMember, _ body: (TestMember, TestMember) async throws -> Void
  ) async throws {
    one.transport.setPeers([two.address])
    two.transport.setPeers([one.address])
    try await body(one, two)
    #expect(one.seen.now.messages.isEmpty && two.seen.now.messages.isEmpty)
    await one.transport.close()
    await two.transport.close()
  }

  @Test("Members of another cluster")
  func wrongCluster() async throws {
    let (one, two) = (try await TestMember.start(1), try await TestMember.start(2, clusterID: 0xbad))
    try await pair(one, two) { one, two in
      #expect(await one.seen.until { $0.logs("cannot connect to peer") && $0.logs("belongs to the cluster bad") })
      #expect(await two.seen.until { $0.logs("peer connection refused") && $0.logs("belongs to the cluster bad") })
      #expect(await two.seen.until { $0.logs("belongs to the cluster c1") })
      #expect(!one.isConnected(to: 2) && !two.isConnected(to: 1))
    }
  }

  @Test("Another member than the one that was meant")
  func wrongMember() async throws {
    let (one, two) = (try await TestMember.start(1), try await TestMember.start(2))
    one.transport.setPeers([PeerAddress(id: 7, urls: [two.url])])
    #expect(await one.seen.until { $0.logs("is the member 2, not the one that was meant") })
    // A URL that leads back home.
    two.transport.setPeers([PeerAddress(id: 9, urls: [two.url])])
    #expect(await two.seen.until { $0.logs("is the member 2, not the one that was meant") })
    await one.transport.close()
    await two.transport.close()
  }

  @Test("Members of an authority that is not trusted here")
  func wrongAuthority() async throws {
    let one = try await TestMember.start(1, tls: try TestPKI().tls("one"))
    let two = try await TestMember.start(2, tls: try TestPKI().tls("two"))
    try await pair(one, two) { one, two in
      for member in [one, two] {
        #expect(await member.seen.until { $0.logs("server certificate refused") && $0.logs("TLS handshake failed") })
        #expect(await member.seen.until { $0.logs("no trusted authority here") || $0.logs("not its issuer's") })
      }
      #expect(!one.isConnected(to: 2) && !two.isConnected(to: 1))
    }
  }

  @Test("A member whose certificate was revoked")
  func revoked() async throws {
    let pki = try TestPKI()
    let issued = try pki.issue("two")
    // Two knows nothing of it yet.
    let tls = try pki.tls(issued)
    try pki.authority.revoke(issued.certificate)
    let one = try await TestMember.start(1, tls: try pki.tls("one"))
    let two = try await TestMember.start(2, tls: tls)
    try await pair(one, two) { one, two in
      #expect(await one.seen.until { $0.logs("server certificate refused") && $0.logs("has been revoked") })
      #expect(await one.seen.until { $0.logs("client certificate refused") })
      #expect(await two.seen.until { $0.logs("cannot connect to peer") })
      #expect(!one.isConnected(to: 2) && !two.isConnected(to: 1))
    }
  }

  @Test("A member whose certificate is for another host")
  func wrongName() async throws {
    let pki = try TestPKI()
    let one = try await TestMember.start(1, tls: try pki.tls("one"))
    let two = try await TestMember.start(2, tls: try pki.tls("two", names: ["two.example", "127.0.0.9"]))
    one.transport.setPeers([two.address])
    #expect(await one.seen.until { $0.logs("the certificate is not for 127.0.0.1, but for two.example, 127.0.0.9") })
    #expect(!one.isConnected(to: 2))
    await one.transport.close()
    await two.transport.close()
  }

  @Test("A member without TLS at a port with TLS, and the other way round")
  func mixedTLS() async throws {
    let pki = try TestPKI()
    let one = try await TestMember.start(1, tls: try pki.tls("one"))
    let two = try await TestMember.start(2)
    one.transport.setPeers([PeerAddress(id: 2, urls: ["https://127.0.0.1:\(two.port)"])])
    two.transport.setPeers([PeerAddress(id: 1, urls: ["http://127.0.0.1:\(one.port)"])])
    #expect(await one.seen.until { $0.logs("TLS handshake failed") })
    #expect(await two.seen.until { $0.logs("where 65536 are allowed") })
    #expect(await two.seen.until { $0.logs("cannot connect to peer") })
    await one.transport.close()
    await two.transport.close()
  }

  @Test("A handshake that never ends", arguments: [true, false])
  func silentHandshake(isSecure: Bool) async throws {
    var timing = PeerTiming.quick
    timing.handshakeTimeout = .milliseconds(100)
    let one = try await TestMember.start(1, tls: isSecure ? try TestPKI().tls("one") : nil, timing: timing)
    let (_, silent) = try await RawPeer.dial(one.port, [])
    let (_, slow) = try await RawPeer.dial(one.port, isSecure ? [0x16, 3, 1] : [20, 0, 0, 0, 1])
    #expect(await silent.until { $0.closed == 1 })
    #expect(await slow.until { $0.closed == 1 })
    // The other way round: someone who accepts and says nothing.
    let mute = try await RawPeer(2) { _ in .nothing }
    one.transport.setPeers([PeerAddress(id: 2, urls: ["\(isSecure ? "https" : "http")://127.0.0.1:\(mute.port)"])])
    #expect(await eventually { one.status(of: 2)!.connectFailures >= 4 })
    #expect(one.seen.now.logs(isSecure ? "it took too long" : "no answer to the handshake"))
    try await mute.stop()
    await one.transport.close()
  }

  @Test("Versions that this member does not speak, and bytes that are no frames")
  func strangers() async throws {
    let one = try await TestMember.start(1)
    let newer = PeerHello(
      purpose: .bulk, clusterID: TestMember.clusterID, senderID: 2, addresseeID: 1, senderURLs: [],
      oldestVersion: 90, newestVersion: 99)
    let (_, seen) = try await RawPeer.dial(one.port, try PeerFrame.hello(newer).encoded().bytes)
    #expect(await seen.until { $0.closed == 1 })
    #expect(seen.now.frames == [.refusal(.unknownVersion(oldest: 1, newest: 1))])
    #expect(one.seen.now.logs("speaks only versions 1 to 1"))
    let (_, http) = try await RawPeer.dial(one.port, Array("GET /version HTTP/1.1\r\n\r\n".utf8))
    #expect(await http.until { $0.closed == 1 })
    let (_, early) = try await RawPeer.dial(one.port, try PeerFrame.ping(1).encoded().bytes)
    #expect(await early.until { $0.closed == 1 })
    #expect(one.seen.now.logs("something before its hello"))
    await one.transport.close()
  }

  @Test("Raft messages in another member's name end the connection")
  func forgedSender() async throws {
    let one = try await TestMember.start(1)
    one.transport.setPeers([PeerAddress(id: 2, urls: [])])
    for message in [
      Message(from: 3, to: 1, term: 1, body: .timeoutNow), Message(from: 2, to: 3, term: 1, body: .timeoutNow),
    ] {
      let hello = PeerHello(
        purpose: .urgent, clusterID: TestMember.clusterID, senderID: 2, addresseeID: 1, senderURLs: [])
      let bytes =
        try PeerFrame.hello(hello).encoded().bytes + PeerMessage.urgent(5).encoded().bytes
        + PeerMessage.raft(message).encoded().bytes + PeerMessage.urgent(6).encoded().bytes
      let (_, seen) = try await RawPeer.dial(one.port, bytes)
      #expect(await seen.until { $0.closed == 1 })
    }
    #expect(one.seen.now.urgent(from: 2) == [5, 5])
    await one.transport.close()
  }
}
