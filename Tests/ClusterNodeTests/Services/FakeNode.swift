import ClusterNode
import Keyspace
import Leases
import NIOCore
import Primitives
import StateMachine
import Storage
import Synchronization

/// The real state machine behind the node's in-process API, without log, clock or threads: what is proposed is applied
/// at once and answered in a later turn of the event loop.
final class FakeNode: NodeHandle {
  struct Contents {
    var machine = StateMachine.genesis(
      clusterID: 42,
      members: [ClusterMember(id: 7, name: "alone", peerURLs: ["http://localhost:2380"])], membershipBytes: [])
    var clock = LeaseClock(milliseconds: 1_000)
    var nextLeaseID: LeaseID = 1_000
    var leaderID: UInt64 = 7
    var isCorrupt = false
    /// Members that this one can reach.
    var reachable: Set<UInt64> = []
    var transferFailure: TransferError?
    /// Everything that reached the log.
    var proposed: [[Command]] = []
    /// Events that the sessions have not been told.
    var untold: [KeyspaceEvent] = []
    /// Calls itself a learner, whatever the state says.
    var reportsLearner = false
    /// Refuses every proposal and barrier when set.
    var outage: ProposalError?
    var defragmentations = 0
    var defragmentationFailure: StorageError?
    var sessions: [FakeWatchSession] = []
    /// Sessions are told of the past by themselves; otherwise the test plays everything.
    var replaysHistory = false
    /// Sessions are told of what is applied.
    var tellsChanges = false
  }

  private let contents = Mutex(Contents())

  var machine: StateMachine { contents.withLock { $0.machine } }
  var proposed: [[Command]] { contents.withLock { $0.proposed } }
  var sessions: [FakeWatchSession] { contents.withLock { $0.sessions } }

  func change(_ body: (inout Contents) -> Void) { contents.withLock { body(&$0) } }

  var status: NodeStatus {
    contents.withLock { contents in
      var status = NodeStatus(clusterID: 42, memberID: 7, name: "alone")
      status.leaderID = contents.leaderID
      status.term = 3
      status.raftIndex = contents.machine.appliedIndex
      status.appliedIndex = contents.machine.appliedIndex
      status.databaseSizeBytes = 4_096
      status.databaseInUseBytes = 1_024
      status.peerURLs = ["http://localhost:2380"]
      status.alarms = contents.machine.alarms
      status.clientURLs = ["http://localhost:2379"]
      return status
    }
  }

  var header: (clusterID: UInt64, memberID: UInt64, term: UInt64) { (42, 7, 3) }

  var leaseClock: LeaseClock { contents.withLock { $0.clock } }

  func pickLeaseID() -> LeaseID {
    contents.withLock { contents in
      contents.nextLeaseID += 1
      return contents.nextLeaseID
    }
  }

  func propose(
    _ commands: [Command], completion: @escaping @Sendable (Result<[CommandResult], ProposalError>) -> Void
  ) {
    completion(apply(commands))
  }

