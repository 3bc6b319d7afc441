import Engine
import Keyspace
import Logging
import Member
import NIOCore
import PeerTransport
import Primitives
import Raft
import StateMachine
import Storage
import Synchronization

/// One member of the cluster in this process: opens its data directory, recovers, runs the raft thread and serves the
/// services through `NodeHandle`.
package final class Node: NodeHandle {
  package let configuration: NodeConfiguration
  package let published = PublishedStatus()
  package let identity: MemberIdentity
  package let auth: AuthGate
  private let applied: AppliedState
  private let inbox: Mailbox<NodeEvent>
  private let barriers = ReadBarriers()
  private let backlog = ProposalBacklog()
  private let removal = Removal()
  let log: WriteAheadLog
  let writer: EngineWriter
  package let quota: SpaceQuota
  let watchCounters: WatchCounters
  private let directory: DataDirectory
  private let leaseIDs: Mutex<SystemRandomNumberGenerator>
  private let thread = Mutex<DedicatedThread?>(nil)

  /// Recovers from the data directory and starts the raft thread. Throws what the operator must mend: a locked, foreign
  /// or damaged directory.
  package convenience init(
    configuration: NodeConfiguration, logger: Logger, connect: PeerConnector = { _, _ in NoPeers() }
  ) throws(StorageError) {
    try self.init(
      configuration: configuration, logger: logger,
      openStore: { directory, options, genesis throws(StorageError) in
        try StateEngine.open(directory: directory, options: options, genesis: genesis)
      }, connect: connect)
  }

  /// As above, with a state opened by `openStore`.
  package init(
    configuration: NodeConfiguration, logger: Logger, openStore: StateStoreOpener,
    connect: PeerConnector = { _, _ in NoPeers() }
  ) throws(StorageError) {
    self.configuration = configuration
    directory = try DataDirectory.open(path: configuration.dataDirectory)
    identity = directory.recordedIdentity ?? configuration.newIdentity
    var (engine, machine) = try openStore(
      directory.statePath, EngineOptions(unsafeNoSync: configuration.unsafeNoFsync),
      directory.recordedIdentity == nil ? configuration.genesis : nil)
    // Last: a directory with an identity has its genesis.
    if directory.recordedIdentity == nil { try directory.establish(identity) }
    var base = LogBase(index: machine.appliedIndex, term: machine.appliedTerm)
    let (log, recovered) = try WriteAheadLog.open(
      directory: directory.memberPath, base: base, options: LogOptions(unsafeNoFsync: configuration.unsafeNoFsync))
    self.log = log
    for warning in recovered.warnings { logger.warning("\(warning)") }
    logger.info(
      "recovered",
      metadata: [
        "stored-index": "\(base.index)", "log-records": "\(recovered.records.count)",
        "keys": "\(machine.keyspace.keyCount)", "leases": "\(machine.leases.count)",
        "members": "\(machine.cluster.members.count)",
      ])
    var entries = try Self.entries(of: recovered, in: directory)
    if configuration.forcesNewCluster {
      try ForcedNewCluster.make(of: &machine, entries, memberID: identity.memberID, store: engine)
      entries = []
      base = LogBase(index: machine.appliedIndex, term: machine.appliedTerm)
      log.noteBase(base)
      logger.warning("this member is a new cluster of its own now", metadata: ["index": "\(base.index)"])
    }
    quota = SpaceQuota(setting: configuration.quotaBackendBytes)
    quota.note(usedBytes: machine.quotaBytes)
    auth = AuthGate(machine.auth, tokenTTLSeconds: configuration.authTokenTTLSeconds)
    applied = AppliedState(machine)
    watchCounters = applied.withLock { $0.watches.counters }
    inbox = Mailbox()
    leaseIDs = Mutex(SystemRandomNumberGenerator())
    writer = EngineWriter(
      engine: engine, applied: applied, log: log, quota: quota,
      logLimitBytes: Int64(configuration.commitAfterLogBytes), inbox: inbox, logger: logger)
    writer.start()
    let door = PeerDoor(
      inbox: inbox, applied: applied, store: engine, folder: directory.statePath, logger: logger)
    startLoop(base: base, vote: recovered.vote, entries: entries, peers: connect(identity, door), logger: logger)
  }

  private static func entries(
    of recovered: RecoveredLog, in directory: DataDirectory
  ) throws(StorageError) -> [Entry] {
    do throws(EntryRecordFailure) {
      return try recovered.records.map { record throws(EntryRecordFailure) in try Entry(record: record) }
    } catch {
      // Its checksum was right.
      throw .otherVersion(path: directory.memberPath, found: "unknown (\(error))", supported: "1")
    }
  }

  private func startLoop(
    base: LogBase, vote: PersistentVote, entries: [Entry], peers: any PeerLink, logger: Logger
  ) {
    let now = MonotonicTime.now
    let core = applied.withLock { contents in
      MemberCore(
        settings: memberSettings, raft: raft(base: base, vote: vote, entries: entries, contents.machine, at: now),
        machine: contents.machine, at: now)
    }
    let loop = NodeLoop(
      core: core, log: log, applied: applied, auth: auth, writer: writer, quota: quota, peers: peers,
      removal: removal, inbox: inbox, barriers: barriers, backlog: backlog, published: published,
      configuration: configuration, logger: logger)
    // The loop moves to the thread: nobody else reaches it from here on.
    nonisolated(unsafe) let moved = loop
    thread.withLock { $0 = DedicatedThread(name: "raft") { moved.run() } }
  }

  private var memberSettings: MemberSettings {
    var settings = MemberSettings(
      memberID: identity.memberID, session: .random(in: 1 ... .max),
      electionTimeoutMilliseconds: configuration.electionTimeoutMilliseconds,
      heartbeatIntervalMilliseconds: configuration.heartbeatIntervalMilliseconds, name: configuration.name,
      clientURLs: configuration.clientURLs)
    settings.checksReconfiguration = configuration.checksReconfiguration
    settings.promotesLearners = configuration.promotesLearners
    settings.keptEntries = UInt64(configuration.keptEntries)
    settings.autoCompaction = configuration.autoCompaction
    return settings
  }

  private func raft(
    base: LogBase, vote: PersistentVote, entries: [Entry], _ machine: borrowing StateMachine, at now: MonotonicTime
  ) -> RaftCore {
    var raftConfiguration = Raft.Configuration(
      id: identity.memberID, electionTimeout: configuration.electionTimeoutMilliseconds,
      heartbeatInterval: configuration.heartbeatIntervalMilliseconds,
      seed: identity.memberID ^ UInt64(truncatingIfNeeded: now.nanoseconds))
    raftConfiguration.preVote = configuration.preVote
    // A state from elsewhere may be of a later term than any that this member's log has heard of: it has not voted in
    // that one.
    let isBehind = vote.term < base.term
    return RaftCore(
      configuration: raftConfiguration, membership: MemberCore.mark(of: machine).membership,
      recovered: HardState(
        term: max(vote.term, base.term), vote: isBehind ? 0 : vote.vote,
        commit: max(vote.commit, base.index)),
      log: (snapshotIndex: base.index, snapshotTerm: base.term, entries: entries),
      now: Instant(milliseconds: now.milliseconds))
  }

  /// `action` runs once the cluster has removed this member, on any thread: it serves nobody any more.
  package func whenRemoved(_ action: @escaping @Sendable () -> Void) { removal.whenNoted(action) }

  /// Has another member lead, if this one does and another can: what clients ask for meanwhile is not interrupted by an
  /// election. Returns when that has come to pass, or takes too long.
  package func handOver() async {
    await withCheckedContinuation { done in
      post(transferTo: nil, Waiter(eventLoop: nil) { _ in done.resume() })
    }
  }

  /// Stops the raft thread, syncs and closes the log, stores what the engine does not have yet, gives up the directory's
  /// lock. What waits is answered `.stopped`.
  package func stop() async {
    backlog.stop()
    await withCheckedContinuation { done in
      inbox.post(.stop { done.resume() })
    }
    thread.withLock { $0.take() }?.join()
    await writer.stop()
    directory.close()
  }

  // MARK: NodeHandle

  package var status: NodeStatus {
    let raft = published.snapshot
    let (appliedIndex, alarms) = applied.withLock { ($0.machine.appliedIndex, $0.machine.alarms) }
    let sizes = writer.load.sizes
    return NodeStatus(
      clusterID: identity.clusterID, memberID: identity.memberID, leaderID: raft.leader, name: configuration.name,
      term: raft.term, raftIndex: raft.lastIndex, appliedIndex: appliedIndex, databaseSizeBytes: sizes.fileBytes,
      databaseInUseBytes: sizes.inUseBytes, alarms: alarms, peerURLs: configuration.peerURLs,
      clientURLs: configuration.clientURLs)
  }

  package var header: (clusterID: UInt64, memberID: UInt64, term: UInt64) {
    (identity.clusterID, identity.memberID, published.term)
  }

  package func propose(_ commands: [Command], completion: @escaping @Sendable (ProposalResult) -> Void) {
    propose(commands, Waiter(eventLoop: nil, completion: completion))
  }

  package func propose(
    _ commands: [Command], on eventLoop: any EventLoop, completion: @escaping @Sendable (ProposalResult) -> Void
  ) {
    propose(commands, Waiter(eventLoop: eventLoop, completion: completion))
  }

  private func propose(_ commands: [Command], _ waiter: Waiter) {
    let bytes = commands.reduce(0) { $0 + $1.approximateBytes }
    if let refusal = refusal(of: commands) ?? backlog.refusal(bytes: bytes) {
      var refused = Completions()
      refused.add(waiter, .failure(refusal))
      refused.deliver()
      return
    }
    inbox.post(.proposal(CallerProposal(commands: commands, bytes: bytes, waiter: waiter)))
  }

  /// - Parameter target: nil for whoever is fit for it.
  func post(transferTo target: NodeID?, _ waiter: Waiter) {
    if let refusal = backlog.refusal(bytes: 0) {
      var refused = Completions()
      refused.add(waiter, .failure(refusal))
      refused.deliver()
    } else {
      inbox.post(.transferLeadership(to: target, waiter))
    }
  }

  /// etcd's `quotaAlarmer`: whoever is refused raises the alarm, too.
  private func refusal(of commands: [Command]) -> ProposalError? {
    if published.isCorrupt { return .corrupt }
    if quota.admits(commands) { return nil }
    if quota.claimAlarm() { inbox.post(.quotaExceeded) }
    return .noSpace
  }

  package func defragment(
    on eventLoop: any EventLoop, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
  ) {
    writer.defragment { failure in
      eventLoop.execute { completion(failure.map { .failure($0) } ?? .success(())) }
    }
  }

  package func readBarrier(
    on eventLoop: any EventLoop, completion: @escaping @Sendable (Result<Void, ProposalError>) -> Void
  ) {
    if published.isCorrupt {
      eventLoop.execute { completion(.failure(.corrupt)) }
    } else if published.readsNeedNoRound {
      completion(.success(()))
    } else {
      if barriers.add(completion, on: eventLoop) { inbox.post(.readBarrier) }
    }
  }

  package func read<R>(_ body: (borrowing StateMachine) throws -> R) rethrows -> R {
    try applied.withLock { contents in try body(contents.machine) }
  }

  package var leaseClock: LeaseClock {
    max(published.snapshot.clock.read(at: .now), applied.withLock { $0.machine.clock })
  }

  package func pickLeaseID() -> LeaseID {
    while true {
      let id = leaseIDs.withLock { LeaseID.random(in: 1...LeaseID.max, using: &$0) }
      if !applied.withLock({ $0.machine.leases.contains(id) }) { return id }
    }
  }

  package func openWatchSession(on eventLoop: any EventLoop, sink: any WatchSink) -> any WatchSession {
    NodeWatchSession(eventLoop: eventLoop, applied: applied, sink: sink)
  }
}
