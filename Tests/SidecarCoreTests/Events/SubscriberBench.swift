import Primitives
import SidecarCore
import Testing

/// A journal, the entries' state and one subscriber, with the store's answers given at once.
struct SubscriberBench {
  var state: SubscriberState
  var now: Int64 = 1_000_000
  /// Item of sequence number n at n - 1.
  var items: [JournalItem] = []
  var first: UInt64 = 1
  /// Reads are answered when the test says so.
  var holdsReads = false
  var heldRead: SubscriberEvent?
  /// What comes of a veto.
  var keepOutcome = KeepOutcome.kept
  var notDue: Set<UInt64> = []
  /// What the store says of acknowledgements of these.
  var living: [UInt64: UInt64] = [:]
  var answersSettlements = true
  var unanswered: [CursorSettlement] = []
  var lastConnection: UInt64 = 0
  var lastRequest: UInt64 = 0

  /// What was sent since the last `take`, as prose.
  private var said: [String] = []
  private(set) var settled: Set<UInt64> = []
  private(set) var lastReadFrom: UInt64 = 0

  init(scope: SubscriberScope = .allCaches, floor: UInt64 = 0) {
    let record = SubscriberRecord(epoch: 1, scope: scope, cursor: SubscriberCursor(floor: floor))
    state = SubscriberState(name: "me", record: record, bounds: JournalBounds(epoch: 1, first: 1, head: 0), seed: 5)
  }

  var bounds: JournalBounds { JournalBounds(epoch: 1, first: first, head: UInt64(items.count)) }

  mutating func evict(_ count: Int = 1, cache: String = "c") {
    for _ in 0..<count {
      items.append(
        .evict(
          EntryName(cache: cache, key: Bytes("k\(items.count + 1)")), generation: 1, reason: .expired, sizeBytes: 1,
          idleMilliseconds: 0, registeredAtMilliseconds: 0))
    }
    step(.advanced(bounds))
  }

  mutating func cancel(_ of: UInt64, generation: UInt64 = 2) {
    items.append(.cancel(EntryName(cache: "c", key: Bytes("k\(of)")), of: of, generation: generation))
    notDue.insert(of)
    living[of] = generation
    step(.advanced(bounds))
  }

  mutating func connect(
    inflight: Int = 10, batch: Int = 1, ackWait: Int64 = 60_000, cache: String? = nil,
    _ kind: AttachmentKind = .stream
  ) {
    lastConnection += 1
    var subscription = Subscription(name: "me")
    subscription.inflight = inflight
    subscription.batch = batch
    subscription.ackWaitMilliseconds = ackWait
    subscription.cache = cache
    step(.attached(connection: lastConnection, subscription, kind, node: "n", bounds))
  }

  mutating func say(_ line: String) throws {
    lastRequest += 1
    step(.op(try #require(try SubscriberOp(parsingLine: line.utf8)), request: lastRequest))
  }

  mutating func wait(_ milliseconds: Int64) {
    now += milliseconds
    step(.clock)
  }

  mutating func take() -> [String] {
    defer { said = [] }
    return said
  }

  mutating func step(_ event: SubscriberEvent) {
    var events = [event]
    while !events.isEmpty {
      var actions: [SubscriberAction] = []
      state.step(events.removeFirst(), at: now, into: &actions)
      for action in actions {
        if let answer = perform(action) { events.append(answer) }
      }
    }
  }

  private mutating func perform(_ action: SubscriberAction) -> SubscriberEvent? {
    switch action {
    case .send(let connection, .cancel(let sequence, let of, _, _)):
      said.append("\(connection): cancel \(sequence) of \(of)")
    case .send(let connection, .hello(let hello)): said.append("\(connection): hello \(hello.acknowledged)")
    case .send(let connection, .gap(let first)): said.append("\(connection): gap \(first)")
    case .send(let connection, let message): said.append("\(connection): \(message.line)")
    case .deliver(let connection, let events, _):
      for event in events { said.append("\(connection): evict \(event.sequence) try \(event.attempt)") }
    case .answer(_, .ok(.acknowledged(let floor))): said.append("ok \(floor)")
    case .answer(_, .ok(.one(let op, let sequence, let after))):
      said.append("ok \(op) \(sequence)" + (after.map { " after \($0)" } ?? ""))
    case .answer(_, .ok(.kicked(let count))): said.append("ok kick \(count)")
    case .answer(_, .ok): said.append("ok")
    case .answer(_, .failure(let refused)):
      let generations = refused.stale.compactMap { $0.livingGeneration }.map { " gen \($0)" }.joined()
      said.append("err \(refused.code.rawValue)" + generations)
    case .answer: said.append("?")
    case .close(let connection, .failure(let refused)): said.append("\(connection): closed \(refused.code.rawValue)")
    case .close(let connection, _): said.append("\(connection): closed")
    case .read(let from, let limit, let scope):
      lastReadFrom = from
      let event = SubscriberEvent.read(readings(from: from, limit: limit, scope))
      if holdsReads { heldRead = event }
      return holdsReads ? nil : event
    case .verify(let evictions):
      return .verified(notDue: Set(evictions.map(\.sequence)).filter { notDue.contains($0) || settled.contains($0) })
    case .settle(let settlement):
      guard answersSettlements else {
        unanswered.append(settlement)
        return nil
      }
      return commit(settlement)
    case .keep(let request, let sequence, _, _):
      if keepOutcome == .kept { notDue.insert(sequence) }
      return .kept(request: request, sequence: sequence, keepOutcome)
    case .forget: said.append("forgotten")
    }
    return nil
  }

  private func readings(from: UInt64, limit: Int, _ scope: SubscriberScope) -> [JournalReading] {
    let start = max(from, first)
    guard start <= items.count else { return [] }
    return (start...min(UInt64(items.count), start + UInt64(limit) - 1)).map { sequence in
      var isDue = !notDue.contains(sequence) && !settled.contains(sequence)
      if case .evict(let entry, _, _, _, _, _) = items[Int(sequence) - 1], !scope.includes(entry.cache) {
        isDue = false
      }
      return JournalReading(sequence: sequence, item: items[Int(sequence) - 1], isDue: isDue)
    }
  }

  func commitResult(_ settlement: CursorSettlement) -> [EventMessage.StaleEvent] {
    settlement.evictions.compactMap { eviction in
      living[eviction.sequence].map { EventMessage.StaleEvent(sequence: eviction.sequence, livingGeneration: $0) }
    }
  }

  private mutating func commit(_ settlement: CursorSettlement) -> SubscriberEvent {
    settled.formUnion(settlement.evictions.map(\.sequence))
    settled.formUnion(settlement.unread.sequences)
    return .settled(settlement, stale: commitResult(settlement))
  }

  mutating func commitUnanswered() {
    let waiting = unanswered
    unanswered = []
    for settlement in waiting { step(commit(settlement)) }
  }
}
