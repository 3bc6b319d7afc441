/// What happens to a member. The shell hands events over one at a time, each with the time.
package enum Event: Sendable {
  /// Time has passed. Due when `RaftCore.nextDeadline` has come; harmless at any other time.
  case tick
  case received(Message)
  /// Payloads to append, in order, one entry each, all or none. `Output.accepted` stays nil when they are refused: not
  /// the leader, or the backlog is full.
  case propose([[UInt8]])
  /// Asks for an index which, once applied, makes a read linearizable. All reads that wait share one context; contexts
  /// in flight must differ. Answered in `Output.readStates` or `Output.refusedReads`, possibly steps later.
  case readIndex(context: UInt64)
  /// The disk's completion: every write handed out up to the one that held this entry is durable. Writes become
  /// durable in the order in which they were handed out; completions may be merged (the last one speaks for all).
  case persisted(index: LogIndex, term: Term)
  /// The state machine has applied every entry up to here. A sole voter forgets them at once: nobody will ask for them.
  case applied(LogIndex)
  /// A durable snapshot covers every entry up to here (at most the applied index): forget them. With peers, leave a
  /// tail in the log for those that lag a little.
  case compact(through: LogIndex)
}
