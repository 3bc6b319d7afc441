import NIOCore
import PeerProtocol
import PeerTransport
import Primitives
import Testing

@Suite struct SnapshotTransferTests {
  /// Of a sender that is played by the test.
  private static let hello = PeerHello(
    purpose: .snapshot, clusterID: TestMember.clusterID, senderID: 3, addresseeID: 2,
    senderURLs: ["http://127.0.0.1:1"])

  /// Sends `source` from member 1 to member 2, through a proxy that follows the plan. Nil: it has arrived.
  private func transfer(
    _ source: MemorySource, plan: [Proxy.Fault] = [], recorder: Recorder = Recorder(), tls: Bool = false,
    timing: PeerTiming = .quick
  ) async throws -> SnapshotFailure? {
    let pki = try TestPKI()
    let one = try await TestMember.start(1, tls: tls ? try pki.tls("one") : nil, timing: timing)
    let two = try await TestMember.start(2, tls: tls ? try pki.tls("two") : nil, timing: timing, recorder: recorder)
    let proxy = try await Proxy(to: two.port, plan: plan)
    // The lanes stand on the direct way and keep it, so that only the transfer comes past the proxy.
    one.transport.setPeers([two.address])
    #expect(await one.reaches(two))
    let ruined = "\(tls ? "https" : "http")://127.0.0.1:\(proxy.port)"
    one.transport.setPeers([
      PeerAddress(id: 2, urls: Array(repeating: ruined, count: timing.maxSnapshotAttempts) + [two.url])
    ])
    let result = await send(source, from: one, to: 2)
    // The lanes of both directions are left.
    #expect(await eventually { one.status(of: 2)!.activeStreams == 4 })
    try await proxy.stop()
    await one.transport.close()
    await two.transport.close()
    return result
  }

  private func send(_ source: MemorySource, from member: TestMember, to id: UInt64) async -> SnapshotFailure? {
    await withCheckedContinuation { continuation in
      member.transport.sendSnapshot(source, to: id) { result in
        if case .failure(let failure) = result {
          continuation.resume(returning: failure)
        } else {
          continuation.resume(returning: nil)
        }
      }
    }
  }

  @Test("A snapshot arrives whole", arguments: [0, 1, 1_000, Limits.snapshotChunkBytes, 20_000_000], [true, false])
  func whole(count: Int, tls: Bool) async throws {
    let source = MemorySource(count, seed: 3, knowsSize: tls)
    let recorder = Recorder()
    #expect(try await transfer(source, recorder: recorder, tls: tls) == nil)
    let sink = recorder.sink.now
    #expect(sink.bytes == source.content)
    #expect(sink.isFinished && sink.restarts == 0 && sink.abandoned == 0 && sink.appended == count)
    let offer = try #require(recorder.seen.now.offers.first)
    #expect(offer.mark == [4, 2] && offer.byteCount == (tls ? UInt64(count) : nil))
  }

  @Test("A transfer that is cut at random places goes on there", arguments: 0..<6 as Range<UInt64>)
  func cuts(seed: UInt64) async throws {
    var random = SeededGenerator(seed: seed)
    let source = MemorySource(3_000_000, seed: seed)
    // The first may fall into the handshake.
    let plan =
      [Proxy.Fault.cut(after: Int.random(in: 1...200, using: &random))]
      + (0..<3).map { _ in Proxy.Fault.cut(after: Int.random(in: 600_000...900_000, using: &random)) }
    let recorder = Recorder()
    #expect(try await transfer(source, plan: plan, recorder: recorder, tls: seed.isMultiple(of: 2)) == nil)
    let sink = recorder.sink.now
    #expect(sink.bytes == source.content)
    #expect(sink.isFinished && sink.restarts == 0 && sink.abandoned == 0)
    #expect(sink.appended == source.content.count, "nothing that was kept is sent again")
    #expect(recorder.seen.now.offers.count == 1, "one transfer")
    let opened = source.opened.now
    #expect(opened.count >= 2 && opened == opened.sorted() && opened.last! > 0)
  }

  @Test("A chunk that arrives damaged is noticed and sent again")
  func corruption() async throws {
    let source = MemorySource(3_000_000, seed: 8)
    let recorder = Recorder()
    let plan = [Proxy.Fault.flip(at: 1_200_000), .flip(at: 700_000)]
    #expect(try await transfer(source, plan: plan, recorder: recorder) == nil)
    let sink = recorder.sink.now
    #expect(sink.bytes == source.content)
    #expect(sink.appended == source.content.count && sink.restarts == 0)
    #expect(recorder.seen.now.logs("wrong checksum"))
    #expect(source.opened.now.count == 3)
  }

  @Test("A receiver says why it does not want a snapshot")
  func refusal() async throws {
    let recorder = Recorder(refusal: .unwanted("it is older than what is here"))
    let result = try await transfer(MemorySource(1_000, seed: 1), recorder: recorder)
    #expect(result == .refused(.unwanted("it is older than what is here")))
  }

