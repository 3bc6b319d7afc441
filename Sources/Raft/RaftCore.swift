import Primitives

/// One member of a Raft group as a pure value: events and the time go in, the output says what to write, send and
/// apply. No clock, disk, network or thread; randomness comes from a seed. (Diego Ongaro, "Consensus: Bridging Theory
/// and Practice", 2014, is "the thesis" of all comments here.)
///
/// The disk is an asynchronous peer: its completion comes back as `.persisted` and counts as this member's own
/// acknowledgement. It is assumed to make writes durable in the order in which they were handed out; after a crash
/// some prefix of them is there.
package struct RaftCore: Sendable {
  package let configuration: Configuration
  let isSoleVoter: Bool
  package internal(set) var term: Term
  /// 0: not voted in this term.
  var vote: NodeID
  var log: RaftLog
  var state: RoleState
  /// When a member that does not lead loses patience.
  var electionDeadline: Instant
  var generator: SeededGenerator
  /// As handed out last.
  private var recorded: HardState

  /// A member as its disk remembers it.
  /// - `log.entries` start at `snapshotIndex + 1`; all of it is durable.
  /// - `applied`: how far the state machine has come by itself; the snapshot's index if not given. Committed entries
  ///   behind it are handed out anew.
  package init(
    configuration: Configuration, recovered: HardState,
    log: (snapshotIndex: LogIndex, snapshotTerm: Term, entries: [Entry]), applied: LogIndex? = nil, now: Instant
  ) {
    self.configuration = configuration.checkedBounds()
    isSoleVoter = configuration.isSoleVoter
    self.log = RaftLog(
      base: EntryID(index: log.snapshotIndex, term: log.snapshotTerm), entries: log.entries, commit: recovered.commit,
      applied: applied ?? log.snapshotIndex)
    precondition(
      recovered.term >= self.log.last.term,
      "the log reaches term \(self.log.last.term) but the recorded term is \(recovered.term): the vote is lost")
    term = recovered.term
    vote = recovered.vote
    recorded = recovered
    state = .follower(Following())
    generator = SeededGenerator(seed: configuration.seed ^ (configuration.id &* 0x9e37_79b9_7f4a_7c15))
    electionDeadline = now
    resetElectionDeadline(now)
  }

  // MARK: What the shell asks

  package var role: Role {
    switch state {
    case .follower(let following): .follower(leader: following.leader)
    case .preCandidate: .preCandidate
    case .candidate: .candidate
    case .leader: .leader
    }
  }

  /// The leader of this term, if known.
  package var leader: NodeID? {
    switch state {
    case .follower(let following): following.leader
    case .preCandidate, .candidate: nil
    case .leader: configuration.id
    }
  }

  package var commitIndex: LogIndex { log.commitIndex }
  package var lastIndex: LogIndex { log.lastIndex }
  /// The first entry still held in memory, or the one to come when none is.
  package var firstIndex: LogIndex { log.base.index + 1 }
  /// Everything up to here is durable on this member.
  package var durableIndex: LogIndex { log.durableIndex }
  package var appliedIndex: LogIndex { log.appliedIndex }
  /// Weight of the entries accepted and not yet handed out as committed.
  package var backlogBytes: Int { log.backlogBytes }
  /// The term of an entry, nil when it is not held.
  package func term(at index: LogIndex) -> Term? { log.term(at: index) }

  /// The leader has committed an entry of its own term: reads need not wait for it.
  package var hasCommittedInTerm: Bool {
    guard case .leader(let leadership) = state else { return false }
    return log.commitIndex >= leadership.firstIndex
  }

  /// When a `.tick` is due; `Instant.never` when nothing is.
  package var nextDeadline: Instant {
    if case .leader(let leadership) = state {
      if leadership.peers.isEmpty { return .never }
      return configuration.checkQuorum
        ? min(leadership.heartbeatDeadline, leadership.quorumDeadline) : leadership.heartbeatDeadline
    }
    return electionDeadline
  }

  // MARK: Step

  package mutating func step(_ event: Event, at now: Instant, into output: inout Output) {
    // A sole voter waits for nobody.
    if isSoleVoter, !state.isLeader { campaign(at: now, into: &output) }
    switch event {
    case .tick: tick(at: now, into: &output)
    case .received(let message): receive(message, at: now, into: &output)
    case .propose(let payloads): propose(payloads, into: &output)
    case .readIndex(let context): readIndex(context, into: &output)
    case .persisted(let index, let term):
      if log.markDurable(EntryID(index: index, term: term)) { advanceCommit(into: &output) }
    case .applied(let index):
      log.markApplied(index)
      if isSoleVoter { log.compact(through: index) }
    case .compact(let index): log.compact(through: index)
    }
    log.deliver(into: &output.commit)
    recordHardState(into: &output)
  }

  private mutating func tick(at now: Instant, into output: inout Output) {
    if state.isLeader {
      leaderTick(at: now, into: &output)
    } else if now >= electionDeadline, configuration.isVoter {
      startElection(at: now, into: &output)
    }
  }

  /// Term and vote are handed out when they change; a commit index that moved rides along with entries, which are
  /// synced anyway. What was delivered was durable before, which is what `HardState.commit` promises.
  private mutating func recordHardState(into output: inout Output) {
    let isChanged = term != recorded.term || vote != recorded.vote
    let rides = !output.persist.entries.isEmpty && log.deliveredIndex > recorded.commit
    guard isChanged || rides else { return }
    recorded = HardState(term: term, vote: vote, commit: log.deliveredIndex)
    output.persist.hardState = recorded
  }

  // MARK: Shared by all roles

  /// Somewhere between one and two election time-outs from now, so that members seldom campaign together (thesis §3.4).
  mutating func resetElectionDeadline(_ now: Instant) {
    guard configuration.isVoter else {
      electionDeadline = .never
      return
    }
    if isSoleVoter {
      electionDeadline = now
      return
    }
    let extra = Int64.random(in: 0..<configuration.electionTimeout, using: &generator)
    electionDeadline = now.advanced(byMilliseconds: configuration.electionTimeout + extra)
  }

  /// Enters `newTerm` (or stays in it) without leading it. `leader` is nil when not known.
  mutating func becomeFollower(term newTerm: Term, leader: NodeID?, at now: Instant, into output: inout Output) {
    if newTerm > term {
      term = newTerm
      vote = 0
    }
    if case .leader(let leadership) = state { output.refusedReads += leadership.reads.contexts }
    // A follower that only learns of a term keeps its patience: only a leader or a granted vote renews it.
    let wasFollower = state.isFollower
    state = .follower(Following(leader: leader, contact: leader == nil ? nil : now))
    if leader != nil || !wasFollower { resetElectionDeadline(now) }
  }

  func message(to peer: NodeID, _ body: Message.Body) -> Message {
    Message(from: configuration.id, to: peer, term: term, body: body)
  }

  /// Holds a message until this term and vote are durable, and `entry` if given.
  func hold(_ message: Message, entry: EntryID?, into output: inout Output) {
    let entry = entry.flatMap { $0.index == 0 ? nil : $0 }
    output.sendAfterPersist.append(
      HeldMessage(message: message, waitsFor: Durability(term: term, vote: vote, entry: entry)))
  }
}
