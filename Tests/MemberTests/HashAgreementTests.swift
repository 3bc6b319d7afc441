import Member
import PeerProtocol
import Raft
import StateMachine
import Testing

/// Which hash the members agree on, and who finds out that its own is another.
@Suite struct HashAgreementTests {
  private var leader = HashAgreement()
  private let voters: [NodeID] = [1, 2, 3]

  private static func beat(_ index: LogIndex, _ hash: UInt64) -> PeerBeat {
    PeerBeat(clock: nil, appliedIndex: index, stateHash: hash, term: 1)
  }

  private static func own(_ hashes: [LogIndex: UInt64]) -> [HashAgreement.Checkpoint] {
    hashes.sorted { $0.key < $1.key }.map { HashAgreement.Checkpoint(index: $0.key, hash: $0.value) }
  }

  private mutating func hear(_ index: LogIndex, _ hash: UInt64, from peer: NodeID) {
    leader.note(Self.beat(index, hash), from: peer, voters: voters, own: 1)
  }

  @Test("A majority of the voters, the leader among them, agrees; the same hash at another index does not count")
  mutating func majority() {
    leader.noteOwn(Self.own([64: 5]))
    #expect(leader.agreed == nil, "one of three")
    hear(128, 5, from: 2)
    #expect(leader.agreed == nil)
    hear(64, 5, from: 3)
    #expect(leader.agreed == HashAgreement.Checkpoint(index: 64, hash: 5))
    #expect(leader.takeFinding() == nil)
  }

  @Test("A leader that is alone with its hash finds out, once")
  mutating func wrongLeader() {
    leader.noteOwn(Self.own([64: 9]))
    hear(64, 5, from: 2)
    #expect(leader.takeFinding() == nil, "one against one: nobody knows who is wrong")
    hear(64, 5, from: 3)
    #expect(leader.agreed?.hash == 5)
    #expect(leader.takeFinding() == HashAgreement.Finding(index: 64, own: 9, agreed: 5))
    #expect(leader.takeFinding() == nil)
  }

  @Test("A follower that is alone with its hash makes the leader doubt neither itself nor the rest")
  mutating func wrongFollower() {
    leader.noteOwn(Self.own([64: 5]))
    hear(64, 9, from: 2)
    hear(64, 5, from: 3)
    #expect(leader.agreed?.hash == 5)
    #expect(leader.takeFinding() == nil)
  }

  @Test("Learners are heard and not counted")
  mutating func learners() {
    leader.noteOwn(Self.own([64: 9]))
    hear(64, 5, from: 7)
    hear(64, 5, from: 8)
    #expect(leader.agreed == nil)
  }

  @Test("A checkpoint told again is no news: it pushes no other one out. One without an index is none")
  mutating func repetition() {
    hear(1, 5, from: 2)
    for _ in 0..<StateHash.maxCheckpoints { hear(2, 5, from: 2) }
    hear(0, 5, from: 3)
    #expect(leader.agreed == nil)
    hear(1, 5, from: 3)
    #expect(leader.agreed?.index == 1)
  }

  @Test("Agreement never goes back to an earlier index")
  mutating func order() {
    leader.noteOwn(Self.own([64: 5, 128: 6]))
    hear(128, 6, from: 2)
    #expect(leader.agreed?.index == 128)
    hear(64, 5, from: 3)
    #expect(leader.agreed?.index == 128)
  }

  @Test("A member that is slow finds its partner in what others have told before; of each only the latest are kept")
  mutating func history() {
    let last = LogIndex(StateHash.maxCheckpoints) + 1
    for index in 1...last { hear(index, 5, from: 2) }
    leader.noteOwn(Self.own([1: 5, 2: 5]))
    hear(1, 5, from: 3)
    // Member 2 told of index 1 too long ago, so that the majority is the leader's and member 3's.
    #expect(leader.agreed?.index == 1)
    leader.reset()
    leader.noteOwn(Self.own([1: 9, 2: 9]))
    for index in 1...last { hear(index, 5, from: 2) }
    hear(1, 5, from: 3)
    #expect(leader.agreed == nil, "forgotten")
    hear(2, 5, from: 3)
    #expect(leader.agreed?.index == 2, "remembered")
  }

  @Test("A new leadership knows nothing of the others, and keeps what it knows of itself")
  mutating func reset() {
    leader.noteOwn(Self.own([64: 5]))
    hear(64, 5, from: 2)
    leader.reset()
    #expect(leader.agreed == nil)
    #expect(leader.own?.hash == 5)
    hear(64, 5, from: 2)
    #expect(leader.agreed?.hash == 5)
  }

  @Test("A follower compares what the leader tells with what it had at that very index")
  mutating func follower() {
    var follower = HashAgreement()
    follower.noteOwn(Self.own([64: 5, 128: 6]))
    follower.compare(with: Self.beat(64, 5))
    follower.compare(with: Self.beat(192, 7))
    follower.compare(with: Self.beat(0, 1))
    #expect(follower.takeFinding() == nil)
    follower.compare(with: Self.beat(64, 6))
    #expect(follower.takeFinding() == HashAgreement.Finding(index: 64, own: 5, agreed: 6))
    // Another state has come in the place of this one: what the old one had counts no more.
    follower.forgetOwn()
    follower.compare(with: Self.beat(128, 7))
    #expect(follower.takeFinding() == nil)
  }
}
