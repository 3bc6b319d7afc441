import PeerProtocol
import Primitives
import Raft
import StateMachine

// Proposals of a follower's callers on their way through the leader.
//
// A follower numbers what it hands on, says under which term, and repeats it as long as it hears nothing; the leader of
// that term takes each number once. What the leader appends names its origin, so the follower answers its caller when it
// applies the entry itself. When it applies an entry of a later term instead, the proposal is lost for certain (a leader
// takes none of an earlier term) and is handed to the next leader: nothing happens twice, and no caller notices that the
// leader has changed.

/// A follower's side.
package struct ForwardTable: Sendable {
  package struct Forward: Sendable {
    package var proposal: Proposal
    package var term: Term
    package var sentAt: MonotonicTime
  }

  private let session: UInt64
  private var lastSequence: UInt64 = 0
  package private(set) var open: [UInt64: Forward] = [:]

  package init(session: UInt64) { self.session = session }

  package var count: Int { open.count }

  /// Takes a proposal that is sent to the leader of `term` now; answers its number.
  package mutating func add(_ proposal: Proposal, term: Term, at now: MonotonicTime) -> UInt64 {
    lastSequence += 1
    open[lastSequence] = Forward(proposal: proposal, term: term, sentAt: now)
    return lastSequence
  }

  package func origin(_ sequence: UInt64, member: NodeID) -> ProposalOrigin {
    ProposalOrigin(memberID: member, session: session, sequence: sequence)
  }

  /// The proposal of this life with that origin, which is answered now.
  package mutating func take(_ origin: ProposalOrigin) -> Proposal? {
    guard origin.session == session else { return nil }
    return open.removeValue(forKey: origin.sequence)?.proposal
  }

  package mutating func take(_ sequence: UInt64) -> Proposal? { open.removeValue(forKey: sequence)?.proposal }

  /// Those that were sent under a term before `term`, in the order in which they were sent: none will be appended.
  package mutating func takeLost(before term: Term) -> [Proposal] {
    let lost = open.filter { $0.value.term < term }.keys.sorted()
    return lost.map { open.removeValue(forKey: $0)!.proposal }
  }

  package mutating func takeAll() -> [Proposal] {
    let all = open.keys.sorted().map { open[$0]!.proposal }
    open = [:]
    return all
  }

  package mutating func takeExpired(at now: MonotonicTime) -> [Proposal] {
    let expired = open.filter { $0.value.proposal.deadline <= now }.keys.sorted()
    return expired.map { open.removeValue(forKey: $0)!.proposal }
  }

  /// Those of `term` that have not been answered for a while, in order; they count as sent now.
  package mutating func due(term: Term, sentBefore moment: MonotonicTime, now: MonotonicTime) -> [(UInt64, Proposal)] {
    let due = open.filter { $0.value.term == term && $0.value.sentAt < moment }.keys.sorted()
    for sequence in due { open[sequence]!.sentAt = now }
    return due.map { ($0, open[$0]!.proposal) }
  }
}

/// A leader's side: which numbers it has taken in its term. One that was overtaken, because a connection took it along
/// when it broke, is taken when it comes again.
package struct ForwardIntake: Sendable {
  /// Of one member, the newest lives' numbers are remembered: more do not have messages under way.
  private static let maxSessions = 8

  private var term: Term = 0
  private var taken: [NodeID: [(session: UInt64, sequences: SequenceSet)]] = [:]

  package init() {}

  package mutating func begin(term: Term) {
    guard term != self.term else { return }
    self.term = term
    taken = [:]
  }

  /// False for what was taken before.
  package mutating func takes(_ origin: ProposalOrigin) -> Bool {
    var sessions = taken.removeValue(forKey: origin.memberID) ?? []
    defer { taken[origin.memberID] = sessions }
    guard let place = sessions.firstIndex(where: { $0.session == origin.session }) else {
      sessions.append((origin.session, SequenceSet([origin.sequence...origin.sequence])))
      if sessions.count > Self.maxSessions { sessions.removeFirst() }
      return true
    }
    if sessions[place].sequences.contains(origin.sequence) { return false }
    sessions[place].sequences.insert(origin.sequence)
    return true
  }
}
