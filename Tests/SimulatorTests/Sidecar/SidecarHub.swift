import Keyspace
import Member
import Primitives
import SidecarCore
import StateMachine

/// The event half of one sidecar: subscribers, their settlements one commit after another, and the journal's trimming.
final class SidecarHub {
  typealias Completion<Value> = (Result<Value, ProposalError>) -> Void

  enum Request {
    case settle(String, CursorSettlement, Completion<[EventMessage.StaleEvent]>)
    case create(String, SubscriberRecord, Completion<Void>)
  }

  private static let sweepMicroseconds: Int64 = 2_000_000
  private static let clockMicroseconds: Int64 = 250_000
  private static let maxRounds = 16
  private static let retryMilliseconds: [Int64] = [50, 100, 200, 400, 800]

  unowned let sidecar: SimulatedSidecar
  /// As committed.
  private var directory = SubscriberDirectory()
  private var subscribers: [String: HubSubscriber] = [:]
  private var requests: [Request] = []
  private var isCommitting = false
  /// Everything below is settled.
  private var swept: UInt64 = 0
  private(set) var isLoaded = false

  init(_ sidecar: SimulatedSidecar) {
    self.sidecar = sidecar
    load()
  }

  private var layout: StoreLayout { SimulatedSidecar.layout }
  private var store: SimulatedStore { sidecar.store }
  var journal: SidecarJournal { sidecar.journal }

  private func load() {
    store.range(RangeQuery(.prefix(layout.allSubscribers))) { [unowned self] result in
      guard case .success(let found) = result else {
        return sidecar.after(microseconds: 200_000) { [unowned self] in load() }
      }
      for stored in found.records {
        let name = String(decoding: stored.key.array[layout.allSubscribers.count...], as: UTF8.self)
        guard let record = try? SubscriberRecord(decoding: stored.value), record.epoch == journal.bounds.epoch else {
          return sidecar.world.oracle.violate("the record of \(name) cannot be used")
        }
        directory.put(record, for: name)
      }
      directory.policyNames = Dictionary(
        uniqueKeysWithValues: SimulatedSidecar.policies.map { ($0.name, Set($0.subscribers)) })
      for name in directory.records.keys.sorted() { subscribers[name] = subscriber(name) }
      isLoaded = true
      journal.onAdvance = { [unowned self] in
        for name in subscribers.keys.sorted() { subscribers[name]!.process(.advanced(journal.bounds)) }
      }
      keepTime()
      sidecar.after(microseconds: Self.sweepMicroseconds) { [unowned self] in sweep() }
    }
  }

  private func subscriber(_ name: String) -> HubSubscriber {
    HubSubscriber(name, directory.records[name]!, self, seed: sidecar.generator.next())
  }

  private func keepTime() {
    sidecar.after(microseconds: Self.clockMicroseconds) { [unowned self] in
      for name in subscribers.keys.sorted() { subscribers[name]!.tick() }
      keepTime()
    }
  }

  // MARK: What consumers ask

  /// A name never seen before gets its record first.
  func attach(_ subscription: Subscription, connection: UInt64) {
    let name = subscription.name
    if let subscriber = subscribers[name] { return subscriber.attach(subscription, connection: connection) }
    let floor = journal.bounds.first - 1
    let record = SubscriberRecord(
      epoch: journal.bounds.epoch, scope: subscription.scope, start: floor + 1, cursor: SubscriberCursor(floor: floor))
    enqueue(
      .create(name, record) { [unowned self] result in
        // Who hears nothing connects again.
        guard case .success = result else { return }
        if subscribers[name] == nil { subscribers[name] = subscriber(name) }
        subscribers[name]!.attach(subscription, connection: connection)
      })
  }

  func detach(_ name: String, connection: UInt64) { subscribers[name]?.process(.detached(connection: connection)) }

  func perform(_ op: SubscriberOp, by name: String, connection: UInt64) {
    subscribers[name]?.perform(op, connection: connection)
  }

  // MARK: Entries of evictions

  /// Which of these are in force.
  func areDue(_ evictions: [CursorSettlement.Eviction], _ completion: @escaping Completion<Set<UInt64>>) {
    if evictions.isEmpty { return completion(.success([])) }
    if sidecar.mistake == .deliversUnchecked { return completion(.success(Set(evictions.map(\.sequence)))) }
    store.entries(evictions.map(\.entry), layout) { result in
      completion(
        result.map { entries in
          Set(zip(evictions, entries).filter { $1.isEvicting(as: $0.sequence) }.map(\.0.sequence))
        })
    }
  }

  /// What `Outcomes.settle` does in a loop.
  private func settle(
    _ acknowledgements: [Acknowledgement], _ cursors: [Operation],
    _ completion:
      @escaping Completion<
        [EntrySettlement.Verdict]
      >
  ) {
    let verdicts = [EntrySettlement.Verdict](repeating: .accepted, count: acknowledgements.count)
    settle(acknowledgements, Array(acknowledgements.indices), cursors, verdicts, rounds: 0, completion)
  }

