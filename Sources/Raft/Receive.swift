extension RaftCore {
  /// Compares terms (thesis §3.3) and hands the message to its kind's file.
  mutating func receive(_ message: Message, at now: Instant, into output: inout Output) {
    guard message.to == configuration.id, message.from != configuration.id, message.from != 0 else { return }
    // Nobody must learn of a term that this member may yet forget, and lead again.
    if case .leader(let leadership) = state, leadership.isUnheard, message.term <= term { return }
    if message.term > term, !adopts(message, at: now, into: &output) { return }
    if message.term < term {
      answerStale(message, into: &output)
      return
    }
    switch message.body {
    case .voteRequest(let request): handle(request, message, at: now, into: &output)
    case .voteResponse(let response): handle(response, message, at: now, into: &output)
    case .appendRequest(let request): handle(request, from: message.from, at: now, into: &output)
    case .appendResponse(let response): handle(response, from: message.from, at: now, into: &output)
    case .heartbeat(let heartbeat): handle(heartbeat, from: message.from, at: now, into: &output)
    case .heartbeatResponse(let response): handle(response, from: message.from, at: now, into: &output)
    case .timeoutNow: succeed(message.from, at: now, into: &output)
    case .snapshot(let mark): handle(mark, from: message.from, at: now, into: &output)
    case .readRequest(let context): readIndex(context, for: message.from, at: now, into: &output)
    case .readResponse(let context, let index): finishReads(context, index: index, at: now, into: &output)
    case .readRefused(let context): finishReads(context, index: nil, at: now, into: &output)
    }
  }

  /// A later term is entered, unless the message is only about a term that might come, or asks to vote away a leader
  /// that lives. False: the message goes no further.
  private mutating func adopts(_ message: Message, at now: Instant, into output: inout Output) -> Bool {
    switch message.body {
    case .voteRequest(let request) where request.isPreVote:
      return true
    case .voteResponse(let response) where response.isPreVote && response.isGranted:
      return true
    case .voteRequest(let request):
      if configuration.checkQuorum, !request.isTransfer, hearsLeader(at: now) { return false }
      becomeFollower(term: message.term, leader: nil, at: now, into: &output)
    case .appendRequest, .heartbeat, .snapshot, .timeoutNow, .readResponse:
      becomeFollower(term: message.term, leader: message.from, at: now, into: &output)
    case .voteResponse, .appendResponse, .heartbeatResponse, .readRequest, .readRefused:
      becomeFollower(term: message.term, leader: nil, at: now, into: &output)
    }
    return true
  }

  /// Whoever lives in the past is told the present; answers from the past mean nothing.
  private mutating func answerStale(_ stale: Message, into output: inout Output) {
    switch stale.body {
    case .voteRequest(let request):
      let answer = VoteResponse(isPreVote: request.isPreVote, isGranted: false)
      output.sendNow.append(message(to: stale.from, .voteResponse(answer)))
    case .appendRequest(let request):
      let answer = AppendResponse.mismatch(rejected: request.previous.index, hint: log.last)
      output.sendNow.append(message(to: stale.from, .appendResponse(answer)))
    case .heartbeat:
      output.sendNow.append(message(to: stale.from, .heartbeatResponse(HeartbeatResponse(readRound: 0))))
    case .snapshot(let mark):
      let answer = AppendResponse.mismatch(rejected: mark.last.index, hint: log.last)
      output.sendNow.append(message(to: stale.from, .appendResponse(answer)))
    case .readRequest(let context):
      output.sendNow.append(message(to: stale.from, .readRefused(context: context)))
    case .voteResponse, .appendResponse, .heartbeatResponse, .timeoutNow, .readResponse, .readRefused:
      break
    }
  }
}
