import Primitives
import Raft
import Testing

/// What the node's loop relies on with one member.
struct SoleVoterTests {
  private func fresh(recovered: HardState = HardState(), entries: [Entry] = []) -> RaftCore {
    RaftCore(
      configuration: Configuration(id: 1, maxBacklogBytes: 1_000), membership: Membership(voters: [1]),
      recovered: recovered, log: (snapshotIndex: 0, snapshotTerm: 0, entries: entries), now: Instant(milliseconds: 0))
  }

  @Test func leadsAfterTheFirstStepAndCommitsWhenDurable() {
    var core = fresh()
    #expect(core.nextDeadline == Instant(milliseconds: 0))
    var output = Output()
    core.step(.tick, at: Instant(milliseconds: 0), into: &output)
    #expect(core.role == .leader)
    #expect(core.nextDeadline == .never)
    #expect(output.persist.hardState == HardState(term: 1, vote: 1, commit: 0))
    #expect(output.persist.entries == [Entry(index: 1, term: 1, payload: .empty)])
    #expect(output.commit.isEmpty)

    output.reset()
    core.step(.propose([[1], [2]]), at: Instant(milliseconds: 0), into: &output)
    #expect(output.accepted?.firstIndex == 2 && output.accepted?.term == 1)
    core.step(.readIndex(context: 7), at: Instant(milliseconds: 0), into: &output)
    #expect(output.readStates.isEmpty, "a read waits for the first commit of the term")

    output.reset()
    core.step(.persisted(index: 1, term: 1), at: Instant(milliseconds: 0), into: &output)
    #expect(output.commit.map(\.index) == [1])
    #expect(output.readStates.map(\.index) == [1])
    core.step(.persisted(index: 3, term: 1), at: Instant(milliseconds: 0), into: &output)
    #expect(output.commit.map(\.index) == [1, 2, 3])
    core.step(.readIndex(context: 8), at: Instant(milliseconds: 0), into: &output)
    #expect(output.readStates.last?.context == 8 && output.readStates.last?.index == 3)
    #expect(output.sendNow.isEmpty && output.sendAfterPersist.isEmpty)
  }

  @Test func appliedEntriesAreForgotten() {
    var core = fresh()
    var output = Output()
    core.step(.propose([[1], [2]]), at: Instant(milliseconds: 0), into: &output)
    core.step(.persisted(index: 3, term: 1), at: Instant(milliseconds: 0), into: &output)
    core.step(.applied(2), at: Instant(milliseconds: 0), into: &output)
    #expect(core.firstIndex == 3 && core.lastIndex == 3)
    core.step(.persisted(index: 2, term: 1), at: Instant(milliseconds: 0), into: &output)
    core.step(.applied(3), at: Instant(milliseconds: 0), into: &output)
    #expect(core.firstIndex == 4 && core.lastIndex == 3 && core.term(at: 3) == 1)
    #expect(output.commit.map(\.index) == [1, 2, 3])
  }

  @Test func proposalsOverTheBacklogAreRefusedUntilItDrains() {
    var core = fresh()
    var output = Output()
    core.step(.propose([[UInt8](repeating: 0, count: 900)]), at: Instant(milliseconds: 0), into: &output)
    #expect(output.accepted?.firstIndex == 2)
    core.step(.propose([[UInt8](repeating: 0, count: 100)]), at: Instant(milliseconds: 0), into: &output)
    #expect(output.accepted == nil && core.lastIndex == 2)
    core.step(.persisted(index: 2, term: 1), at: Instant(milliseconds: 0), into: &output)
    #expect(core.backlogBytes == 0)
    core.step(.propose([[UInt8](repeating: 0, count: 5_000)]), at: Instant(milliseconds: 0), into: &output)
    #expect(output.accepted?.firstIndex == 3, "without a backlog nothing is too large")
  }

  @Test func restartCommitsWhatWasWritten() {
    let entries = (1...4).map { Entry(index: $0, term: 3, payload: .command([UInt8($0)])) }
    var core = fresh(recovered: HardState(term: 3, vote: 1, commit: 2), entries: entries)
    var output = Output()
    core.step(.tick, at: Instant(milliseconds: 0), into: &output)
    #expect(core.term == 4)
    #expect(output.commit.map(\.index) == [1, 2], "what is known to be committed needs no election")
    core.step(.persisted(index: 5, term: 4), at: Instant(milliseconds: 0), into: &output)
    #expect(output.commit.map(\.index) == [1, 2, 3, 4, 5])
  }
}
