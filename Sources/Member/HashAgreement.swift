import PeerProtocol
import Primitives
import Raft
import StateMachine

/// Whether this member's state is the cluster's. Every member keeps the rolling hash of its state at certain indexes
/// (`StateHash`); followers tell theirs with the answers to heartbeats, the leader finds what a
/// majority agrees on and tells that with its heartbeats. A member that had another hash at that index has lost or
/// changed something, whoever leads.
package struct HashAgreement: Sendable {
  package typealias Checkpoint = StateHash.Checkpoint

  package struct Finding: Hashable, Sendable {
    package var index: LogIndex
    package var own: UInt64
    package var agreed: UInt64

    package init(index: LogIndex, own: UInt64, agreed: UInt64) {
      self.index = index
      self.own = own
      self.agreed = agreed
    }
  }

  /// This member's, newest last.
  private var history: [Checkpoint] = []
  /// What followers have told, by index: the leader's view.
  private var told: [NodeID: [Checkpoint]] = [:]
  package private(set) var agreed: Checkpoint?
  private var finding: Finding?

  package init() {}

  package var own: Checkpoint? { history.last }

  /// A new leadership knows nothing of the others.
  package mutating func reset() {
    told = [:]
    agreed = nil
  }

  package mutating func noteOwn(_ checkpoints: [Checkpoint]) { history = checkpoints }

  /// Another state has come in the place of this one.
  package mutating func forgetOwn() { history = [] }

  /// Leader: a follower's newest checkpoint.
  package mutating func note(_ beat: PeerBeat, from peer: NodeID, voters: [NodeID], own: NodeID) {
    guard beat.appliedIndex > 0, told[peer]?.last?.index != beat.appliedIndex else { return }
    told[peer, default: []].append(Checkpoint(index: beat.appliedIndex, hash: beat.stateHash))
    if told[peer]!.count > StateHash.maxCheckpoints { told[peer]!.removeFirst() }
    agree(at: beat.appliedIndex, voters: voters, own: own)
  }

  private mutating func agree(at index: LogIndex, voters: [NodeID], own: NodeID) {
    guard index > (agreed?.index ?? 0) else { return }
    var counts: [UInt64: Int] = [:]
    for voter in voters {
      let checkpoints = voter == own ? history : told[voter] ?? []
      if let checkpoint = checkpoints.last(where: { $0.index == index }) { counts[checkpoint.hash, default: 0] += 1 }
    }
    guard let (hash, _) = counts.first(where: { $0.value > voters.count / 2 }) else { return }
    agreed = Checkpoint(index: index, hash: hash)
    compare(index, hash)
  }

  /// Follower: what the leader says most members agree on.
  package mutating func compare(with beat: PeerBeat) {
    if beat.appliedIndex > 0 { compare(beat.appliedIndex, beat.stateHash) }
  }

  private mutating func compare(_ index: LogIndex, _ hash: UInt64) {
    guard let mine = history.last(where: { $0.index == index }), mine.hash != hash else { return }
    finding = Finding(index: index, own: mine.hash, agreed: hash)
  }

  package mutating func takeFinding() -> Finding? {
    defer { finding = nil }
    return finding
  }
}
