import Primitives
import Raft

/// What a leader has told of its lease clock since its last stamp in the log: the next leader goes on from there, so that
/// leases do not live longer by the time since.
///
/// Only the clock of the leader that has stamped last may be taken up. Each leader goes on from what it knows, and counts
/// no time without a leader: another one's clock may be ahead of the one by which leases have been granted since, and
/// going on from it would end them early.
package struct HeardClock: Sendable {
  private var term: Term = 0
  private var clock = LeaseClock.zero

  package init() {}

  package mutating func note(_ told: LeaseClock, term: Term) {
    clock = term == self.term ? max(clock, told) : told
    self.term = term
  }

  /// From where a new leader goes on.
  package func start(behind applied: MemberCore.AppliedMark) -> LeaseClock {
    term >= applied.stampTerm ? max(applied.clock, clock) : applied.clock
  }
}
