import Keyspace
import Leases
import Member
import NIOCore
import Primitives
import StateMachine
import Storage

// The node as its services use it in process: etcd's gRPC methods and the sidecar's embedded store. `Node` implements it.

package typealias ProposalError = Member.ProposalError

/// Why the members have not been changed.
package enum MembershipError: Error, Hashable, Sendable {
  case proposal(ProposalError)
  case refused(MemberRefusal)
  case unready(ReconfigurationRefusal)
}

package enum TransferError: Error, Hashable, Sendable {
  /// The target is no member, or does not vote.
  case badTransferee
  case notLeader
  /// The target has not taken over in time; this member leads on.
  case tookTooLong
  case stopped
}

package struct NodeStatus: Sendable {
  package var clusterID: UInt64
  package var memberID: UInt64
  package var leaderID: UInt64
  package var name: String
  package var term: UInt64
  package var raftIndex: UInt64
  package var appliedIndex: UInt64
  package var databaseSizeBytes: Int64
  package var databaseInUseBytes: Int64
  /// Of all members, sorted.
  package var alarms: [Alarm]
  package var peerURLs: [String]
  package var clientURLs: [String]
}

package protocol NodeHandle: Sendable {
  var status: NodeStatus { get }

  /// Commits commands as one unit of work (each at its own revision, results in order). `completion` runs on an
  /// internal thread, in the order of the log, together with all others of the batch: hop at once, never block.
  func propose(
    _ commands: [Command], completion: @escaping @Sendable (Result<[CommandResult], ProposalError>) -> Void)

  /// As above, but the completion runs on `eventLoop`; completions of one applied batch share one hop per loop.
  func propose(
    _ commands: [Command], on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<[CommandResult], ProposalError>) -> Void)

  /// Calls back (at once, on the caller's thread, when no round is needed) when the applied state is at least as new as
  /// everything acknowledged before the call: then `read` is linearizable.
  func readBarrier(on eventLoop: any EventLoop, completion: @escaping @Sendable (Result<Void, ProposalError>) -> Void)

  /// As applied here, rising by ID.
  var members: [ClusterMember] { get }

  /// Whether this member is a learner, as applied here. Asked by each request: cheap.
  var isLearner: Bool { get }

  /// Whether this member's state has been found not to be the cluster's. Asked by each request: cheap.
  var isCorrupt: Bool { get }

  /// Users and roles as applied here.
  var auth: AuthGate { get }

  /// Changes the members: refused as by etcd (`--strict-reconfig-check` included), and done when it is committed and
  /// applied here. Answers with all members after it.
  func changeMembership(
    _ change: MemberChange, on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<[ClusterMember], MembershipError>) -> Void)

  /// Has `target` take over the leadership of this member; done when it has.
  func transferLeadership(
    to target: UInt64, on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<Void, TransferError>) -> Void)

  /// Rewrites the stored state without gaps; reads and writes go on meanwhile.
  func defragment(
    on eventLoop: any EventLoop, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void)

  /// Runs `body` on the latest applied state under its lock. Short: page what is large.
  func read<R>(_ body: (borrowing StateMachine) throws -> R) rethrows -> R

  /// The lease clock now, as the leader would stamp it.
  var leaseClock: LeaseClock { get }

  /// A fresh random positive lease ID that is not in use.
  func pickLeaseID() -> LeaseID

  /// Opens a stream of watches whose batches arrive on `eventLoop`. See `WatchSession`.
  func openWatchSession(on eventLoop: any EventLoop, sink: any WatchSink) -> any WatchSession

  var header: (clusterID: UInt64, memberID: UInt64, term: UInt64) { get }
}

/// What one watch asks for.
package struct WatchRequest: Sendable {
  package var id: Int64
  package var range: KeyRange
  /// 0: from now on.
  package var startRevision: Int64
  package var wantsPrevious: Bool
  package var filtersPuts: Bool
  package var filtersDeletes: Bool
  package init(
    id: Int64, range: KeyRange, startRevision: Int64 = 0, wantsPrevious: Bool = false, filtersPuts: Bool = false,
    filtersDeletes: Bool = false
  ) {
    self.id = id
    self.range = range
    self.startRevision = startRevision
    self.wantsPrevious = wantsPrevious
    self.filtersPuts = filtersPuts
    self.filtersDeletes = filtersDeletes
  }
}

/// Takes what a session's watches produce. All calls on the session's event loop, in order.
package protocol WatchSink: AnyObject, Sendable {
  /// Events of whole revisions, ascending; `revision` is the keyspace's when they were read.
  func events(watch id: Int64, _ events: [KeyspaceEvent], revision: Int64)
  /// The start (or the place a slow watch had reached) has been compacted: the watch is over.
  func compacted(watch id: Int64, compactRevision: Int64, revision: Int64)
  /// Answer to `requestProgress`: every watch of the session has been told everything up to `revision`.
  func progress(revision: Int64)
  /// Bytes handed over and not yet taken by the peer: beyond a limit the session hands over no more, and goes on from
  /// history later.
  var pendingBytes: Int { get }

  /// As `events`, with an object that watches of the same range share, so that it need be encoded only once.
  func tell(watch id: Int64, _ events: WatchedEvents)
  /// Keys below `revision` have lost their history: an idle watch that is not told of its progress now may be unable to
  /// resume later. All earlier events have been told to watches that are up to date.
  func compactionBegan(at revision: Int64)
  /// The session has something that there is no room for: `WatchSession.resume` should be called when there is some
  /// (it looks for itself, too, but seldom).
  func notifyWhenDrained()
  /// Whether what is pending counts as one stream of many that share a budget (`Limits.maxWatchBacklogBytesPerLoop`);
  /// otherwise it has `Limits.maxWatchStreamBacklogBytes` for itself.
  var sharesBacklogBudget: Bool { get }
}

extension WatchSink {
  package func tell(watch id: Int64, _ events: WatchedEvents) {
    self.events(watch: id, events.events, revision: events.revision)
  }
  package func compactionBegan(at revision: Int64) {}
  package func notifyWhenDrained() {}
  package var sharesBacklogBudget: Bool { false }
}

/// Event-loop bound.
package protocol WatchSession: AnyObject {
  /// Starts a watch; nothing is missed between `create` and the first event. Returns the revision at which it stands.
  func create(_ request: WatchRequest) -> Int64
  func cancel(_ id: Int64)
  /// Answered by the sink's `progress` once every watch of the session is up to date.
  func requestProgress()
  /// The revision up to which one watch has been told everything; nil while it is behind.
  func toldThrough(_ id: Int64) -> Int64?
  /// The sink has drained: go on with watches that were held back.
  func resume()
  func close()
}
