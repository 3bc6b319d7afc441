import PeerProtocol
import Primitives
import Raft
import StateMachine

/// Every shape of frame, with fields from all over their range: for the codec, which must not care what is sensible.
struct RandomFrames {
  var random: SeededGenerator

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }

  mutating func number() -> UInt64 {
    switch below(3) {
    case 0: UInt64(below(3))
    case 1: UInt64(below(1_000_000))
    default: random.next()
    }
  }

  mutating func flag() -> Bool { Bool.random(using: &random) }

  mutating func bytes() -> [UInt8] {
    let count = below(8) == 0 ? below(5_000) : below(20)
    return (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
  }

  mutating func several<Element>(upTo most: Int, _ make: (inout RandomFrames) -> Element) -> [Element] {
    (0..<below(most + 1)).map { _ in make(&self) }
  }

  mutating func entryID() -> EntryID { EntryID(index: number(), term: number()) }

  /// One that the rules allow.
  mutating func membership() -> Membership {
    var ids: Set<NodeID> = []
    while ids.count < 9 { ids.insert(number() | 1) }
    var rest = Array(ids)
    let voters = (0...below(3)).map { _ in rest.removeLast() }
    let outgoing = flag() ? [] : (0...below(2)).map { _ in rest.removeLast() }
    let learners = (0..<below(3)).map { _ in rest.removeLast() }
    return Membership(
      voters: voters, outgoing: outgoing, learners: learners, learnersNext: flag() ? outgoing : [])
  }

  mutating func payload() -> Entry.Payload {
    switch below(4) {
    case 0: .empty
    case 1: .membership(membership(), command: bytes())
    default: .command(bytes())
    }
  }

  mutating func append() -> AppendRequest {
    let previous = EntryID(index: number() >> 1, term: number())
    var index = previous.index
    let entries = several(upTo: 9) { random in
      index += 1
      return Entry(index: index, term: random.number(), payload: random.payload())
    }
    return AppendRequest(previous: previous, entries: entries, commit: number())
  }

  mutating func body() -> Message.Body {
    switch below(12) {
    case 0: .voteRequest(VoteRequest(isPreVote: flag(), last: entryID(), isTransfer: flag()))
    case 1: .voteResponse(VoteResponse(isPreVote: flag(), isGranted: flag()))
    case 2: .appendRequest(append())
    case 3: .appendResponse(.matched(number()))
    case 4: .appendResponse(.mismatch(rejected: number(), hint: entryID()))
    case 5: .heartbeat(Heartbeat(commit: number(), readRound: number()))
    case 6: .heartbeatResponse(HeartbeatResponse(readRound: number()))
    case 7: .timeoutNow
    case 8: .snapshot(SnapshotMark(last: entryID(), membership: membership()))
    case 9: .readRequest(context: number())
    case 10: .readResponse(context: number(), index: number())
    default: .readRefused(context: number())
    }
  }

  mutating func command() -> Command {
    switch below(4) {
    case 0: .put(.init(Bytes(bytes()), Bytes(bytes()), lease: Int64(bitPattern: number())))
    case 1: .leaseRenew(ids: several(upTo: 9) { Int64(bitPattern: $0.number()) })
    case 2: .compact(revision: Int64(bitPattern: number()))
    default: .tick
    }
  }

  mutating func message() -> PeerMessage {
    switch below(8) {
    case 0:
      .beat(
        PeerBeat(
          clock: flag() ? LeaseClock(milliseconds: Int64(bitPattern: number())) : nil, appliedIndex: number(),
          stateHash: number(), term: number()))
    case 1:
      .forward(
        ForwardedProposal(
          origin: ProposalOrigin(memberID: number(), session: number(), sequence: number()),
          term: number(), commands: several(upTo: 5) { $0.command() }))
    case 2: .forwardRefused(sequence: number(), reason: ForwardRefusal.allCases.randomElement(using: &random)!)
    default: .raft(Message(from: number(), to: number(), term: number(), body: body()))
    }
  }

  mutating func refusal() -> PeerRefusal {
    switch below(7) {
    case 0: .unknownVersion(oldest: number(), newest: number())
    case 1: .wrongCluster(actual: number())
    case 2: .wrongMember(actual: number())
    case 3: .notAMember(number())
    case 4: .stopping
    case 5: .removed(number())
    default: .other(code: UInt8.random(in: 100...255, using: &random), text: "as a later version words it")
    }
  }

  mutating func verdict() -> SnapshotVerdict {
    switch below(5) {
    case 0: .accepted
    case 1: .refused(.unwanted("newer already"))
    case 2: .refused(.corrupt)
    case 3: .refused(.superseded)
    default: .refused(.failed("no space"))
    }
  }

  mutating func snapshot() -> SnapshotFrame {
    switch below(6) {
    case 0: .offer(SnapshotOffer(transferID: number(), mark: bytes(), byteCount: flag() ? number() : nil))
    case 1: .resume(offset: number())
    case 2: .chunk(offset: number(), bytes: bytes())
    case 3: .acknowledged(offset: number())
    case 4: .end(byteCount: number(), checksum: UInt32(truncatingIfNeeded: number()))
    default: .verdict(verdict())
    }
  }

  mutating func hello() -> PeerHello {
    PeerHello(
      purpose: PeerPurpose.allCases.randomElement(using: &random)!, clusterID: number(), senderID: number(),
      addresseeID: number(), senderURLs: several(upTo: 3) { "https://host-\($0.number()):2380" },
      oldestVersion: number(), newestVersion: number())
  }

  mutating func frame() -> PeerFrame {
    switch below(10) {
    case 0: .hello(hello())
    case 1: .welcome(PeerWelcome(version: number(), clusterID: number(), memberID: number()))
    case 2: .refusal(refusal())
    case 3: flag() ? .ping(number()) : .pong(number())
    case 4: .description(bytes())
    case 5, 6: .snapshot(snapshot())
    default: .message(message())
    }
  }
}

extension FrameReader {
  init() { self.init(maxPayloadBytes: Limits.maxPeerFrameBytes) }

  mutating func append(_ bytes: some Collection<UInt8>) { Array(bytes).withUnsafeBytes { append($0) } }
}