  @Test("A peer that stays away fails the transfer, as does a peer that is unknown or goes")
  func unreachable() async throws {
    var timing = PeerTiming.quick
    timing.maxSnapshotAttempts = 3
    let one = try await TestMember.start(1, timing: timing)
    let source = MemorySource(1_000, seed: 1)
    #expect(await send(source, from: one, to: 2) == .unknownPeer)
    let dead = try await TestMember.freePort()
    one.transport.setPeers([PeerAddress(id: 2, urls: ["http://127.0.0.1:\(dead)"])])
    guard case .unreachable(let reason) = await send(source, from: one, to: 2) else {
      Issue.record("a snapshot that cannot have arrived")
      return
    }
    #expect(reason.contains("cannot connect"))
    let mute = try await RawPeer(3) { _ in .nothing }
    one.transport.setPeers([PeerAddress(id: 3, urls: ["http://127.0.0.1:\(mute.port)"])])
    async let removed = send(source, from: one, to: 3)
    #expect(await mute.seen.until { $0.connections >= 3 })
    one.transport.setPeers([])
    #expect(await removed == .unknownPeer)
    one.transport.setPeers([PeerAddress(id: 3, urls: ["http://127.0.0.1:\(mute.port)"])])
    async let replaced = send(source, from: one, to: 3)
    #expect(await eventually { one.status(of: 3)!.activeStreams == 1 })
    async let stopped = send(source, from: one, to: 3)
    #expect(await replaced == .replaced)
    await one.transport.close()
    #expect(await stopped == .stopped)
    try await mute.stop()
  }

  @Test("A newer snapshot takes the place of one that was interrupted, whose sender is told")
  func superseded() async throws {
    let two = try await TestMember.start(2)
    // The first sender stops in the middle of its stream.
    let first = SnapshotOffer(transferID: 1, mark: [], byteCount: nil)
    func bytes(_ frames: [PeerFrame]) throws -> [UInt8] { try frames.flatMap { try $0.encoded().bytes } }
    let (channel, seen) = try await RawPeer.dial(
      two.port,
      try bytes([.hello(Self.hello), .snapshot(.offer(first)), .snapshot(.chunk(offset: 0, bytes: [1, 2, 3]))]))
    #expect(await two.recorder.sink.until { $0.bytes == [1, 2, 3] })
    let one = try await TestMember.start(1)
    one.transport.setPeers([two.address])
    let source = MemorySource(100_000, seed: 2)
    #expect(await send(source, from: one, to: 2) == nil)
    #expect(two.recorder.sink.now.bytes == source.content)
    #expect(two.recorder.sink.now.abandoned == 1)
    _ = try await channel.writeAndFlush(
      ByteBuffer(bytes: try bytes([.snapshot(.chunk(offset: 3, bytes: [4]))]))
    ).get()
    #expect(await seen.until { $0.frames.contains(.snapshot(.verdict(.refused(.superseded)))) && $0.closed == 1 })
    #expect(two.recorder.sink.now.bytes == source.content)
    await one.transport.close()
    await two.transport.close()
  }

  @Test("A stream that is not what its end says is refused, and what came of it given up")
  func wrongWhole() async throws {
    let two = try await TestMember.start(2)
    let offer = SnapshotOffer(transferID: 1, mark: [], byteCount: nil)
    let frames: [PeerFrame] = [
      .hello(Self.hello), .snapshot(.offer(offer)), .snapshot(.chunk(offset: 0, bytes: [1, 2, 3])),
      .snapshot(.end(byteCount: 3, checksum: 1)),
    ]
    let (_, seen) = try await RawPeer.dial(two.port, try frames.flatMap { try $0.encoded().bytes })
    #expect(await seen.until { $0.closed == 1 })
    #expect(seen.now.frames.last == .snapshot(.verdict(.refused(.corrupt))))
    #expect(two.recorder.sink.now.abandoned == 1 && !two.recorder.sink.now.isFinished)
    await two.transport.close()
  }

  @Test("What came of an interrupted snapshot is given up when nobody goes on")
  func forgotten() async throws {
    var timing = PeerTiming.quick
    timing.snapshotMemory = .milliseconds(50)
    let two = try await TestMember.start(2, timing: timing)
    let offer = SnapshotOffer(transferID: 1, mark: [], byteCount: nil)
    let frames: [PeerFrame] = [
      .hello(Self.hello), .snapshot(.offer(offer)), .snapshot(.chunk(offset: 0, bytes: [1, 2, 3])),
    ]
    let (channel, _) = try await RawPeer.dial(two.port, try frames.flatMap { try $0.encoded().bytes })
    #expect(await two.recorder.sink.until { $0.bytes == [1, 2, 3] })
    try await channel.close().get()
    #expect(await two.recorder.sink.until { $0.abandoned == 1 })
    await two.transport.close()
  }
}
