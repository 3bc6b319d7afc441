import PeerProtocol
import Primitives
import Raft
import StateMachine

// What members say to each other: Raft's messages, and what rides with its heartbeats.

extension MemberCore {
  mutating func receive(_ message: PeerMessage, from peer: NodeID, at now: MonotonicTime) {
    switch message {
    case .raft(let message):
      guard message.from == peer else { return }
      // It comes with its state or not at all (`MemberEvent.snapshotReady`).
      if case .snapshot = message.body { return }
      step(.received(message), at: now)
    case .beat(let beat): receive(beat, from: peer, at: now)
    case .forward(let forwarded):
      guard forwarded.origin.memberID == peer else { return }
      receive(forwarded, at: now)
    case .forwardRefused(let sequence, let reason): receiveRefusal(of: sequence, reason)
    }
  }

  /// A leader's heartbeat carries its clock, and what most members know their state to be; an answer carries the
  /// sender's own.
  mutating func send(_ message: Message, at now: MonotonicTime) {
    output.messages.append((message.to, .raft(message)))
    switch message.body {
    case .heartbeat:
      let agreed = hashes.agreed
      let beat = PeerBeat(
        clock: isReady ? clock.read(at: now) : nil, appliedIndex: agreed?.index ?? 0, stateHash: agreed?.hash ?? 0,
        term: raft.term)
      output.messages.append((message.to, .beat(beat)))
    case .heartbeatResponse:
      let own = hashes.own
      let beat = PeerBeat(clock: nil, appliedIndex: own?.index ?? 0, stateHash: own?.hash ?? 0, term: raft.term)
      output.messages.append((message.to, .beat(beat)))
    default: break
    }
  }

  private mutating func receive(_ beat: PeerBeat, from peer: NodeID, at now: MonotonicTime) {
    guard beat.term == raft.term else { return }
    if isLeader {
      hashes.note(beat, from: peer, voters: raft.membership.voters, own: memberID)
    } else if raft.leader == peer {
      if let told = beat.clock {
        heard.note(told, term: beat.term)
        clock.follow(told, at: now, validMilliseconds: settings.electionTimeoutMilliseconds)
      }
      hashes.compare(with: beat)
    }
    noteCorruption(at: now)
  }

  private mutating func noteCorruption(at now: MonotonicTime) {
    guard let finding = hashes.takeFinding() else { return }
    output.notices.append(.corrupt(index: finding.index, own: finding.own, agreed: finding.agreed))
    // What others decide upon this member's state should not be wrong: another one leads.
    raft.abstains = true
    if isLeader, let heir = raft.progress.first(where: { $0.isActive && !$0.isLearner })?.id {
      step(.transferLeadership(to: heir), at: now)
    }
  }
}
