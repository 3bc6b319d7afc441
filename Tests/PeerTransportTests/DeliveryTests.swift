import NIOCore
import PeerProtocol
import PeerTransport
import Primitives
import Raft
import Testing

@Suite struct DeliveryTests {
  @Test("Three members over TLS: everything arrives, in the order of its lane", arguments: [true, false])
  func threeMembers(isSecure: Bool) async throws {
    let pki = try TestPKI()
    var members: [TestMember] = []
    for id in 1...3 as ClosedRange<UInt64> {
      members.append(try await TestMember.start(id, tls: isSecure ? try pki.tls("member-\(id)") : nil))
    }
    for member in members { member.transport.setPeers(members.map(\.address)) }
    for a in members {
      for b in members where b.id != a.id { #expect(await eventually { a.isConnected(to: b.id) }) }
    }
    let numbers = Array(1...500 as ClosedRange<UInt64>)
    for member in members {
      let others = members.map(\.id).filter { $0 != member.id }
      for number in numbers {
        member.transport.send(others.flatMap { [($0, .bulk(number)), ($0, .urgent(number))] })
        if number % 100 == 0 {
          member.transport.send(others.map { ($0, .append(100_000, from: member.id, to: $0)) })
        }
      }
    }
    for member in members {
      for other in members where other.id != member.id {
        let id = other.id
        #expect(
          await member.seen.until {
            $0.urgent(from: id).last == 500 && $0.messages[id]!.count == 2 * numbers.count + 5
          })
        #expect(member.seen.now.urgent(from: id) == numbers)
        #expect(member.seen.now.bulk(from: id) == numbers)
        let appends = member.seen.now.messages[id]!.filter { $0.lane == .bulk }.count - numbers.count
        #expect(appends == 5)
        let status = try #require(member.status(of: id))
        #expect(status.messagesDropped == 0 && status.bytesReceived > 500_000 && status.bytesSent > 500_000)
        #expect(await eventually { member.status(of: id)?.roundTrips.lastNanoseconds != nil })
        #expect(await eventually { member.status(of: id)?.activeStreams == 4 })
      }
      #expect(member.seen.now.disconnected.isEmpty)
    }
    for member in members { await member.transport.close() }
  }

  @Test("A member that was restarted is found again, and its peers are told that messages were lost")
  func restart() async throws {
    let pki = try TestPKI()
    let (tls1, tls2) = (try pki.tls("one"), try pki.tls("two"))
    let one = try await TestMember.start(1, tls: tls1)
    var two = try await TestMember.start(2, tls: tls2)
    one.transport.setPeers([two.address])
    two.transport.setPeers([one.address])
    #expect(await one.reaches(two))
    await two.transport.close()
    #expect(await one.seen.until { $0.disconnected.contains(2) })
    #expect(await eventually { !one.isConnected(to: 2) })
    one.sendBulk(1, to: 2)
    #expect(await eventually { one.status(of: 2)!.connectFailures > 2 })
    #expect(await eventually { one.status(of: 2)!.messagesDropped >= 1 })
    two = try await TestMember.start(2, tls: tls2, port: two.port)
    two.transport.setPeers([one.address])
    #expect(await one.reaches(two))
    #expect(await two.reaches(one))
    await one.transport.close()
    await two.transport.close()
  }

  @Test("All URLs of a peer are tried in turn")
  func severalURLs() async throws {
    let one = try await TestMember.start(1)
    let two = try await TestMember.start(2)
    let dead = try await TestMember.freePort()
    let urls = ["http://127.0.0.1:\(dead)", "no URL", "https://127.0.0.1:\(dead)", two.url]
    one.transport.setPeers([PeerAddress(id: 2, urls: urls)])
    #expect(await one.reaches(two))
    #expect(one.seen.now.logs("unusable peer URL"))
    #expect(one.seen.now.logs("needs TLS, which is not configured"))
    await one.transport.close()
    await two.transport.close()
  }

  @Test("Peers come, move and go while everything runs")
  func setPeers() async throws {
    let (one, two, three) = (
      try await TestMember.start(1), try await TestMember.start(2), try await TestMember.start(3)
    )
    one.sendBulk(1, to: 2)
    #expect(one.transport.messagesToUnknownPeers == 1)
    one.transport.setPeers([two.address])
    #expect(await one.reaches(two))
    one.transport.setPeers([two.address, three.address, one.address])
    #expect(await one.reaches(three))
    #expect(one.transport.status.map(\.id) == [2, 3])
    // Two moves.
    await two.transport.close()
    let moved = try await TestMember.start(2)
    one.transport.setPeers([moved.address, three.address])
    #expect(await one.reaches(moved))
    // Three goes, and is not let in again.
    three.transport.setPeers([one.address])
    #expect(await three.reaches(one))
    one.transport.setPeers([moved.address], removed: [3])
    #expect(one.transport.status.map(\.id) == [2])
    let refused = one.transport.messagesToUnknownPeers
    one.sendBulk(2, to: 3)
    #expect(one.transport.messagesToUnknownPeers == refused + 1)
    #expect(await three.seen.until { $0.logs("knows that 3 has been removed") && $0.expelledBy.contains(1) })
    #expect(!three.isConnected(to: 1))
    #expect(await one.reaches(moved))
    for member in [one, moved, three] { await member.transport.close() }
  }

  @Test("Who knows the cluster is let in unheard of, and answered, for as long as it stays")
  func guests() async throws {
    let (one, two) = (try await TestMember.start(1), try await TestMember.start(2))
    two.transport.setPeers([one.address])
    #expect(await two.reaches(one))
    #expect(await one.reaches(two))
    one.transport.setPeers([])
    #expect(await one.reaches(two))
    await two.transport.close()
    #expect(await eventually { one.transport.status.isEmpty })
    await one.transport.close()
  }

  @Test("A member describes itself to anyone that it trusts")
  func describe() async throws {
    let pki = try TestPKI()
    let tls = try pki.tls("one")
    let one = try await TestMember.start(1, tls: tls)
    let url = try PeerURL(one.url)
    let logger = one.quiet
    let bytes = try await PeerDescription.ask(url, tls: tls, group: TestMember.group, logger: logger)
    #expect(String(decoding: bytes, as: UTF8.self) == "the members")
    let stranger = try TestPKI().tls("stranger")
    await #expect(throws: PeerDescription.Failure.self) {
      try await PeerDescription.ask(url, tls: stranger, group: TestMember.group, logger: logger)
    }
    await one.transport.close()
    await #expect(throws: PeerDescription.Failure.self) {
      try await PeerDescription.ask(url, tls: tls, group: TestMember.group, logger: logger)
    }
  }
}