  func propose(
    _ commands: [Command], on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<[CommandResult], ProposalError>) -> Void
  ) {
    let outcome = apply(commands)
    eventLoop.execute { completion(outcome) }
    if contents.withLock({ $0.tellsChanges }) { eventLoop.execute { self.tellChanges() } }
  }

  private func tellChanges() {
    let revision = read { $0.keyspace.revision }
    for session in sessions { session.tell(contents.withLock { $0.untold }, revision: revision) }
    contents.withLock { $0.untold = [] }
  }

  private func apply(_ commands: [Command]) -> Result<[CommandResult], ProposalError> {
    contents.withLock { contents in
      if let outage = contents.outage { return .failure(outage) }
      contents.proposed.append(commands)
      var results: [CommandResult] = []
      var events: [KeyspaceEvent] = []
      contents.machine.apply(
        CommandBatch(clock: contents.clock, commands: commands), index: contents.machine.appliedIndex + 1, term: 3,
        results: &results, events: &events)
      if contents.tellsChanges { contents.untold += events }
      publish(contents.machine, commands, results)
      return .success(results)
    }
  }

  let auth = AuthGate(AuthState())

  /// What the raft thread does with what was applied.
  private func publish(_ machine: StateMachine, _ commands: [Command], _ results: [CommandResult]) {
    auth.publish(machine.auth)
    for (command, result) in zip(commands, results) {
      guard case .auth(.authenticate(let user, _, let prefix)) = command, case .authenticated(let index, _, _) = result
      else { continue }
      auth.tokens.take([.issued(prefix: prefix, index: index, user: user)], at: .now)
    }
  }

  var members: [ClusterMember] { machine.cluster.members }

  var isCorrupt: Bool { contents.withLock { $0.isCorrupt } }

  var isLearner: Bool { machine.cluster.member(7)?.isLearner == true || contents.withLock { $0.reportsLearner } }

  func changeMembership(
    _ change: MemberChange, on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<[ClusterMember], MembershipError>) -> Void
  ) {
    let refusal = contents.withLock { contents in
      contents.machine.cluster.strictRefusal(of: change, own: 7, reachable: contents.reachable)
    }
    let outcome: Result<[ClusterMember], MembershipError>
    switch refusal.map({ .failure(.unready($0)) }) ?? apply([.member(change)]).mapError(MembershipError.proposal) {
    case .success(let results):
      switch results[0] {
      case .members(let members, _): outcome = .success(members)
      case .refused(.member(let refusal)): outcome = .failure(.refused(refusal))
      default: preconditionFailure("a change of members came to \(results)")
      }
    case .failure(let error): outcome = .failure(error)
    }
    eventLoop.execute { completion(outcome) }
  }

  func transferLeadership(
    to target: UInt64, on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<Void, TransferError>) -> Void
  ) {
    let failure = contents.withLock { contents in
      if contents.transferFailure == nil { contents.leaderID = target }
      return contents.transferFailure
    }
    eventLoop.execute { completion(failure.map { .failure($0) } ?? .success(())) }
  }

  func readBarrier(
    on eventLoop: any EventLoop, completion: @escaping @Sendable (Result<Void, ProposalError>) -> Void
  ) {
    if let outage = contents.withLock({ $0.outage }) {
      completion(.failure(outage))
    } else {
      completion(.success(()))
    }
  }

  func defragment(
    on eventLoop: any EventLoop, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
  ) {
    let failure = contents.withLock { contents in
      contents.defragmentations += 1
      return contents.defragmentationFailure
    }
    eventLoop.execute { completion(failure.map { .failure($0) } ?? .success(())) }
  }

  func read<R>(_ body: (borrowing StateMachine) throws -> R) rethrows -> R {
    // A copy, so that `body` runs outside of the mutex (its closure may not be sent into it).
    let machine = contents.withLock { $0.machine }
    return try body(machine)
  }

  func openWatchSession(on eventLoop: any EventLoop, sink: any WatchSink) -> any WatchSession {
    let session = FakeWatchSession(sink: sink) { self.read { $0.keyspace.revision } }
    let replays = contents.withLock { contents in
      contents.sessions.append(session)
      return contents.replaysHistory
    }
    if replays {
      session.replay = { request in eventLoop.execute { self.replay(request, sink) } }
    }
    return session
  }

  private func replay(_ request: WatchRequest, _ sink: any WatchSink) {
    let keyspace = read { $0.keyspace }
    guard request.startRevision > 0, request.startRevision <= keyspace.revision else { return }
    do throws(KeyspaceError) {
      let (events, _) = try keyspace.history(
        from: request.startRevision, in: request.range, wantsPrevious: request.wantsPrevious, limit: 1_000,
        maxBytes: 1 << 20, allowsCompactRevision: true)
      if !events.isEmpty { sink.events(watch: request.id, events, revision: keyspace.revision) }
    } catch {
      sink.compacted(watch: request.id, compactRevision: keyspace.compactRevision, revision: keyspace.revision)
    }
  }
}

/// Records what it is asked; the test plays the rest through `sink`.
final class FakeWatchSession: WatchSession, @unchecked Sendable {
  let sink: any WatchSink
  private let revision: () -> Int64
  var created: [WatchRequest] = []
  var cancelled: [Int64] = []
  var progressRequests = 0
  /// How far the watches are that are up to date; the others have nothing to report.
  var told: [Int64: Int64] = [:]
  var resumptions = 0
  var isClosed = false
  /// Runs inside of the next `create`.
  var duringCreate: (() -> Void)?
  /// Runs after each `create`.
  var replay: (@Sendable (WatchRequest) -> Void)?

  init(sink: any WatchSink, revision: @escaping () -> Int64) {
    self.sink = sink
    self.revision = revision
  }

  func create(_ request: WatchRequest) -> Int64 {
    created.append(request)
    duringCreate?()
    duringCreate = nil
    replay?(request)
    return revision()
  }

  func tell(_ events: [KeyspaceEvent], revision: Int64) {
    for request in created where !isClosed && !cancelled.contains(request.id) {
      let told = events.filter {
        $0.record.modRevision >= request.startRevision && request.range.contains($0.record.key)
      }
      if !told.isEmpty { sink.events(watch: request.id, told, revision: revision) }
    }
  }

  func cancel(_ id: Int64) { cancelled.append(id) }
  func requestProgress() { progressRequests += 1 }
  func toldThrough(_ id: Int64) -> Int64? { told[id] }
  func resume() { resumptions += 1 }
  func close() { isClosed = true }
}
