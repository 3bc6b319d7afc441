import Primitives
import Raft
import StateMachine

// Changes of members: checked against the state, then one at a time through the log (thesis §4.1).
//
// A member that is added as a voter is one in the members' list at once, as in etcd, but Raft counts its voice only when
// it has caught up (thesis §4.2.1): until then it is a learner there. So nobody waits for a member that has not been
// started yet, and adding one costs no quorum.

extension MemberCore {
  /// Leader, ready: starts the change that has waited longest, when none is under way.
  mutating func changeMembers(_ machine: borrowing StateMachine, at now: MonotonicTime) {
    defer { admitCaughtUp(machine.cluster, at: now) }
    while let proposal = memberChanges.first {
      // The state must know all changes before it judges the next one.
      guard raft.isSettled, applied.index >= lastMemberChange else { return }
      memberChanges.removeFirst()
      if case .forwarded(_, let term) = proposal.source, term != raft.term { continue }
      guard case .member(let change) = proposal.commands[0] else { preconditionFailure("no change of members") }
      start(change, proposal, machine, at: now)
    }
  }

  private mutating func start(
    _ change: MemberChange, _ proposal: Proposal, _ machine: borrowing StateMachine, at now: MonotonicTime
  ) {
    if let refusal = strictRefusal(of: change, machine.cluster) { return refuse(proposal, .membership(refusal)) }
    let target = machine.cluster.refusal(of: change) == nil ? raft.membership.after(change) : nil
    var batch = CommandBatch(clock: clock.read(at: now), commands: proposal.commands)
    var part = Flight.Part(source: proposal.source, commandCount: 1, deadline: proposal.deadline)
    if case .forwarded(let origin, _) = proposal.source {
      batch.origins = [ForwardedPart(origin: origin, commandCount: 1)]
      part.source = nil
    }
    // What the state refuses, or what changes nobody's vote, goes through the log as any other command.
    let event = target.map { Event.proposeMembership(target: $0, command: batch.encoded()) }
    output.raft.accepted = nil
    step(event ?? .propose([batch.encoded()]), at: now)
    guard let (index, term) = output.raft.accepted else {
      return isLeader ? refuse(proposal, .membership(.unhealthy)) : enqueue(proposal)
    }
    lastMemberChange = index
    noteFlight(at: index, Flight(term: term, batch: batch, parts: [part]), at: now)
  }

  // MARK: Whether the cluster could bear it

  private func strictRefusal(of change: MemberChange, _ cluster: ClusterState) -> ReconfigurationRefusal? {
    if case .promote(let id) = change, raft.membership.isLearner(id), !isCaughtUp(id) { return .learnerNotReady }
    guard settings.checksReconfiguration else { return nil }
    let reachable = Set(raft.progress.filter(\.isActive).map(\.id))
    return cluster.strictRefusal(of: change, own: memberID, reachable: reachable)
  }

  /// Lets a voter of the members' list vote that has caught up.
  private mutating func admitCaughtUp(_ cluster: ClusterState, at now: MonotonicTime) {
    guard !raft.membership.learners.isEmpty, raft.isSettled, applied.index >= lastMemberChange else { return }
    let voter = raft.membership.learners.first { cluster.member($0)?.isLearner == false && isCaughtUp($0) }
    guard let voter, let target = raft.membership.after(.promote(id: voter)) else { return }
    output.raft.accepted = nil
    step(.proposeMembership(target: target, command: []), at: now)
    if let (index, _) = output.raft.accepted { lastMemberChange = index }
  }

  private func isCaughtUp(_ learner: NodeID) -> Bool {
    guard let progress = raft.progress.first(where: { $0.id == learner }) else { return false }
    return progress.isActive && ClusterState.isReadyToVote(learnerMatch: progress.match, leaderMatch: raft.lastIndex)
  }

  /// The first learner that could be a voter, when learners are promoted without being asked.
  func promotableLearner(in cluster: ClusterState) -> NodeID? {
    guard settings.promotesLearners, isReady else { return nil }
    return raft.membership.learners.first { cluster.member($0)?.isLearner == true && isCaughtUp($0) }
  }

  // MARK: Handing over the leadership (thesis §3.10)

  mutating func transferLeadership(to target: NodeID, _ ticket: Ticket, at now: MonotonicTime) {
    guard isLeader else { return output.answers.append((ticket, .failure(.notLeader))) }
    guard raft.membership.voters.contains(target) else {
      return output.answers.append((ticket, .failure(.badLeaderTransferee)))
    }
    guard target != memberID else { return output.answers.append((ticket, .success([]))) }
    if let transfer { output.answers.append((transfer.ticket, .failure(.timedOut))) }
    let deadline = now.advanced(byMilliseconds: 3 * settings.electionTimeoutMilliseconds)
    transfer = (target, ticket, deadline)
    step(.transferLeadership(to: target), at: now)
  }

  /// To the voter that has most of the log; nothing is to be done without one.
  mutating func handOver(_ ticket: Ticket, at now: MonotonicTime) {
    guard isLeader, let heir = mostAdvancedVoter else {
      return output.answers.append((ticket, .success([])))
    }
    transferLeadership(to: heir.id, ticket, at: now)
  }

  mutating func settleTransfer(at now: MonotonicTime) {
    guard let current = transfer else { return }
    if raft.leader == current.target {
      output.answers.append((current.ticket, .success([])))
    } else if now >= current.deadline || isLeader && raft.transferTarget == nil {
      // The target has not taken over in time, or cannot.
      output.answers.append((current.ticket, .failure(.timedOut)))
    } else {
      return
    }
    transfer = nil
  }
}

extension RaftCore {
  /// Whether a leader could start a change of members now.
  fileprivate var isSettled: Bool {
    transferTarget == nil && hasCommittedInTerm && !membership.isJoint && membership == committedMembership
  }
}

extension Membership {
  /// The membership that a change wants, which the state has nothing against; nil when nobody's vote changes.
  func after(_ change: MemberChange) -> Membership? {
    switch change {
    case .add(let member): Membership(voters: voters, learners: learners + [member.id])
    case .remove(let id):
      Membership(voters: voters.filter { $0 != id }, learners: learners.filter { $0 != id })
    case .promote(let id):
      Membership(voters: voters + [id], learners: learners.filter { $0 != id })
    case .update, .publish: nil
    }
  }
}
