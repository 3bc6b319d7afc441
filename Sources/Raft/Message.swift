/// One message between members. `term` is the sender's, except in a pre-vote, where it is the term that the sender
/// would like to enter (and in its grant, which repeats it).
///
/// `.snapshot` is made by the shell, which moves the state itself: the leader asks for it in `Output.sendSnapshot`, and
/// the receiver's shell delivers the message, in the leader's name and term of then, when the state is at hand.
package struct Message: Hashable, Sendable {
  package enum Body: Hashable, Sendable {
    case voteRequest(VoteRequest)
    case voteResponse(VoteResponse)
    case appendRequest(AppendRequest)
    case appendResponse(AppendResponse)
    case heartbeat(Heartbeat)
    case heartbeatResponse(HeartbeatResponse)
    /// The leader wants the receiver to campaign at once, in its place (thesis §3.10).
    case timeoutNow
    case snapshot(SnapshotMark)
    /// A follower asks the leader for a read index (thesis §6.4); `context` names the request and means nothing else.
    case readRequest(context: UInt64)
    case readResponse(context: UInt64, index: LogIndex)
    /// The receiver does not lead, or no longer does.
    case readRefused(context: UInt64)
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
  /// The leader itself wants to be succeeded: its living is no reason to refuse (thesis §4.2.3, last paragraph).
  package var isTransfer: Bool

  package init(isPreVote: Bool, last: EntryID, isTransfer: Bool = false) {
    self.isPreVote = isPreVote
    self.last = last
    self.isTransfer = isTransfer
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

/// Names a state: that after all entries up to `last`, with the membership of then.
package struct SnapshotMark: Hashable, Sendable {
  package var last: EntryID
  package var membership: Membership

  package init(last: EntryID, membership: Membership) {
    self.last = last
    self.membership = membership
  }
}
