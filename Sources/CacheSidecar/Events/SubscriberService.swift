import Logging
import NIOCore
import Primitives
import SidecarCore

/// One named subscriber at work: feeds `SubscriberState` with what happens, in order, and does what it says.
package actor SubscriberService {
  package typealias Answer = @Sendable (EventMessage) -> Void

  package nonisolated let name: String
  private let node: String
  private let journal: any EvictionJournal
  private let outcomes: any EvictionOutcomes
  private let settlements: SettlementQueue
  private let logger: Logger
  private var state: SubscriberState
  private var sinks: [UInt64: any EventSink] = [:]
  private var answers: [UInt64: Answer] = [:]
  private var nextRequest: UInt64 = 1
  /// Events that an action has caused, taken before anything else.
  private var pending: [SubscriberEvent] = []
  private var isProcessing = false
  private let onForget: @Sendable (String) -> Void

  package init(
    name: String, record: SubscriberRecord, node: String, journal: any EvictionJournal,
    outcomes: any EvictionOutcomes, settlements: SettlementQueue, logger: Logger,
    onForget: @escaping @Sendable (String) -> Void
  ) {
    self.name = name
    self.node = node
    self.journal = journal
    self.outcomes = outcomes
    self.settlements = settlements
    self.logger = logger
    self.onForget = onForget
    state = SubscriberState(
      name: name, record: record, bounds: journal.bounds, seed: UInt64.random(in: 0...UInt64.max))
  }

  package var statistics: SubscriberStatistics { state.statistics }

  package func attach(_ connection: UInt64, _ subscription: Subscription, _ kind: AttachmentKind, _ sink: any EventSink)
  {
    sinks[connection] = sink
    process(.attached(connection: connection, subscription, kind, node: node, journal.bounds))
  }

  package func detach(_ connection: UInt64) {
    sinks[connection] = nil
    process(.detached(connection: connection))
  }

  /// `connection`: the one that asks, which must still be the subscriber's; nil for requests beside it (HTTP).
  package func perform(_ op: SubscriberOp, connection: UInt64?, answer: @escaping Answer) {
    if let connection, state.connection != connection {
      return answer(.refused(.fenced, "a newer connection has subscribed as \(name)"))
    }
    if case .terminate(let sequence, let why) = op {
      logger.warning(
        "a subscriber gives an event up; kick brings it back",
        metadata: ["subscriber": "\(name)", "sequence": "\(sequence)", "why": "\(why.prefix(200))"])
    }
    let request = nextRequest
    nextRequest += 1
    answers[request] = answer
    process(.op(op, request: request))
  }

  package func writable(_ connection: UInt64) { process(.writable(connection: connection)) }

  package func advanced() { process(.advanced(journal.bounds)) }

  package func tick() {
    if state.needsClock { process(.clock) }
  }

  package func heartbeat(_ connection: UInt64) {
    guard state.connection == connection, let sink = sinks[connection] else { return }
    let message = EventMessage.heartbeat(head: journal.head, acknowledged: state.cursor.floor)
    send(message, to: sink)
    if sink.flush() { process(.detached(connection: connection)) }
  }

  private func process(_ event: SubscriberEvent) {
    pending.append(event)
    guard !isProcessing else { return }
    isProcessing = true
    var touched: Set<UInt64> = []
    var index = 0
    while index < pending.count {
      let event = pending[index]
      index += 1
      var actions: [SubscriberAction] = []
      state.step(event, at: monotonicMilliseconds(), into: &actions)
      for action in actions { carryOut(action, touched: &touched) }
      if index == pending.count { flush(&touched) }
    }
    pending.removeAll(keepingCapacity: true)
    isProcessing = false
  }

  private func flush(_ touched: inout Set<UInt64>) {
    for connection in touched {
      guard let sink = sinks[connection] else { continue }
      if sink.flush() {
        sinks[connection] = nil
        pending.append(.detached(connection: connection))
      } else if sink.isCongested {
        pending.append(.congested(connection: connection))
      }
    }
    touched = []
  }

  private func send(_ message: EventMessage, to sink: any EventSink) {
    var bytes: [UInt8] = []
    message.encodeLines(into: &bytes)
    sink.send(bytes)
  }

  private func carryOut(_ action: SubscriberAction, touched: inout Set<UInt64>) {
    switch action {
    case .send(let connection, let message):
      guard let sink = sinks[connection] else { return }
      send(message, to: sink)
      touched.insert(connection)
    case .deliver(let connection, let events, let batch):
      guard let sink = sinks[connection] else { return }
      deliver(events, batch: batch, to: sink)
      touched.insert(connection)
    case .answer(let request, let message): answers.removeValue(forKey: request)?(message)
    case .read(let from, let limit, let scope): Task { await read(from: from, limit: limit, scope) }
    case .verify(let evictions): Task { await verify(evictions) }
    case .settle(let settlement): settle(settlement)
    case .keep(let request, let sequence, let entry, let ttl):
      Task { await keep(request: request, sequence, entry, ttl) }
    case .forget(let request): forget(request)
    case .close(let connection, let message):
      guard let sink = sinks.removeValue(forKey: connection) else { return }
      var bytes: [UInt8] = []
      message?.encodeLines(into: &bytes)
      sink.close(after: bytes)
    }
  }

  private func deliver(_ events: [EvictEvent], batch: Int, to sink: any EventSink) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(events.count * 200)
    if batch > 1 {
      var start = 0
      while start < events.count {
        let end = min(start + batch, events.count)
        EventMessage.evictBatch(Array(events[start..<end])).encodeLines(into: &bytes)
        start = end
      }
    } else {
      for event in events { EventMessage.evict(event).encodeLines(into: &bytes) }
    }
    sink.send(bytes)
  }

  private func read(from: UInt64, limit: Int, _ scope: SubscriberScope) async {
    do throws(SidecarStoreError) {
      let items = try await journal.items(from: from, limit: limit)
      let asked = items.compactMap { $0.item.eviction(sequence: $0.sequence) }.filter { scope.includes($0.entry.cache) }
      let due = try await dueSequences(asked)
      process(
        .read(items.map { JournalReading(sequence: $0.sequence, item: $0.item, isDue: due.contains($0.sequence)) }))
    } catch {
      logger.warning("the journal cannot be read", metadata: ["subscriber": "\(name)", "error": "\(error)"])
      process(.readFailed)
    }
  }

  private func verify(_ evictions: [CursorSettlement.Eviction]) async {
    do throws(SidecarStoreError) {
      let due = try await dueSequences(evictions)
      process(.verified(notDue: Set(evictions.lazy.map(\.sequence).filter { !due.contains($0) })))
    } catch {
      logger.warning("evictions cannot be checked", metadata: ["subscriber": "\(name)", "error": "\(error)"])
      process(.readFailed)
    }
  }

  private func dueSequences(_ evictions: [CursorSettlement.Eviction]) async throws(SidecarStoreError) -> Set<UInt64> {
    guard !evictions.isEmpty else { return [] }
    let answers = try await outcomes.areDue(evictions.map { ($0.sequence, $0.entry) })
    return Set(zip(evictions, answers).lazy.filter { $0.1 }.map { $0.0.sequence })
  }

  private func settle(_ settlement: CursorSettlement) {
    settlements.enqueue(.settle(name: name, settlement) { await self.finish(settlement, $0) })
  }

  private func finish(
    _ settlement: CursorSettlement, _ result: Result<[EventMessage.StaleEvent], SidecarStoreError>
  ) {
    switch result {
    case .success(let stale): process(.settled(settlement, stale: stale))
    case .failure(let error):
      logger.warning("acknowledgements are not committed", metadata: ["subscriber": "\(name)", "error": "\(error)"])
      process(.unsettled(settlement))
    }
  }

  private func keep(request: UInt64, _ sequence: UInt64, _ known: EntryName?, _ ttl: Int64?) async {
    do throws(SidecarStoreError) {
      var entry = known
      if entry == nil, let found = try await journal.items(from: sequence, limit: 1).first, found.sequence == sequence {
        entry = found.item.eviction(sequence: sequence)?.entry
      }
      guard let entry, state.scope.includes(entry.cache) else {
        process(.kept(request: request, sequence: sequence, .unknown))
        return
      }
      let outcome = try await outcomes.keep(entry, sequence: sequence, ttlMilliseconds: ttl)
      process(.kept(request: request, sequence: sequence, outcome))
    } catch {
      logger.warning("a veto is not committed", metadata: ["subscriber": "\(name)", "error": "\(error)"])
      process(.kept(request: request, sequence: sequence, .failed))
    }
  }

  private func forget(_ request: UInt64) {
    let answer = answers.removeValue(forKey: request)
    settlements.enqueue(.forget(name: name) { await self.finishForget(answer, $0) })
  }

  private func finishForget(_ answer: Answer?, _ result: Result<Void, SidecarStoreError>) {
    switch result {
    case .success:
      onForget(name)
      answer?(.ok(.plain(op: "unsub")))
      guard let connection = state.connection, let sink = sinks.removeValue(forKey: connection) else { return }
      sink.close(after: [])
      process(.detached(connection: connection))
    case .failure(let error):
      logger.warning("a subscriber is not forgotten", metadata: ["subscriber": "\(name)", "error": "\(error)"])
      answer?(.refused(.unavailable, "the store did not take it; ask again"))
    }
  }
}

extension EvictionJournal {
  var bounds: JournalBounds { JournalBounds(epoch: epoch, first: first, head: head) }
}

/// Milliseconds on a clock that never runs back.
func monotonicMilliseconds() -> Int64 { Int64(NIODeadline.now().uptimeNanoseconds / 1_000_000) }
