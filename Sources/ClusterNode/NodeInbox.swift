import NIOCore
import Primitives
import Raft
import StateMachine
import Storage
import Synchronization

/// What reaches the raft thread from elsewhere.
enum NodeEvent: Sendable {
  case proposal(Proposal)
  case readBarrier(eventLoop: any EventLoop, completion: @Sendable (Result<Void, ProposalError>) -> Void)
  case persisted(index: LogIndex, term: Term)
  /// The engine has stored the state up to this entry.
  case engineCommitted(LogBase)
  /// The disk has no room for the engine.
  case engineBlocked
  /// Somebody was refused for want of space: raise the alarm.
  case quotaExceeded
  case stop(@Sendable () -> Void)
}

/// One caller's commands on their way to the log.
struct Proposal: Sendable {
  var commands: [Command]
  /// About what they weigh in the log.
  var bytes: Int
  var waiter: Waiter
}

/// Bounds what waits for the log, so that overload is answered at once ("too many requests") and not with memory.
final class ProposalBacklog: Sendable {
  private struct Load {
    var count = 0
    var bytes = 0
    var stopped = false
  }

  private let load = Mutex(Load())

  /// Nil when there is room, which is then taken.
  func refusal(bytes: Int) -> ProposalError? {
    load.withLock { load in
      if load.stopped { return .stopped }
      if load.count >= Limits.maxProposalBacklog || load.bytes + bytes > Limits.maxProposalBacklogBytes {
        return .tooManyRequests
      }
      load.count += 1
      load.bytes += bytes
      return nil
    }
  }

  func release(count: Int, bytes: Int) {
    load.withLock { load in
      load.count -= count
      load.bytes -= bytes
    }
  }

  var count: Int { load.withLock { $0.count } }

  func stop() { load.withLock { $0.stopped = true } }
}
