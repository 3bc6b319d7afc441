import NIOCore
import PeerProtocol
import PeerTransport
import Testing

/// Peers that do not take what they are sent.
@Suite struct PressureTests {
  @Test("Bulk that is stuck is dropped beyond its limit, and urgent messages pass beside it")
  func stuckBulk() async throws {
    var limits = PeerLimits()
    limits.bulkBytes = 4 << 20
    let stuck = try await RawPeer(2) { $0 == .bulk ? .welcomeAndStop : .welcome }
    let one = try await TestMember.start(1, limits: limits)
    one.transport.setPeers([PeerAddress(id: 2, urls: ["http://127.0.0.1:\(stuck.port)"])])
    #expect(await eventually { one.isConnected(to: 2) })
    // The kernel's buffers take some megabytes before anything waits here.
    #expect(
      await eventually {
        for _ in 0..<16 { one.transport.send([(2, .append(256 * 1024, from: 1, to: 2))]) }
        return one.status(of: 2)!.messagesDropped > 0
      })
    #expect(await one.seen.until { $0.disconnected.contains(2) })
    #expect(one.status(of: 2)!.bulkBacklogBytes <= limits.bulkBytes)
    for number in 1...20 as ClosedRange<UInt64> { one.sendUrgent(number, to: 2) }
    #expect(await stuck.seen.until { $0.frames.contains(.message(.urgent(20))) })
    #expect(one.isConnected(to: 2))
    try await stuck.stop()
    await one.transport.close()
  }

  @Test("A single message above the limit of a queue that is empty passes")
  func largeMessage() async throws {
    var limits = PeerLimits()
    limits.bulkBytes = 1_000
    let (one, two) = (try await TestMember.start(1, limits: limits), try await TestMember.start(2))
    one.transport.setPeers([two.address])
    #expect(await one.reaches(two))
    one.transport.send([(2, .append(5 << 20, from: 1, to: 2))])
    #expect(await two.seen.until { $0.messages[1]?.contains(.append(5 << 20, from: 1, to: 2)) == true })
    await one.transport.close()
    await two.transport.close()
  }

  @Test("A connection that brings nothing is cut, by either side")
  func silence() async throws {
    var timing = PeerTiming.quick
    timing.urgentSilence = .milliseconds(200)
    timing.bulkSilence = .milliseconds(200)
    let deaf = try await RawPeer(2) { _ in .welcomeAndStop }
    let one = try await TestMember.start(1, timing: timing)
    one.transport.setPeers([PeerAddress(id: 2, urls: ["http://127.0.0.1:\(deaf.port)"])])
    #expect(await one.seen.until { $0.logs("connection to peer lost") && $0.logs("the peer has fallen silent") })
    #expect(await one.seen.until { $0.disconnected.contains(2) })
    try await deaf.stop()
    let hello = PeerHello(
      purpose: .bulk, clusterID: TestMember.clusterID, senderID: 2, addresseeID: 1, senderURLs: [])
    let (_, seen) = try await RawPeer.dial(one.port, try PeerFrame.hello(hello).encoded().bytes)
    #expect(await seen.until { $0.closed == 1 })
    #expect(seen.now.frames.count == 1)
    await one.transport.close()
  }

  @Test("An idle connection stays")
  func idle() async throws {
    var timing = PeerTiming.quick
    timing.pingInterval = .milliseconds(10)
    timing.urgentSilence = .milliseconds(2_000)
    timing.bulkSilence = .milliseconds(2_000)
    let peer = try await RawPeer(2) { _ in .welcome }
    let one = try await TestMember.start(1, timing: timing)
    one.transport.setPeers([PeerAddress(id: 2, urls: ["http://127.0.0.1:\(peer.port)"])])
    #expect(await peer.seen.until { seen in seen.frames.count { if case .ping = $0 { true } else { false } } > 100 })
    #expect(peer.seen.now.connections == 2 && peer.seen.now.closed == 0)
    try await peer.stop()
    await one.transport.close()
  }
}
