import Primitives

/// One named subscriber: its durable cursor, what has been delivered to it, and the rules of when again.
///
/// A value that takes events with the time and appends actions; the shell does the reading, sending and committing.
/// At most one `.read` or `.verify` is under way at a time, so that first deliveries keep the journal's order.
///
/// The life of an event here:
///
///     read, due ──▶ ready ──▶ verifying ──▶ delivered ──ack──▶ settling ──▶ (in the cursor)
///                     ▲  ▲                   │     │ └──nak──▶ backing off ─┐
///                     │  └──── ackwait over ─┘     └─cancel read─▶ cancelled│
///                     └─────────────────────────────────────────────────────┘
///
/// After `Limits.maxDeliveryTries` deliveries it is parked instead of delivered again.
package struct SubscriberState: Sendable {
  enum Phase: Hashable, Sendable {
    /// To be delivered when there is room.
    case ready
    /// Its eviction is being checked; delivered next.
    case verifying
    case delivered(deadline: Int64)
    /// Refused; `ready` again at `until`.
    case backingOff(until: Int64)
    /// Delivered, and the journal says that it is off: not delivered again, an acknowledgement is stale.
    case cancelled(generation: UInt64)
    /// Acknowledged or vetoed; being committed.
    case settling
  }

  struct Tracked: Sendable {
    var item: JournalItem
    var deliveries: Int
    var phase: Phase
  }

  struct Attachment: Sendable {
    let connection: UInt64
    let kind: AttachmentKind
    let inflight: Int
    let batch: Int
    let ackWaitMilliseconds: Int64
    var isPaused = false
    var isCongested = false
    /// How many more events this connection may get; only a poll has a bound.
    var allowance: Int
  }

  /// What to say when a settlement is committed.
  enum PendingAnswer: Sendable {
    case acknowledged
    case one(op: String, UInt64)
    case kicked(Int)
    /// Ends this connection.
    case unsubscribed(connection: UInt64)
  }

  /// Items of one read: bounds the work and the memory of one step.
  static let maxItemsPerRead = 500
  /// A read of few items costs as much as one of this many.
  static let minItemsPerRead = 32
  /// More parked events than this stop the reading: they hold holes in the cursor open.
  package static let maxParked = 10_000
  static let retryMilliseconds: Int64 = 1_000
  /// How long the cursor's progress over passed items may stay uncommitted.
  static let persistDelayMilliseconds: Int64 = 1_000

  package let name: String
  package let scope: SubscriberScope
  package internal(set) var cursor: SubscriberCursor
  package internal(set) var parked: SequenceSet
  var bounds: JournalBounds
  /// The next sequence number to read.
  var readPosition: UInt64
  var tracked: [UInt64: Tracked] = [:]
  /// Those tracked whose phase is `.ready`.
  var ready = SequenceSet()
  var verifying: [UInt64] = []
  var isReading = false
  /// Where the read under way, or the last one, began.
  var readStart: UInt64 = 0
  /// After a failed read: not again before.
  var readAgainAt: Int64 = .min
  var attachment: Attachment?
  var pendingAnswers: [UInt64: PendingAnswer] = [:]
  /// Cursor progress that no settlement carries yet, and since when.
  var unpersisted = SequenceSet()
  var unpersistedSince: Int64?
  var isParkedUnpersisted = false
  var lastAckWaitMilliseconds: Int64 = 60_000
  var redelivered: UInt64 = 0
  var generator: SeededGenerator

  package init(name: String, record: SubscriberRecord, bounds: JournalBounds, seed: UInt64) {
    self.name = name
    self.bounds = bounds
    scope = record.scope
    cursor = record.cursor
    parked = record.parked
    readPosition = record.cursor.floor + 1
    generator = SeededGenerator(seed: seed)
  }

  package var connection: UInt64? { attachment?.connection }
  package var unacknowledgedCount: Int { tracked.count }
  package var acknowledgeWaitMilliseconds: Int64 { attachment?.ackWaitMilliseconds ?? lastAckWaitMilliseconds }
  /// Whether `.clock` has anything to do.
  package var needsClock: Bool { !tracked.isEmpty || unpersistedSince != nil || attachment != nil }

  package var statistics: SubscriberStatistics {
    SubscriberStatistics(
      name: name, isConnected: attachment != nil, isPaused: attachment?.isPaused ?? false, head: bounds.head,
      acknowledged: cursor.floor, unacknowledged: tracked.count, parked: parked.count, redelivered: redelivered)
  }

  /// `now`: milliseconds on any clock that never runs back.
  package mutating func step(_ event: SubscriberEvent, at now: Int64, into actions: inout [SubscriberAction]) {
    switch event {
    case .attached(let connection, let subscription, let kind, let node, let bounds):
      attach(connection, subscription, kind, node: node, bounds, at: now, into: &actions)
    case .detached(let connection):
      if attachment?.connection == connection { attachment = nil }
    case .advanced(let bounds):
      self.bounds.first = max(self.bounds.first, bounds.first)
      self.bounds.head = max(self.bounds.head, bounds.head)
    case .congested(let connection):
      if attachment?.connection == connection { attachment?.isCongested = true }
    case .writable(let connection):
      if attachment?.connection == connection { attachment?.isCongested = false }
    case .read(let readings): take(readings, at: now, into: &actions)
    case .verified(let notDue): deliverVerified(except: notDue, at: now, into: &actions)
    case .readFailed: retryLater(at: now)
    case .op(let op, let request): perform(op, request: request, at: now, into: &actions)
    case .settled(let settlement, let stale): finish(settlement, stale: stale, at: now, into: &actions)
    case .unsettled(let settlement): giveBack(settlement, at: now, into: &actions)
    case .kept(let request, let sequence, let outcome):
      finishKeep(request: request, sequence: sequence, outcome, at: now, into: &actions)
    case .clock: passTime(at: now, into: &actions)
    }
    pump(at: now, into: &actions)
  }

  private mutating func attach(
    _ connection: UInt64, _ subscription: Subscription, _ kind: AttachmentKind, node: String,
    _ bounds: JournalBounds, at now: Int64, into actions: inout [SubscriberAction]
  ) {
    if let older = attachment {
      actions.append(
        .close(connection: older.connection, .refused(.fenced, "a newer connection has subscribed as \(name)")))
    }
    var allowance = Int.max
    if case .poll(let limit) = kind { allowance = limit }
    attachment = Attachment(
      connection: connection, kind: kind, inflight: subscription.inflight, batch: subscription.batch,
      ackWaitMilliseconds: subscription.ackWaitMilliseconds, allowance: allowance)
    lastAckWaitMilliseconds = subscription.ackWaitMilliseconds
    self.bounds = bounds
    guard kind == .stream else { return skipTrimmed(at: now, into: &actions) }
    actions.append(
      .send(
        connection: connection,
        .hello(
          EventMessage.Hello(
            node: node, epoch: bounds.epoch, first: bounds.first, head: bounds.head, acknowledged: cursor.floor))))
    skipTrimmed(at: now, into: &actions)
    for (sequence, event) in tracked {
      switch event.phase {
      case .delivered, .backingOff: makeReady(sequence)
      case .cancelled: pass(sequence...sequence, at: now)
      case .ready, .verifying, .settling: break
      }
    }
  }

  /// A cursor older than the journal: the subscriber is told to list what is owed, and goes on at its start.
  private mutating func skipTrimmed(at now: Int64, into actions: inout [SubscriberAction]) {
    guard cursor.floor + 1 < bounds.first else { return }
    skip(to: bounds.first, at: now, into: &actions)
  }

  mutating func skip(to first: UInt64, at now: Int64, into actions: inout [SubscriberAction]) {
    if let attachment, attachment.kind == .stream {
      actions.append(.send(connection: attachment.connection, .gap(first: first)))
    }
    // Nothing can be said any more about events that are gone from the journal; those in memory still count.
    var lost = SequenceSet([(cursor.floor + 1)...(first - 1)])
    for sequence in tracked.keys { lost.remove(sequence) }
    for range in lost.ranges {
      pass(range, at: now)
      if !parked.isEmpty {
        parked.remove(range)
        isParkedUnpersisted = true
      }
    }
    readPosition = max(readPosition, first)
  }

  mutating func makeReady(_ sequence: UInt64) {
    tracked[sequence]?.phase = .ready
    ready.insert(sequence)
  }

  mutating func setPhase(_ phase: Phase, of sequence: UInt64) {
    tracked[sequence]?.phase = phase
    if phase != .ready { ready.remove(sequence) }
  }

  @discardableResult
  mutating func untrack(_ sequence: UInt64) -> Tracked? {
    ready.remove(sequence)
    return tracked.removeValue(forKey: sequence)
  }

  mutating func untrackAll(in range: ClosedRange<UInt64>) {
    if range.upperBound - range.lowerBound < UInt64(tracked.count) {
      for sequence in range { untrack(sequence) }
    } else {
      for sequence in tracked.keys where range.contains(sequence) { untrack(sequence) }
    }
  }

  /// Counts as acknowledged without anybody's saying so; committed in a while.
  mutating func pass(_ range: ClosedRange<UInt64>, at now: Int64) {
    untrackAll(in: range)
    cursor.insert(range)
    unpersisted.insert(range)
    if unpersistedSince == nil { unpersistedSince = now }
  }

  mutating func retryLater(at now: Int64) {
    isReading = false
    readAgainAt = now + Self.retryMilliseconds
    for sequence in verifying where tracked[sequence]?.phase == .verifying { makeReady(sequence) }
    verifying = []
  }
}
