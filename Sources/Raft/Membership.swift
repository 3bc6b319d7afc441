/// Who belongs to the group, and as what (thesis §4). A membership is in force for a member as soon as its entry is in
/// that member's log, committed or not (§4.1), and no longer once the entry is truncated.
///
/// While `outgoing` is not empty the membership is joint (§4.3): every decision needs a majority of `voters` and a
/// majority of `outgoing`. The arrays ascend and name nobody twice.
package struct Membership: Hashable, Sendable {
  package private(set) var voters: [NodeID]
  /// The voters before the change under way; empty when none is.
  package private(set) var outgoing: [NodeID]
  /// Receive the log and count for nothing (§4.2.1).
  package private(set) var learners: [NodeID]
  /// Voters of `outgoing` that become learners when the joint membership is left.
  package private(set) var learnersNext: [NodeID]

  package init(voters: [NodeID], outgoing: [NodeID] = [], learners: [NodeID] = [], learnersNext: [NodeID] = []) {
    self.voters = voters.sorted()
    self.outgoing = outgoing.sorted()
    self.learners = learners.sorted()
    self.learnersNext = learnersNext.sorted()
  }

  /// Takes the arrays as they are; `fault` tells whether they ascend.
  init(ascendingVoters voters: [NodeID], outgoing: [NodeID], learners: [NodeID], learnersNext: [NodeID]) {
    self.voters = voters
    self.outgoing = outgoing
    self.learners = learners
    self.learnersNext = learnersNext
  }

  /// Of a member that has not been told anything yet.
  package static let empty = Membership(voters: [])

  package var isEmpty: Bool { voters.isEmpty }

  package var isJoint: Bool { !outgoing.isEmpty }

  /// Whether this member's voice counts for any decision.
  package func isVoter(_ id: NodeID) -> Bool { voters.contains(id) || outgoing.contains(id) }

  package func isLearner(_ id: NodeID) -> Bool { learners.contains(id) }

  package func contains(_ id: NodeID) -> Bool { isVoter(id) || isLearner(id) }

  /// Everybody, ascending.
  package var members: [NodeID] { Set(voters).union(outgoing).union(learners).sorted() }

  /// What it adds to the weight of its entry.
  var weightBytes: Int {
    MemoryLayout<NodeID>.size * (voters.count + outgoing.count + learners.count + learnersNext.count) + 5
  }

  /// Why this can be no membership; nil when it can.
  package var fault: String? {
    for (name, ids) in [
      ("voters", voters), ("outgoing voters", outgoing), ("learners", learners), ("coming learners", learnersNext),
    ] {
      if ids.first == 0 { return "a member with id 0 among the \(name)" }
      if zip(ids, ids.dropFirst()).contains(where: { $0 >= $1 }) { return "\(name) that do not ascend" }
    }
    if voters.isEmpty, !outgoing.isEmpty || !learners.isEmpty { return "members without a voter" }
    if learners.contains(where: isVoter) { return "a learner that votes" }
    if learnersNext.contains(where: { !outgoing.contains($0) || voters.contains($0) }) {
      return "a coming learner that is not an outgoing voter"
    }
    return nil
  }

  /// Whether a change may ask for this.
  package var isTarget: Bool { fault == nil && !isEmpty && !isJoint }

  /// The next membership on the way to `target`: `target` itself when at most one voter comes or goes, as any two
  /// majorities then share a voter (thesis §4.1); a joint one otherwise (§4.3). Learners come and go freely.
  package func step(to target: Membership) -> Membership {
    if Set(voters).symmetricDifference(target.voters).count <= 1 { return target }
    return Membership(
      voters: target.voters, outgoing: voters, learners: target.learners.filter { !voters.contains($0) },
      learnersNext: target.learners.filter(voters.contains))
  }

  /// What follows a joint membership.
  package var leftJoint: Membership { Membership(voters: voters, learners: learners + learnersNext) }
}
