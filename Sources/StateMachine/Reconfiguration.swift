/// Why a change of members would put the cluster at risk as things stand, although it makes sense in itself.
package enum ReconfigurationRefusal: Error, Hashable, Sendable {
  case notEnoughStartedMembers
  case unhealthy
  /// The learner lacks too much of the log to vote.
  case learnerNotReady
}

// etcd's `--strict-reconfig-check`: whoever is asked for a change looks whether a quorum is left for certain, before it
// proposes anything.

extension ClusterState {
  private var voters: [ClusterMember] { members.filter { !$0.isLearner } }

  /// - Parameters:
  ///   - own: the member that is asked.
  ///   - reachable: those that it has been connected to for a while; itself or not.
  package func strictRefusal(
    of change: MemberChange, own: UInt64, reachable: Set<UInt64>
  ) -> ReconfigurationRefusal? {
    switch change {
    case .add(let member): member.isLearner ? nil : refusalOfVoter(reachable: reachable.union([own]))
    case .remove(let id): refusalOfRemoval(id, reachable: reachable.union([own]))
    case .promote: hasQuorum(started: startedVoters + 1, of: voters.count + 1) ? nil : .notEnoughStartedMembers
    case .update, .publish: nil
    }
  }

  /// etcd's `isLearnerReady`: nine tenths of the leader's log.
  package static func isReadyToVote(learnerMatch: UInt64, leaderMatch: UInt64) -> Bool {
    learnerMatch >= leaderMatch - leaderMatch / 10
  }

  private var startedVoters: Int { voters.count(where: \.hasStarted) }

  private func hasQuorum(started: Int, of count: Int) -> Bool { started >= count / 2 + 1 }

  /// The second of two members is let in: without it, a cluster of one could never grow.
  private func refusalOfVoter(reachable: Set<UInt64>) -> ReconfigurationRefusal? {
    let isFirstOfOne = voters.count == 1 && startedVoters == 1
    guard isFirstOfOne || hasQuorum(started: startedVoters, of: voters.count + 1) else {
      return .notEnoughStartedMembers
    }
    // One that was added a moment ago counts as reachable until it has been silent for a while.
    return voters.allSatisfy { $0.hasStarted && reachable.contains($0.id) } ? nil : .unhealthy
  }

  /// One that is no member, cannot be reached anyhow, or does not vote costs nothing. The last voter cannot be removed: nobody would be
  /// left to agree.
  private func refusalOfRemoval(_ id: UInt64, reachable: Set<UInt64>) -> ReconfigurationRefusal? {
    if let member = member(id), member.isLearner { return nil }
    let others = voters.filter { $0.id != id }
    guard !others.isEmpty, hasQuorum(started: others.count(where: \.hasStarted), of: others.count) else {
      return .notEnoughStartedMembers
    }
    guard others.count < voters.count, reachable.contains(id) else { return nil }
    let left = voters.count { reachable.contains($0.id) } - 1
    return left < 1 + (voters.count - 1) / 2 ? .unhealthy : nil
  }
}
