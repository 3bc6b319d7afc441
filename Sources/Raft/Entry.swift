package struct Entry: Hashable, Sendable {
  package enum Payload: Hashable, Sendable {
    /// The empty entry by which a new leader commits what its predecessors left (thesis §6.4, §3.6.2).
    case empty
    /// A `CommandBatch`, opaque here.
    case command([UInt8])
    /// From here on the group is this one, as soon as the entry is appended (thesis §4.1). The command, opaque here and
    /// possibly empty, is for the state machine.
    case membership(Membership, command: [UInt8])
  }

  package var index: LogIndex
  package var term: Term
  package var payload: Payload

  package init(index: LogIndex, term: Term, payload: Payload) {
    self.index = index
    self.term = term
    self.payload = payload
  }

  /// What the entry weighs in backlogs, windows and messages: its payload and a constant for everything around it,
  /// so that empty entries are not free.
  var weightBytes: Int {
    switch payload {
    case .empty: Entry.overheadBytes
    case .command(let bytes): bytes.count + Entry.overheadBytes
    case .membership(let membership, let command): membership.weightBytes + command.count + Entry.overheadBytes
    }
  }

  static let overheadBytes = 24
}

/// Names one entry. Two logs that hold an entry of the same identity hold the same entry, and the same entries before
/// it (log matching, thesis §3.5).
package struct EntryID: Hashable, Sendable {
  package var index: LogIndex
  package var term: Term

  package init(index: LogIndex, term: Term) {
    self.index = index
    self.term = term
  }
}

/// What a member must remember beside its log.
package struct HardState: Hashable, Sendable {
  package var term: Term
  /// The candidate that got this member's vote in `term`; 0: none yet.
  package var vote: NodeID
  /// A lower bound of the commit index, to save work after a restart. It never names an entry that was not durable
  /// before this record was handed out, so a torn write cannot leave it pointing at an entry that was replaced.
  package var commit: LogIndex

  package init(term: Term = 0, vote: NodeID = 0, commit: LogIndex = 0) {
    self.term = term
    self.vote = vote
    self.commit = commit
  }
}
