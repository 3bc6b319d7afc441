// Reads asked of a follower (thesis §6.4, last paragraph): it asks its leader for an index. One request is under way at
// a time, in the name of all reads that waited when it was sent, and is repeated when no answer comes: lost messages
// cost time and no memory.

struct ForwardedReads: Sendable {
  /// Share the next request.
  var waiting: [UInt64] = []
  /// Wait for the answer to `request`.
  var inFlight: [UInt64] = []
  /// Names the request. Random, as its answer may come very late, even to a later life of this member.
  var request: UInt64 = 0
  var sentAt = Instant(milliseconds: 0)
}

extension RaftCore {
  mutating func forwardRead(_ context: UInt64, at now: Instant, into output: inout Output) {
    guard case .follower(var following) = state, let leader = following.leader else {
      output.refusedReads.append(context)
      return
    }
    following.reads.waiting.append(context)
    askLeader(leader, for: &following.reads, at: now, into: &output)
    state = .follower(following)
  }

  private mutating func askLeader(
    _ leader: NodeID, for reads: inout ForwardedReads, at now: Instant, into output: inout Output
  ) {
    guard reads.inFlight.isEmpty, !reads.waiting.isEmpty else { return }
    swap(&reads.inFlight, &reads.waiting)
    reads.request = generator.next()
    reads.sentAt = now
    output.sendNow.append(message(to: leader, .readRequest(context: reads.request)))
  }

  /// The leader was heard. If it owes an answer for longer than between two heartbeats, it is asked again.
  mutating func repeatForwardedRead(at now: Instant, into output: inout Output) {
    guard case .follower(var following) = state, let leader = following.leader, !following.reads.inFlight.isEmpty,
      now >= following.reads.sentAt.advanced(byMilliseconds: configuration.heartbeatInterval)
    else { return }
    following.reads.sentAt = now
    output.sendNow.append(message(to: leader, .readRequest(context: following.reads.request)))
    state = .follower(following)
  }

  /// The leader's answer; `index` is nil when it refuses.
  mutating func finishReads(_ request: UInt64, index: LogIndex?, at now: Instant, into output: inout Output) {
    guard case .follower(var following) = state, !following.reads.inFlight.isEmpty,
      following.reads.request == request
    else { return }
    if let index {
      for context in following.reads.inFlight { output.readStates.append((context, index)) }
    } else {
      output.refusedReads += following.reads.inFlight
    }
    following.reads.inFlight = []
    if let leader = following.leader { askLeader(leader, for: &following.reads, at: now, into: &output) }
    state = .follower(following)
  }

  /// Leadership, or the knowledge of a leader, ends: nobody will answer the reads that wait.
  mutating func refuseReads(into output: inout Output) {
    switch state {
    case .leader(let leadership):
      for reader in leadership.reads.readers {
        switch reader {
        case .local(let context): output.refusedReads.append(context)
        case .follower(let follower, let context):
          output.sendNow.append(message(to: follower, .readRefused(context: context)))
        }
      }
    case .follower(let following):
      output.refusedReads += following.reads.inFlight + following.reads.waiting
    case .preCandidate, .candidate:
      break
    }
  }
}
