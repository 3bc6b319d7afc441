import StateMachine
import Testing

@Suite("The strict check of changes of members")
struct ReconfigurationTests {
  /// - Parameter names: of members 1, 2, …; `-` has not started, a name with `~` is a learner.
  private static func cluster(_ names: String...) -> ClusterState {
    let members = names.enumerated().map { number, name in
      ClusterMember(
        id: UInt64(number + 1), name: name.hasPrefix("-") ? "" : name, peerURLs: [], isLearner: name.hasSuffix("~"))
    }
    return ClusterState(id: 1, members: members, membershipBytes: [])
  }

  private static let voter = MemberChange.add(ClusterMember(id: 9, peerURLs: []))
  private static let learner = MemberChange.add(ClusterMember(id: 9, peerURLs: [], isLearner: true))

  private func refusal(
    _ change: MemberChange, of cluster: ClusterState, reachable: Set<UInt64> = [1, 2, 3, 4, 5]
  ) -> ReconfigurationRefusal? {
    cluster.strictRefusal(of: change, own: 1, reachable: reachable)
  }

  @Test("lets a voter in when a quorum of the grown cluster has started and all can be reached")
  func adding() {
    #expect(refusal(Self.voter, of: Self.cluster("a")) == nil, "a cluster of one may grow")
    #expect(refusal(Self.voter, of: Self.cluster("a", "-")) == .notEnoughStartedMembers)
    #expect(refusal(Self.voter, of: Self.cluster("a", "b")) == nil)
    #expect(refusal(Self.voter, of: Self.cluster("a", "b", "-")) == .notEnoughStartedMembers)
    #expect(refusal(Self.voter, of: Self.cluster("a", "b", "-~")) == nil, "a learner does not count")
    #expect(refusal(Self.voter, of: Self.cluster("a", "b", "c"), reachable: [2]) == .unhealthy)
    #expect(refusal(Self.voter, of: Self.cluster("a", "b", "c"), reachable: [2, 3]) == nil)
    #expect(refusal(Self.voter, of: Self.cluster("a", "b", "c", "-")) == .unhealthy, "added a moment ago")
    #expect(refusal(Self.learner, of: Self.cluster("a", "-", "-"), reachable: []) == nil)
  }

  @Test("lets a member go when a quorum is left, and never the last voter")
  func removing() {
    #expect(refusal(.remove(id: 1), of: Self.cluster("a")) == .notEnoughStartedMembers)
    #expect(refusal(.remove(id: 1), of: Self.cluster("a", "b~")) == .notEnoughStartedMembers)
    #expect(refusal(.remove(id: 8), of: Self.cluster("a")) == nil, "that nobody has the ID is found out later")
    #expect(refusal(.remove(id: 2), of: Self.cluster("a", "b~"), reachable: []) == nil)
    #expect(refusal(.remove(id: 3), of: Self.cluster("a", "-", "c")) == .notEnoughStartedMembers)
    #expect(refusal(.remove(id: 2), of: Self.cluster("a", "-", "c")) == nil)
    #expect(refusal(.remove(id: 3), of: Self.cluster("a", "b", "c"), reachable: [2]) == nil, "it is down")
    #expect(refusal(.remove(id: 2), of: Self.cluster("a", "b", "c"), reachable: [2]) == .unhealthy)
    #expect(refusal(.remove(id: 2), of: Self.cluster("a", "b", "c")) == nil)
    #expect(refusal(.remove(id: 2), of: Self.cluster("a", "b")) == nil)
    #expect(refusal(.remove(id: 5), of: Self.cluster("a", "b", "c"), reachable: [5]) == nil, "it was a member")
  }

  @Test("lets a learner vote when a quorum has started, it included, and it has nearly all of the log")
  func promoting() {
    #expect(refusal(.promote(id: 3), of: Self.cluster("a", "b", "c~")) == nil)
    #expect(refusal(.promote(id: 3), of: Self.cluster("-", "-", "c~")) == .notEnoughStartedMembers)
    #expect(ClusterState.isReadyToVote(learnerMatch: 90, leaderMatch: 100))
    #expect(!ClusterState.isReadyToVote(learnerMatch: 89, leaderMatch: 100))
    #expect(ClusterState.isReadyToVote(learnerMatch: 0, leaderMatch: 0))
  }

  @Test("has nothing against what changes no quorum")
  func others() {
    let cluster = Self.cluster("-", "-", "-")
    #expect(refusal(.update(id: 1, peerURLs: []), of: cluster, reachable: []) == nil)
    #expect(refusal(.publish(id: 1, name: "a", clientURLs: []), of: cluster, reachable: []) == nil)
  }
}
