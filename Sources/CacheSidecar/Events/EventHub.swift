import Keyspace
import Logging
import NIOCore
import Primitives
import SidecarCore
import Synchronization

/// Removes what nobody needs any more from the journal.
package protocol JournalTrimming: Sendable {
  /// Sequence numbers below `sequence` are not read again. May keep more than it must (whole chunks).
  func trim(below sequence: UInt64) async throws(SidecarStoreError)
}

/// The subscribers of this member: loads them at start, wakes them when the journal grows, keeps their time, and trims
/// the journal behind them.
package final class EventHub: Sendable {
  package struct Options: Sendable {
    /// The name of this node in `hello`.
    package var node = "sidecar"
    package var stallMilliseconds = Limits.stalledSubscriberMilliseconds
    package var heartbeatMilliseconds = Limits.eventHeartbeatMilliseconds
    /// Names that evictions of a cache wait for, subscribed or not.
    package var policyNames: [String: Set<String>] = [:]

    package init() {}
  }

  /// Names on one node; each has a record and a state in memory.
  package static let maxSubscribers = 1_000
  private static let clockInterval = Duration.milliseconds(100)
  private static let sweepInterval = Duration.seconds(5)

  package let options: Options
  let logger: Logger
  private let layout: StoreLayout
  private let journal: any EvictionJournal
  private let outcomes: any EvictionOutcomes
  private let trimming: (any JournalTrimming)?
  private let settlements: SettlementQueue
  private let services = Mutex<[String: SubscriberService]>([:])
  private let connections = Mutex<UInt64>(0)
  private let tasks = Mutex<[Task<Void, Never>]>([])
  private let wakes: AsyncStream<Void>
  private let wake: AsyncStream<Void>.Continuation
  private let sweeps: AsyncStream<Void>
  private let requestSweep: AsyncStream<Void>.Continuation

  /// Loads every subscriber's record. Throws when the store cannot be read or a record cannot be understood.
  package static func load(
    store: any SidecarStore, layout: StoreLayout, journal: any EvictionJournal, outcomes: any EvictionOutcomes,
    trimming: (any JournalTrimming)?, options: Options, logger: Logger
  ) async throws(SidecarStoreError) -> EventHub {
    let found = try await store.range(RangeQuery(.prefix(layout.allSubscribers)))
    var records: [String: SubscriberRecord] = [:]
    for record in found.records {
      guard let name = Bytes(record.key.array.dropFirst(layout.allSubscribers.count)).text else {
        throw .refused("the key of a subscriber is not UTF-8: \(record.key)")
      }
      do {
        records[name] = try SubscriberRecord(decoding: record.value)
      } catch {
        throw .refused("the record of subscriber \(name) cannot be read: \(error)")
      }
    }
    return EventHub(
      records: records, layout: layout, journal: journal, outcomes: outcomes, trimming: trimming, options: options,
      logger: logger)
  }

  private init(
    records: [String: SubscriberRecord], layout: StoreLayout, journal: any EvictionJournal,
    outcomes: any EvictionOutcomes, trimming: (any JournalTrimming)?, options: Options, logger: Logger
  ) {
    self.options = options
    self.logger = logger
    self.layout = layout
    self.journal = journal
    self.outcomes = outcomes
    self.trimming = trimming
    var directory = SubscriberDirectory(records: records, policyNames: options.policyNames)
    for (name, record) in records where record.epoch != journal.epoch {
      // Sequence numbers of another journal mean nothing: everything that this one has is owed.
      logger.warning(
        "the journal is another one than the cursor's; starting at its beginning", metadata: ["subscriber": "\(name)"])
      let floor = journal.first - 1
      directory.put(
        SubscriberRecord(
          epoch: journal.epoch, scope: record.scope, start: floor + 1, cursor: SubscriberCursor(floor: floor)),
        for: name)
    }
    settlements = SettlementQueue(layout: layout, journal: journal, outcomes: outcomes, directory: directory)
    (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    (sweeps, requestSweep) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    for name in directory.records.keys { _ = serviceIfKnown(name) }
  }

  package func start() {
    let wake = wake
    journal.onAdvance { wake.yield() }
    let settlements = settlements
    let started = [
      Task { await settlements.run() },
      Task { await self.followJournal() },
      Task { await self.keepTime() },
      Task { await self.sweep() },
    ]
    tasks.withLock { $0 += started }
    requestSweep.yield()
  }

  package func stop() {
    let running = tasks.withLock { tasks in
      defer { tasks = [] }
      return tasks
    }
    for task in running { task.cancel() }
  }

  /// Who is to be waited for, after a change of policy.
  package func setPolicyNames(_ names: [String: Set<String>]) {
    settlements.setPolicyNames(names)
    requestSweep.yield()
  }

  package var directory: SubscriberDirectory { settlements.directory }

  /// Of every subscriber, by name: for `/metrics` and `/v1/status`.
  package func statistics() async -> [SubscriberStatistics] {
    var result: [SubscriberStatistics] = []
    for service in allServices.sorted(by: { $0.name < $1.name }) { result.append(await service.statistics) }
    return result
  }

  func newConnection() -> UInt64 {
    connections.withLock { last in
      last += 1
      return last
    }
  }

  var timing: StreamOutlet.Timing {
    StreamOutlet.Timing(
      stallMilliseconds: options.stallMilliseconds, heartbeatMilliseconds: options.heartbeatMilliseconds)
  }

  // MARK: subscribers by name

  private var allServices: [SubscriberService] { services.withLock { Array($0.values) } }

  func serviceIfKnown(_ name: String) -> SubscriberService? {
    services.withLock { services in
      if let service = services[name] { return service }
      guard let record = settlements.directory.records[name] else { return nil }
      let service = makeService(name, record)
      services[name] = service
      return service
    }
  }

  private func makeService(_ name: String, _ record: SubscriberRecord) -> SubscriberService {
    SubscriberService(
      name: name, record: record, node: options.node, journal: journal, outcomes: outcomes, settlements: settlements,
      logger: logger
    ) { [weak self] name in
      guard let self else { return }
      self.services.withLock { $0[name] = nil }
      self.requestSweep.yield()
    }
  }

  /// The subscriber that this subscription names. A name never seen before gets its record, committed before this
  /// returns: from then on evictions wait for it.
  func service(for subscription: Subscription) async throws(OpFailure) -> SubscriberService {
    let name = subscription.name
    if let record = directory.records[name] {
      // What another scope left out counts as passed: it would never be told of it.
      guard record.scope == subscription.scope else {
        throw OpFailure(
          .nosub, "\(name) is subscribed to \(record.scope.text): forget it first (unsub forget), or take another name")
      }
    } else {
      guard directory.records.count < Self.maxSubscribers else {
        throw OpFailure(.nosub, "there are \(Self.maxSubscribers) subscribers already")
      }
      let floor = subscription.start == .now ? journal.head : journal.first - 1
      let record = SubscriberRecord(
        epoch: journal.epoch, scope: subscription.scope, start: floor + 1, cursor: SubscriberCursor(floor: floor))
      try await commit { .create(name: name, record, $0) }
    }
    guard let service = serviceIfKnown(name) else {
      throw OpFailure(.nosub, "\(name) has been forgotten meanwhile; subscribe again")
    }
    return service
  }

  private func commit(
    _ request: (@escaping SettlementQueue.Completion<Void>) -> SettlementQueue.Request
  ) async throws(OpFailure) {
    let result = await withCheckedContinuation { continuation in
      settlements.enqueue(request { continuation.resume(returning: $0) })
    }
    if case .failure(let error) = result {
      logger.warning("a subscription is not recorded", metadata: ["error": "\(error)"])
      throw OpFailure(.unavailable, "the store did not take the subscription; ask again")
    }
  }

  // MARK: what goes on

  private func followJournal() async {
    for await _ in wakes {
      for service in allServices { await service.advanced() }
    }
  }

  private func keepTime() async {
    while !Task.isCancelled {
      for service in allServices { await service.tick() }
      // A cancelled wait ends the loop.
      try? await Task.sleep(for: Self.clockInterval)
    }
  }

  private func sweep() async {
    let requestSweep = requestSweep
    let timer = Task {
      while !Task.isCancelled {
        try? await Task.sleep(for: Self.sweepInterval)
        requestSweep.yield()
      }
    }
    defer { timer.cancel() }
    var sweeper = JournalSweeper(
      journal: journal, outcomes: outcomes, trimming: trimming, settlements: settlements)
    for await _ in sweeps {
      do {
        try await sweeper.sweep()
      } catch {
        logger.warning("the journal is not trimmed", metadata: ["error": "\(error)"])
      }
    }
  }
}

extension SubscriberScope {
  fileprivate var text: String {
    switch self {
    case .allCaches: "all caches"
    case .cache(let name): "the cache \(name)"
    }
  }
}
