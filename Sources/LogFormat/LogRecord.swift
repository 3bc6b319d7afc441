/// One entry of the replicated log: bytes with an index and a term.
package struct LogRecord: Hashable, Sendable {
  package var index: UInt64
  package var term: UInt64
  /// Opaque, with a kind the upper layer gives (0 = empty entry, 1 = command batch …).
  package var kind: UInt8
  package var payload: [UInt8]

  package init(index: UInt64, term: UInt64, kind: UInt8, payload: [UInt8]) {
    self.index = index
    self.term = term
    self.kind = kind
    self.payload = payload
  }

  /// Bytes that this record takes in a segment.
  package var encodedBytes: Int { LogLayout.recordHeadBytes + LogLayout.entryHeadBytes + payload.count }
}

/// Raft's hard state (thesis §3.8, figure 3.1; the commit index is kept to shorten recovery).
package struct PersistentVote: Hashable, Sendable {
  package var term: UInt64
  package var vote: UInt64
  package var commit: UInt64

  package init(term: UInt64 = 0, vote: UInt64 = 0, commit: UInt64 = 0) {
    self.term = term
    self.vote = vote
    self.commit = commit
  }

  package static let none = PersistentVote()
}

/// The entry up to which the state is durable outside of the log.
package struct LogBase: Hashable, Sendable {
  package var index: UInt64
  package var term: UInt64

  package init(index: UInt64, term: UInt64) {
    self.index = index
    self.term = term
  }

  /// Of an empty state.
  package static let none = LogBase(index: 0, term: 0)

  /// Of the state that every member of a new cluster begins with, before there is any log.
  package static let genesis = LogBase(index: 1, term: 1)
}

/// A record as the scanner finds it; an entry's payload stays where it is, as a range of the segment's bytes.
package enum ScannedRecord: Hashable, Sendable {
  case entry(index: UInt64, term: UInt64, kind: UInt8, payload: Range<Int>)
  case vote(PersistentVote)
  /// The state up to this entry is durable elsewhere. When the log did not contain that entry, it restarts behind it:
  /// all entries before this record are void.
  case base(LogBase, restartsLog: Bool)
}