  private func settle(
    _ acknowledgements: [Acknowledgement], _ open: [Int], _ cursors: [Operation],
    _ verdicts: [EntrySettlement.Verdict], rounds: Int, _ completion: @escaping Completion<[EntrySettlement.Verdict]>
  ) {
    guard rounds < Self.maxRounds else { return completion(.failure(.tooManyRequests)) }
    store.entries(open.map { acknowledgements[$0].entry }, layout) { [unowned self] result in
      guard case .success(let entries) = result else { return completion(.failure(.timedOut)) }
      var verdicts = verdicts
      var changes: [(place: Int, change: EntryChange)] = []
      for (place, entry) in zip(open, entries) {
        let settlement = EntrySettlement(of: entry, by: acknowledgements[place], layout: layout)
        verdicts[place] = settlement.verdict
        if let change = settlement.change { changes.append((place, change)) }
      }
      if changes.isEmpty, cursors.isEmpty { return completion(.success(verdicts)) }
      let commands =
        changes.map { Command($0.change) } + cursors.map { Command.guarded([], [], [$0], revokes: []) }
      store.commit(commands) { [unowned self] result in
        guard case .success(let revisions) = result else { return completion(.failure(.timedOut)) }
        var lost: [Int] = []
        for (done, revision) in zip(changes, revisions) {
          guard let revision else {
            lost.append(done.place)
            continue
          }
          if done.change.before?.state == .live { sidecar.requests.forget(done.change.entry, revision: revision) }
        }
        if lost.isEmpty { return completion(.success(verdicts)) }
        settle(acknowledgements, lost, [], verdicts, rounds: rounds + 1, completion)
      }
    }
  }

  // MARK: Settlements

  func enqueue(_ request: Request) {
    requests.append(request)
    if requests.count == 1, !isCommitting {
      sidecar.after(microseconds: 2_000) { [unowned self] in commitNext() }
    }
  }

  private func commitNext() {
    guard !isCommitting, !requests.isEmpty else { return }
    isCommitting = true
    if case .settle(let name, let settlement, let completion) = requests[0], !settlement.unread.isEmpty {
      requests.removeFirst()
      return settleUnread(name, settlement, completion)
    }
    var batch: [Request] = []
    while let request = requests.first {
      if case .settle(_, let settlement, _) = request, !settlement.unread.isEmpty { break }
      batch.append(requests.removeFirst())
    }
    var together = settlementBatch()
    for request in batch {
      switch request {
      case .settle(let name, let settlement, _): together.add(settlement, by: name)
      case .create(let name, let record, _): together.create(name, record)
      }
    }
    carryOut(together) { [unowned self] result in
      for (place, request) in batch.enumerated() {
        switch request {
        case .settle(_, _, let completion): completion(result.map { $0[place] })
        case .create(_, _, let completion): completion(result.map { _ in })
        }
      }
      isCommitting = false
      commitNext()
    }
  }

  private func settlementBatch() -> SettlementBatch {
    var directory = directory
    if sidecar.mistake == .settlesAlone {
      // Whoever asks first is all there are.
      directory.policyNames = [:]
      for name in directory.records.keys where name != "janitor" { directory.forget(name) }
    }
    return SettlementBatch(directory)
  }

  private func carryOut(_ batch: SettlementBatch, _ completion: @escaping Completion<[[EventMessage.StaleEvent]]>) {
    let cursors = batch.cursors(layout)
    guard !cursors.isEmpty || !batch.acknowledgements.isEmpty else {
      directory = batch.directory
      return completion(.success(batch.stale([])))
    }
    settle(batch.acknowledgements, cursors, attempt: 0) { [unowned self] result in
      if case .success = result { directory = batch.directory }
      completion(result.map { batch.stale($0) })
    }
  }

  /// Settling twice is harmless, so a lost answer is asked for again.
  private func settle(
    _ acknowledgements: [Acknowledgement], _ cursors: [Operation], attempt: Int,
    _ completion: @escaping Completion<[EntrySettlement.Verdict]>
  ) {
    settle(acknowledgements, cursors) { [unowned self] result in
      guard case .failure = result, attempt < Self.retryMilliseconds.count else { return completion(result) }
      sidecar.after(microseconds: Self.retryMilliseconds[attempt] * 1_000) { [unowned self] in
        settle(acknowledgements, cursors, attempt: attempt + 1, completion)
      }
    }
  }

  /// Acknowledgements of events that this process has not read: their items are looked up.
  private func settleUnread(
    _ name: String, _ settlement: CursorSettlement, _ completion: @escaping Completion<[EventMessage.StaleEvent]>
  ) {
    let unread = settlement.unread
    let finish: Completion<[EventMessage.StaleEvent]> = { [unowned self] result in
      completion(result)
      isCommitting = false
      commitNext()
    }
    journal.items(from: unread.first!, limit: 1_000) { [unowned self] result in
      switch result {
      case .failure(let error): finish(.failure(error))
      case .success(let items):
        var settlement = settlement
        let record = directory.records[name]
        settlement.evictions += items.filter { unread.contains($0.0) }.compactMap { $0.1.eviction(sequence: $0.0) }
          .filter { record?.isTold(of: $0) ?? false }
        var batch = settlementBatch()
        batch.add(settlement, by: name)
        carryOut(batch) { result in finish(result.map { $0[0] }) }
      }
    }
  }

  // MARK: Trimming

  /// As `JournalSweeper` does.
  private func sweep() {
    sidecar.after(microseconds: Self.sweepMicroseconds) { [unowned self] in sweep() }
    guard let floor = directory.minimumFloor else { return }
    swept = max(swept, journal.bounds.first)
    guard swept <= floor else { return trim() }
    journal.items(from: swept, limit: Int(floor - swept + 1)) { [unowned self] result in
      guard case .success(let page) = result, let last = page.last?.0 else { return }
      let evictions = page.compactMap { $0.1.eviction(sequence: $0.0) }
      areDue(evictions) { [unowned self] result in
        guard case .success(let due) = result else { return }
        let (settled, owed) = directory.sweep(evictions, due: evictions.map { due.contains($0.sequence) })
        let finish: Completion<[EntrySettlement.Verdict]> = { [unowned self] result in
          guard case .success = result else { return }
          swept = owed ?? last + 1
          trim()
        }
        if settled.isEmpty { finish(.success([])) } else { settle(settled, [], finish) }
      }
    }
  }

  private func trim() {
    guard swept > journal.bounds.first else { return }
    journal.trim(below: swept) { _ in }
  }
}
