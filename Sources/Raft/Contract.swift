import Primitives

/// CONTRACT SKETCH: signatures that the node's loop builds on; the bodies are the author's.

package typealias NodeID = UInt64
package typealias Term = UInt64
package typealias LogIndex = UInt64

/// Milliseconds of this process's monotonic clock. Raft never reads a clock; every event brings the time.
package struct Instant: Hashable, Comparable, Sendable {
  package var milliseconds: Int64
  package init(milliseconds: Int64) { self.milliseconds = milliseconds }
  package static func < (a: Instant, b: Instant) -> Bool { a.milliseconds < b.milliseconds }
}

package struct Entry: Hashable, Sendable {
  package enum Payload: Hashable, Sendable {
    /// The empty entry by which a new leader commits (thesis §6.4).
    case empty
    /// A `CommandBatch`, opaque here.
    case command([UInt8])
    // membership changes: later, in the cluster issue
  }
  package var index: LogIndex
  package var term: Term
  package var payload: Payload
  package init(index: LogIndex, term: Term, payload: Payload) {
    self.index = index
    self.term = term
    self.payload = payload
  }
}

package struct HardState: Hashable, Sendable {
  package var term: Term = 0
  package var vote: NodeID = 0
  package var commit: LogIndex = 0
  package init(term: Term = 0, vote: NodeID = 0, commit: LogIndex = 0) {
    self.term = term
    self.vote = vote
    self.commit = commit
  }
}

package enum Event: Sendable {
  /// Time has passed.
  case tick
  case received(Message)
  /// Payloads to append, in order, one entry each. Refused (see Output.refused) when not leader.
  case propose([[UInt8]])
  /// All reads that wait share one context.
  case readIndex(context: UInt64)
  /// The disk's completion: everything up to this entry, matched on index and term, is durable.
  case persisted(index: LogIndex, term: Term)
  /// The state machine has applied up to here; the log may be compacted up to `snapshotIndex`.
  case applied(LogIndex)
}

/// What one step asks the shell for. Order matters: `persist` goes to the disk; `sendNow` may leave at once (a leader
/// may send appends before its own fsync); each of `sendAfterPersist` leaves when the entry it names is durable.
package struct Output: Sendable {
  package struct Persist: Sendable {
    /// nil when unchanged. Term and vote must be durable before any message of this step that depends on them leaves.
    package var hardState: HardState?
    /// A first index at or below the current last truncates what follows.
    package var entries: [Entry] = []
  }
  package var persist = Persist()
  package var sendNow: [Message] = []
  package var sendAfterPersist: [(Message)] = []
  /// Committed entries, in order, each exactly once.
  package var commit: [Entry] = []
  package var readStates: [(context: UInt64, index: LogIndex)] = []
  package var refusedReads: [UInt64] = []
  /// First index and term given to the proposals of this step; nil: refused (not leader, or over the backlog).
  package var accepted: (firstIndex: LogIndex, term: Term)?
  package init() {}
}

package struct Message: Hashable, Sendable {}
