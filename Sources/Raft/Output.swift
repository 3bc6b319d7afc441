/// What one step asks the shell for. Order matters: `persist` goes to the disk; `sendNow` may leave at once (a leader
/// may send appends before its own fsync, thesis §10.2.1); each of `sendAfterPersist` leaves when what it names is
/// durable. A step appends: several steps may share one output (but one `propose` per output, as `accepted` is one).
package struct Output: Sendable {
  package struct Persist: Sendable {
    /// nil when unchanged. To be written before the entries beside it.
    package var hardState: HardState?
    /// Contiguous. A first index at or below the last index written so far truncates what follows.
    package var entries: [Entry] = []

    package var isEmpty: Bool { hardState == nil && entries.isEmpty }
  }

  /// Not nil: this member's state and log restart behind this entry (thesis §7). To be carried out before `persist` and
  /// `commit`: the log's restart is written before the hard state beside it, and entries handed out for applying in
  /// earlier outputs are dropped. The state must be durable by then, which the shell sees to before it delivers
  /// `.snapshot`. Still nil after such a delivery: the state was not wanted. At most one snapshot per output.
  package var restore: SnapshotMark?
  package var persist = Persist()
  package var sendNow: [Message] = []
  package var sendAfterPersist: [HeldMessage] = []
  /// Committed and locally durable entries, in order, each exactly once.
  package var commit: [Entry] = []
  /// Reads that are linearizable once `index` is applied.
  package var readStates: [(context: UInt64, index: LogIndex)] = []
  /// Reads that cannot be answered: there is no leader, or it stopped leading.
  package var refusedReads: [UInt64] = []
  /// First index and term given to the proposals of this step, or to the change of membership; nil: refused.
  package var accepted: (firstIndex: LogIndex, term: Term)?
  /// Why the change of membership in this step was refused.
  package var refusedMembership: MembershipRefusal?
  /// Peers that the leader wants brought to this member's newest state, as they lack entries that are forgotten here.
  /// Each is named once and gets no entries until `.snapshotSent` or `.snapshotFailed` has come for it.
  package var sendSnapshot: [NodeID] = []

  package init() {}

  /// Empties the output and keeps its memory for the next step.
  package mutating func reset() {
    restore = nil
    persist.hardState = nil
    persist.entries.removeAll(keepingCapacity: true)
    sendNow.removeAll(keepingCapacity: true)
    sendAfterPersist.removeAll(keepingCapacity: true)
    commit.removeAll(keepingCapacity: true)
    readStates.removeAll(keepingCapacity: true)
    refusedReads.removeAll(keepingCapacity: true)
    accepted = nil
    refusedMembership = nil
    sendSnapshot.removeAll(keepingCapacity: true)
  }
}

package enum MembershipRefusal: Hashable, Sendable {
  case notLeader
  /// No entry of the leader's own term is committed yet: a predecessor's change might still be in some log (the erratum
  /// to thesis §4.1).
  case notReady
  /// The last change is not committed, or the joint membership is not left yet.
  case changeUnderWay
  case transferUnderWay
  /// The target is joint, without voters, or contradicts itself.
  case impossibleTarget
}

/// A message that promises something about this member's disk, and what must be there before it may leave.
package struct HeldMessage: Hashable, Sendable {
  package var message: Message
  package var waitsFor: Durability
}

/// What must be durable: this term and vote (or a later term), and, when named, everything up to `entry`.
///
/// What is named was handed out in this step's `persist` or in an earlier one. A shell that writes in order may
/// therefore release a held message as soon as every write handed out up to and including this step is durable.
/// A message whose entry has been truncated meanwhile may still leave: it belongs to an older term.
package struct Durability: Hashable, Sendable {
  package var term: Term
  package var vote: NodeID
  package var entry: EntryID?
}
