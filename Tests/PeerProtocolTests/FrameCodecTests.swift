import PeerProtocol
import Primitives
import Raft
import StateMachine
import Testing

@Suite struct FrameCodecTests {
  @Test("Every frame is read as it was written, however the stream is cut")
  func roundTrip() throws {
    for seed in 0..<300 as Range<UInt64> {
      var random = RandomFrames(seed: seed)
      let frames = random.several(upTo: 12) { $0.frame() }
      var stream: [UInt8] = []
      for frame in frames {
        let encoded = try frame.encoded()
        #expect(encoded.bytes.count == encoded.byteCount)
        stream += encoded.bytes
      }
      var reader = FrameReader()
      var read: [PeerFrame] = []
      var rest = stream[...]
      while !rest.isEmpty {
        let count = random.flag() ? rest.count : random.below(min(rest.count, 40)) + 1
        reader.append(rest.prefix(count))
        rest = rest.dropFirst(count)
        while let frame = try reader.next() { read.append(frame) }
      }
      #expect(read == frames, "seed \(seed)")
      #expect(reader.unfinishedBytes == 0)
    }
  }

  @Test("Large payloads are not copied into the head, and one past the limit is refused by its writer")
  func largePayloads() throws {
    let payload = [UInt8](repeating: 7, count: 1_000_000)
    func append(_ count: Int) -> PeerMessage {
      let entries = (1...count).map { Entry(index: UInt64($0), term: 1, payload: .command(payload)) }
      let request = AppendRequest(previous: EntryID(index: 0, term: 0), entries: entries, commit: 0)
      return .raft(Message(from: 1, to: 2, term: 1, body: .appendRequest(request)))
    }
    let frame = try append(3).encoded()
    #expect(frame.bodies == [payload, payload, payload])
    #expect(frame.head.count < 100)
    var reader = FrameReader()
    reader.append(frame.bytes)
    #expect(try reader.next() == .message(append(3)))
    let tooLarge = Limits.maxPeerFrameBytes / payload.count + 1
    #expect(throws: PeerProtocolError.self) { try append(tooLarge).encoded() }
  }

  @Test("A raft message alone, as the mark of a snapshot")
  func marks() throws {
    for seed in 0..<200 as Range<UInt64> {
      var random = RandomFrames(seed: seed)
      let message = Message(from: 1, to: 2, term: 3, body: random.body())
      let bytes = try message.encoded()
      #expect(try Message(decoding: bytes) == message)
      #expect(throws: DecodingFailure.self) { try Message(decoding: bytes + [0]) }
    }
  }

  @Test("A frame larger than allowed is refused by its first bytes, before anything is held for it")
  func announcedLength() throws {
    var reader = FrameReader(maxPayloadBytes: 1_000)
    reader.append([0xe9, 0x03, 0, 0, 1])
    #expect(throws: PeerProtocolError.frameTooLarge(byteCount: 1_001, limit: 1_000)) { try reader.next() }
    var http = FrameReader()
    http.append("GET / HTTP/1.1\r\n".utf8)
    #expect(throws: PeerProtocolError.self) { try http.next() }
  }

  @Test("A later version may append to the handshake, and to nothing else")
  func laterVersions() throws {
    let hello = PeerHello(
      purpose: .bulk, clusterID: 7, senderID: 1, addresseeID: 2, senderURLs: [], oldestVersion: 1, newestVersion: 9)
    func extended(_ frame: PeerFrame) throws -> PeerFrame {
      let bytes = try frame.encoded().bytes
      return try PeerFrame(type: bytes[4], payload: (bytes[5..<bytes.count - 4] + [1, 2, 3])[...])
    }
    #expect(try extended(.hello(hello)) == .hello(hello))
    let welcome = PeerFrame.welcome(PeerWelcome(version: 1, clusterID: 7, memberID: 2))
    #expect(try extended(welcome) == welcome)
    #expect(try extended(.refusal(.stopping)) == .refusal(.stopping))
    #expect(throws: PeerProtocolError.self) { try extended(.ping(1)) }
    #expect(PeerVersion.common(with: hello) == PeerVersion.newest)
    var other = hello
    other.oldestVersion = PeerVersion.newest + 1
    #expect(PeerVersion.common(with: other) == nil)
    other.oldestVersion = 0
    other.newestVersion = 0
    #expect(PeerVersion.common(with: other) == nil)
  }

  @Test("What is worthless when late has a connection of its own")
  func lanes() {
    func lane(_ body: Message.Body) -> PeerLane { PeerMessage.raft(Message(from: 1, to: 2, term: 1, body: body)).lane }
    #expect(lane(.heartbeat(Heartbeat(commit: 0, readRound: 0))) == .urgent)
    #expect(lane(.voteResponse(VoteResponse(isPreVote: true, isGranted: true))) == .urgent)
    #expect(lane(.timeoutNow) == .urgent)
    #expect(lane(.readRequest(context: 1)) == .urgent)
    #expect(lane(.appendResponse(.matched(1))) == .bulk)
    #expect(PeerMessage.forwardRefused(sequence: 1, reason: .notLeader).lane == .bulk)
    #expect(PeerMessage.beat(PeerBeat(clock: nil, appliedIndex: 0, stateHash: 0, term: 0)).lane == .urgent)
  }
}
