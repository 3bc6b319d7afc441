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
  var memberships: MembershipHistory
  var standing: Standing
  package internal(set) var term: Term
  /// 0: not voted in this term.
  var vote: NodeID
  var log: RaftLog
  var state: RoleState
  /// When a member that does not lead loses patience.
  var electionDeadline: Instant
  var generator: SeededGenerator
  /// Never campaigns: whoever drives this member has found that it should not lead.
  package var abstains = false
  /// As handed out last.
  private var recorded: HardState

  /// A member as its disk remembers it.
  /// - `membership`: as of the log's base, that is after entry `snapshotIndex`. Empty for a member that is to join.
  /// - `log.entries` start at `snapshotIndex + 1`; all of it is durable.
  /// - `applied`: how far the state machine has come by itself; the snapshot's index if not given. Committed entries
  ///   behind it are handed out anew.
  package init(
    configuration: Configuration, membership: Membership, recovered: HardState,
    log: (snapshotIndex: LogIndex, snapshotTerm: Term, entries: [Entry]), applied: LogIndex? = nil, now: Instant
  ) {
    self.configuration = configuration.checkedBounds()
    self.log = RaftLog(
      base: EntryID(index: log.snapshotIndex, term: log.snapshotTerm), entries: log.entries, commit: recovered.commit,
      applied: applied ?? log.snapshotIndex)
    precondition(
      recovered.term >= self.log.last.term,
      "the log reaches term \(self.log.last.term) but the recorded term is \(recovered.term): the vote is lost")
    if let fault = membership.fault { preconditionFailure("the recovered membership has \(fault)") }
    memberships = MembershipHistory(base: membership)
    for entry in log.entries { _ = memberships.append(entry) }
    standing = Standing(of: configuration.id, in: memberships, commit: self.log.commitIndex)
    term = recovered.term
    vote = recovered.vote
    recorded = recovered
    // A member that has forgotten whom it heard must not break a lease that it may have helped to grant.
    state = .follower(Following(contact: configuration.leaseReads ? now : nil))
    generator = SeededGenerator(seed: configuration.seed ^ (configuration.id &* 0x9e37_79b9_7f4a_7c15))
    electionDeadline = now
    resetElectionDeadline(now)
  }

  // MARK: Step

  package mutating func step(_ event: Event, at now: Instant, into output: inout Output) {
    // A member without others waits for nobody.
    if standing.isAlone, !state.isLeader, now >= electionDeadline { campaign(at: now, into: &output) }
    switch event {
    case .tick: tick(at: now, into: &output)
    case .received(let message): receive(message, at: now, into: &output)
    case .propose(let payloads): propose(payloads, into: &output)
    case .proposeMembership(let target, let command): propose(target, command, at: now, into: &output)
    case .transferLeadership(let target): transfer(to: target, at: now, into: &output)
    case .snapshotSent(let peer, let index): finishSnapshot(to: peer, index: index)
    case .snapshotFailed(let peer): finishSnapshot(to: peer, index: nil)
    case .unreachable(let peer): noteUnreachable(peer)
    case .readIndex(let context): readIndex(context, at: now, into: &output)
    case .persisted(let index, let term): notePersisted(EntryID(index: index, term: term), at: now, into: &output)
    case .applied(let index):
      log.markApplied(index)
      if standing.isAlone { compact(through: index) }
    case .compact(let index): compact(through: index)
    }
    log.deliver(into: &output.commit)
    recordHardState(into: &output)
  }

  private mutating func tick(at now: Instant, into output: inout Output) {
    if state.isLeader {
      leaderTick(at: now, into: &output)
    } else if now >= electionDeadline {
      if mayCampaign {
        startElection(at: now, into: &output)
      } else {
        // It can only stop believing in a leader that is silent.
        becomeFollower(term: term, leader: nil, at: now, into: &output)
        electionDeadline = .never
      }
    }
  }

  private mutating func notePersisted(_ entry: EntryID, at now: Instant, into output: inout Output) {
    guard log.markDurable(entry), state.isLeader else { return }
    if state.leadership.isUnheard, log.durableIndex >= state.leadership.firstIndex {
      state.leadership.isUnheard = false
      replicateToAll(.entries, into: &output)
    }
    advanceCommit(at: now, into: &output)
  }

  private mutating func compact(through index: LogIndex) {
    log.compact(through: index)
    memberships.compact(through: index)
  }

  /// Term and vote are handed out when they change; a commit index that moved rides along with entries, which are
  /// synced anyway. What was delivered was durable before, which is what `HardState.commit` promises. Beside a restart
  /// of the log it is written always, so that there is something to wait for.
  private mutating func recordHardState(into output: inout Output) {
    let isChanged = term != recorded.term || vote != recorded.vote
    let rides = !output.persist.entries.isEmpty && log.deliveredIndex > recorded.commit
    let restarts = output.restore != nil && output.persist.hardState == nil
    guard isChanged || rides || restarts else { return }
    recorded = HardState(term: term, vote: vote, commit: log.deliveredIndex)
    output.persist.hardState = recorded
  }

  // MARK: Shared by all roles

  var mayCampaign: Bool { standing.mayCampaign && !abstains }

  /// Somewhere between one and two election time-outs from now, so that members seldom campaign together (thesis §3.4).
  mutating func resetElectionDeadline(_ now: Instant) {
    if leader == nil, !mayCampaign {
      electionDeadline = .never
      return
    }
    if leader == nil, standing.isSoleCandidate {
      electionDeadline = now
      return
    }
    let extra = Int64.random(in: 0..<configuration.electionTimeout, using: &generator)
    electionDeadline = now.advanced(byMilliseconds: configuration.electionTimeout + extra)
  }

  /// Enters `newTerm` (or stays in it) without leading it. `leader` is nil when not known.
  mutating func becomeFollower(term newTerm: Term, leader: NodeID?, at now: Instant, into output: inout Output) {
    if newTerm == term, leader != nil, case .follower(var following) = state, following.leader == leader {
      following.contact = now
      state = .follower(following)
      resetElectionDeadline(now)
      return
    }
    refuseReads(into: &output)
    if newTerm > term {
      term = newTerm
      vote = 0
    }
    // A follower that only learns of a term keeps its patience: only a leader or a granted vote renews it.
    let wasFollower = state.isFollower
    state = .follower(Following(leader: leader, contact: leader == nil ? state.contact : now))
    if leader != nil || !wasFollower { resetElectionDeadline(now) }
  }

  /// The commit index moves on. True when it did.
  mutating func commit(through index: LogIndex) -> Bool {
    let old = log.commitIndex
    guard log.commit(through: index) else { return false }
    let change = memberships.latestIndex
    if change > old, change <= index { refreshStanding() }
    return true
  }

  /// After the membership in force, or whether it is committed, has changed.
  mutating func refreshStanding() {
    standing = Standing(of: configuration.id, in: memberships, commit: log.commitIndex)
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
