import Member
import PeerProtocol
import Primitives
import Raft
import StateMachine
import Storage
import Synchronization

/// What reaches the raft thread from elsewhere.
enum NodeEvent: Sendable {
  case proposal(CallerProposal)
  /// Readers have gathered in `ReadBarriers`.
  case readBarrier
  case persisted(index: LogIndex, term: Term)
  case received([PeerMessage], from: NodeID)
  /// No connection to that member any more.
  case disconnected(NodeID)
  /// Another member knows that this one has been removed.
  case expelled
  /// Another member's state lies ready to take the place of this one's.
  case snapshotReady(ReceivedState)
  case snapshotSent(to: NodeID, index: LogIndex)
  case snapshotFailed(to: NodeID)
  /// Counted in the backlog as a proposal without bytes.
  /// nil: to whoever is fit for it.
  case transferLeadership(to: NodeID?, Waiter)
  /// The engine has stored the state up to this entry, when the log had this length.
  case engineCommitted(LogBase, logBytes: Int64)
  /// The disk has no room for the engine.
  case engineBlocked
  /// Somebody was refused for want of space: raise the alarm.
  case quotaExceeded
  case stop(@Sendable () -> Void)
}

extension NodeEvent {
  var isReadySnapshot: Bool {
    if case .snapshotReady = self { true } else { false }
  }
}

/// One caller's commands on their way to the log.
struct CallerProposal: Sendable {
  var commands: [Command]
  /// About what they weigh in the log.
  var bytes: Int
  var waiter: Waiter
}

/// Bounds what waits for an answer, so that overload is refused at once ("too many requests") and not with memory.
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
