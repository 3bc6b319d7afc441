import Primitives
import Raft
import Testing

/// A member that has been found unfit to lead.
struct AbstentionTests {
  private func member(abstains: Bool) -> RaftCore {
    var core = RaftCore(
      configuration: Configuration(id: 1, maxBacklogBytes: 1_000), membership: Membership(voters: [1, 2, 3]),
      recovered: HardState(term: 1, vote: 0, commit: 0), log: (snapshotIndex: 1, snapshotTerm: 1, entries: []),
      now: Instant(milliseconds: 0))
    core.abstains = abstains
    return core
  }

  @Test(arguments: [false, true])
  func losesPatienceWithoutCampaigning(abstains: Bool) {
    var core = member(abstains: abstains)
    var output = Output()
    core.step(.tick, at: Instant(milliseconds: 1_000_000), into: &output)
    #expect((core.role == .follower(leader: nil)) == abstains)
    #expect(output.sendNow.isEmpty == abstains)
  }

  @Test(arguments: [false, true])
  func refusesALeadershipThatIsHandedToIt(abstains: Bool) {
    var core = member(abstains: abstains)
    var output = Output()
    core.step(
      .received(Message(from: 2, to: 1, term: 1, body: .timeoutNow)), at: Instant(milliseconds: 1), into: &output)
    #expect((core.role == .candidate) == !abstains)
    #expect(core.term == (abstains ? 1 : 2))
  }

  @Test func stillVotesForOthers() {
    var core = member(abstains: true)
    var output = Output()
    let request = VoteRequest(isPreVote: false, last: EntryID(index: 1, term: 1))
    core.step(
      .received(Message(from: 2, to: 1, term: 2, body: .voteRequest(request))), at: Instant(milliseconds: 1),
      into: &output)
    let answers = output.sendAfterPersist.map(\.message.body)
    #expect(answers == [.voteResponse(VoteResponse(isPreVote: false, isGranted: true))])
  }
}
