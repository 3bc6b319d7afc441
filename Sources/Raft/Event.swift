/// What happens to a member. The shell hands events over one at a time, each with the time.
package enum Event: Sendable {
  /// Time has passed. Due when `RaftCore.nextDeadline` has come; harmless at any other time.
  case tick
  case received(Message)
  /// Payloads to append, in order, one entry each, all or none. `Output.accepted` stays nil when they are refused: not
  /// the leader, a transfer of leadership under way, or the backlog full.
  case propose([[UInt8]])
  /// Changes the group to `target`, which must not be joint (thesis §4): in one entry when at most one voter comes or
  /// goes, else by a joint membership which the leader leaves of its own accord. `command` goes into the first entry,
  /// for the state machine. Answered by `Output.accepted` or `Output.refusedMembership`.
  case proposeMembership(target: Membership, command: [UInt8])
  /// Makes another voter lead (thesis §3.10). `RaftCore.transferTarget` tells whether it is under way; it ends with the
  /// leadership, or is given up after an election time-out.
  case transferLeadership(to: NodeID)
  /// The state up to `index`, asked for by `Output.sendSnapshot`, has been handed over to that peer.
  case snapshotSent(to: NodeID, index: LogIndex)
  /// It has not. The leader asks again once the peer is heard.
  case snapshotFailed(to: NodeID)
  /// The connection to a peer is lost: what is under way may be lost, too.
  case unreachable(NodeID)
  /// Asks for an index which, once applied, makes a read linearizable. All reads that wait share one context; contexts
  /// in flight must differ. A follower asks its leader. Answered in `Output.readStates` or `Output.refusedReads`, possibly steps later.
  case readIndex(context: UInt64)
  /// The disk's completion: every write handed out up to the one that held this entry is durable. Writes become
  /// durable in the order in which they were handed out; completions may be merged (the last one speaks for all).
  case persisted(index: LogIndex, term: Term)
  /// The state machine has applied every entry up to here. A member without others forgets them at once: nobody will ask for
  /// them.
  case applied(LogIndex)
  /// A durable snapshot covers every entry up to here (at most the applied index): forget them. With peers, leave a
  /// tail in the log for those that lag a little, and do not pass the index of a snapshot that is being sent.
  case compact(through: LogIndex)
}
