/// One message between members. `term` is the sender's, except in a pre-vote, where it is the term that the sender
/// would like to enter (and in its grant, which repeats it).
package struct Message: Hashable, Sendable {
  package enum Body: Hashable, Sendable {
    case voteRequest(VoteRequest)
    case voteResponse(VoteResponse)
    case appendRequest(AppendRequest)
    case appendResponse(AppendResponse)
    case heartbeat(Heartbeat)
    case heartbeatResponse(HeartbeatResponse)
  }

  package var from: NodeID
  package var to: NodeID
  package var term: Term
  package var body: Body

  package init(from: NodeID, to: NodeID, term: Term, body: Body) {
    self.from = from
    self.to = to
    self.term = term
    self.body = body
  }
}

package struct VoteRequest: Hashable, Sendable {
  /// A pre-vote asks "would you vote for me?" and changes no state (thesis §9.6).
  package var isPreVote: Bool
  /// The last entry of the candidate's log: a voter with a newer log refuses (thesis §3.6.1).
  package var last: EntryID

  package init(isPreVote: Bool, last: EntryID) {
    self.isPreVote = isPreVote
    self.last = last
  }
}

package struct VoteResponse: Hashable, Sendable {
  package var isPreVote: Bool
  package var isGranted: Bool

  package init(isPreVote: Bool, isGranted: Bool) {
    self.isPreVote = isPreVote
    self.isGranted = isGranted
  }
}

package struct AppendRequest: Hashable, Sendable {
  /// The entry just before `entries`; the receiver must hold it (thesis §3.5).
  package var previous: EntryID
  /// Contiguous, the first at `previous.index + 1`; may be empty.
  package var entries: [Entry]
  /// The leader's commit index; may lie beyond `entries`.
  package var commit: LogIndex

  package init(previous: EntryID, entries: [Entry], commit: LogIndex) {
    self.previous = previous
    self.entries = entries
    self.commit = commit
  }
}

package enum AppendResponse: Hashable, Sendable {
  /// Every entry up to here equals the leader's and is durable.
  case matched(LogIndex)
  /// The receiver does not hold `previous` (index `rejected`). `hint` is the newest entry of its log that the leader's
  /// may share: not behind `rejected`, not of a later term than the one refused (thesis §3.5, last paragraph).
  case mismatch(rejected: LogIndex, hint: EntryID)
}

package struct Heartbeat: Hashable, Sendable {
  /// The leader's commit index, as far as it knows the receiver's log to reach.
  package var commit: LogIndex
  /// The newest round of reads that the leader wants confirmed (thesis §6.4); 0: none.
  package var readRound: UInt64

  package init(commit: LogIndex, readRound: UInt64) {
    self.commit = commit
    self.readRound = readRound
  }
}

package struct HeartbeatResponse: Hashable, Sendable {
  /// Repeats the heartbeat's.
  package var readRound: UInt64

  package init(readRound: UInt64) { self.readRound = readRound }
}
