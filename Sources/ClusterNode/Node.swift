import Engine
import Keyspace
import Logging
import NIOCore
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
  private let identity: MemberIdentity
  private let applied: AppliedState
  private let inbox: Mailbox<NodeEvent>
  private let backlog = ProposalBacklog()
  let log: WriteAheadLog
  let writer: EngineWriter
  package let quota: SpaceQuota
  let watchCounters: WatchCounters
  private let directory: DataDirectory
  private let leaseIDs: Mutex<SystemRandomNumberGenerator>
  private let thread = Mutex<DedicatedThread?>(nil)

  /// Recovers from the data directory and starts the raft thread. Throws what the operator must mend: a locked, foreign
  /// or damaged directory.
  package convenience init(configuration: NodeConfiguration, logger: Logger) throws(StorageError) {
    try self.init(configuration: configuration, logger: logger) { directory, options throws(StorageError) in
      try StateEngine.open(directory: directory, options: options)
    }
  }

  /// As above, with a state opened by `openStore`.
  package init(
    configuration: NodeConfiguration, logger: Logger, openStore: StateStoreOpener
  ) throws(StorageError) {
    self.configuration = configuration
    directory = try DataDirectory.open(path: configuration.dataDirectory)
    if let recorded = directory.recordedIdentity {
      identity = recorded
    } else {
      identity = MemberIdentity.derived(from: configuration)
      try directory.establish(identity)
    }
    let (engine, machine) = try openStore(
      directory.statePath, EngineOptions(unsafeNoSync: configuration.unsafeNoFsync))
    let base = LogBase(index: machine.appliedIndex, term: machine.appliedTerm)
    let (log, recovered) = try WriteAheadLog.open(
      directory: directory.memberPath, base: base, options: LogOptions(unsafeNoFsync: configuration.unsafeNoFsync))
    self.log = log
    for warning in recovered.warnings { logger.warning("\(warning)") }
    logger.info(
      "recovered",
      metadata: [
        "stored-index": "\(base.index)", "log-records": "\(recovered.records.count)",
        "keys": "\(machine.keyspace.keyCount)", "leases": "\(machine.leases.count)",
      ])
    quota = SpaceQuota(setting: configuration.quotaBackendBytes)
    quota.note(usedBytes: machine.quotaBytes)
    applied = AppliedState(machine)
    watchCounters = applied.withLock { $0.watches.counters }
    inbox = Mailbox()
    leaseIDs = Mutex(SystemRandomNumberGenerator())
    writer = EngineWriter(
      engine: engine, applied: applied, log: log, quota: quota,
      logLimitBytes: Int64(configuration.commitAfterLogBytes), inbox: inbox, logger: logger)
    writer.start()
    startLoop(base: base, recovered: recovered, logger: logger)
  }

  private func startLoop(base: LogBase, recovered: RecoveredLog, logger: Logger) {
    let raftConfiguration = Raft.Configuration(
      id: identity.memberID, voters: [identity.memberID], electionTimeout: configuration.electionTimeoutMilliseconds,
      heartbeatInterval: configuration.heartbeatIntervalMilliseconds,
      seed: identity.memberID ^ UInt64(truncatingIfNeeded: MonotonicTime.now.nanoseconds))
    let raft = RaftCore(
      configuration: raftConfiguration,
      recovered: HardState(
        term: recovered.vote.term, vote: recovered.vote.vote, commit: recovered.vote.commit),
      log: (
        snapshotIndex: base.index, snapshotTerm: base.term, entries: recovered.records.map(Entry.init(record:))
      ),
      now: Instant(milliseconds: MonotonicTime.now.milliseconds))
    let loop = NodeLoop(
      raft: raft, log: log, applied: applied, writer: writer, quota: quota, inbox: inbox, backlog: backlog,
      published: published, configuration: configuration, logger: logger)
    // The loop moves to the thread: nobody else reaches it from here on.
    nonisolated(unsafe) let moved = loop
    thread.withLock { $0 = DedicatedThread(name: "raft") { moved.run() } }
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
    inbox.post(.proposal(Proposal(commands: commands, bytes: bytes, waiter: waiter)))
  }

  /// etcd's `quotaAlarmer`: whoever is refused raises the alarm, too.
  private func refusal(of commands: [Command]) -> ProposalError? {
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
    if published.readsNeedNoRound {
      completion(.success(()))
    } else {
      inbox.post(.readBarrier(eventLoop: eventLoop, completion: completion))
    }
  }

  package func read<R>(_ body: (borrowing StateMachine) throws -> R) rethrows -> R {
    try applied.withLock { contents in try body(contents.machine) }
  }

  package var leaseClock: LeaseClock {
    let clock = published.snapshot.clock
    return clock.isRunning ? clock.read(at: .now) : applied.withLock { $0.machine.clock }
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

extension Entry {
  init(record: LogRecord) {
    self.init(
      index: record.index, term: record.term,
      payload: record.kind == LogRecord.commandKind ? .command(record.payload) : .empty)
  }

  var payloadBytes: Int {
    if case .command(let bytes) = payload { bytes.count } else { 0 }
  }
}

extension LogRecord {
  static let emptyKind: UInt8 = 0
  static let commandKind: UInt8 = 1

  init(entry: Entry) {
    switch entry.payload {
    case .empty: self.init(index: entry.index, term: entry.term, kind: Self.emptyKind, payload: [])
    case .command(let bytes): self.init(index: entry.index, term: entry.term, kind: Self.commandKind, payload: bytes)
    }
  }
}
