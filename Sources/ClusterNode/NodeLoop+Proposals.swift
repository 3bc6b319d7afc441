import Primitives
import Raft
import StateMachine

// From a caller's commands to an entry of the log.

extension NodeLoop {
  func propose(_ proposals: [Proposal], at now: MonotonicTime, _ output: inout Output) {
    guard !proposals.isEmpty else { return }
    guard clock.isRunning else {
      // Without a leader, or before this one is ready, they wait: the caller's own deadline bounds it.
      if raft.isLeader || raft.leader == nil {
        waiting = proposals
      } else {
        for proposal in proposals { refuse(proposal, .notLeader) }
      }
      return
    }
    if writer.load.isFull {
      holdBack(proposals)
      return
    }
    var start = 0
    while start < proposals.count {
      var end = start
      var bytes = 0
      while end < proposals.count, end == start || bytes + proposals[end].bytes <= Limits.maxEntryBytes {
        bytes += proposals[end].bytes
        end += 1
      }
      append(proposals[start..<end], at: now, &output)
      start = end
    }
  }

  /// Memory holds all that it may until the engine has committed. They wait for that, and the backlog's limit refuses
  /// what comes behind them; unless the disk has no room, which may last.
  private func holdBack(_ proposals: [Proposal]) {
    if writer.load.isBlocked {
      for proposal in proposals { refuse(proposal, .tooManyRequests) }
    } else {
      waiting = proposals
    }
  }

  private func append(_ proposals: ArraySlice<Proposal>, at now: MonotonicTime, _ output: inout Output) {
    var batch = CommandBatch(clock: clock.read(at: now), commands: [])
    for proposal in proposals { batch.commands.append(contentsOf: proposal.commands) }
    if submit(batch, proposals.map { (waiter: $0.waiter, commandCount: $0.commands.count) }, at: now, &output) {
      backlog.release(count: proposals.count, bytes: proposals.reduce(0) { $0 + $1.bytes })
    } else {
      for proposal in proposals { refuse(proposal, raft.isLeader ? .tooManyRequests : .notLeader) }
    }
  }

  func submit(
    _ batch: CommandBatch, _ proposals: [(waiter: Waiter?, commandCount: Int)], at now: MonotonicTime,
    _ output: inout Output
  ) -> Bool {
    output.accepted = nil
    step(.propose([batch.encoded()]), at: now, &output)
    guard let (index, term) = output.accepted else { return false }
    inFlight[index] = InFlight(term: term, batch: batch, proposals: proposals)
    inFlightCount += proposals.count
    lastStampAt = now
    return true
  }

  func refuse(_ proposal: Proposal, _ error: ProposalError) {
    backlog.release(count: 1, bytes: proposal.bytes)
    completions.add(proposal.waiter, .failure(error))
  }
}
