import Primitives

/// What a subscriber says about its events, and what it is answered.
extension SubscriberState {
  static let minBackOffMilliseconds: Int64 = 1_000
  static let maxBackOffMilliseconds: Int64 = 300_000
  /// The longest wait that a nak may ask for.
  static let maxAskedWaitMilliseconds: Int64 = 86_400_000

  mutating func perform(_ op: SubscriberOp, request: UInt64, at now: Int64, into actions: inout [SubscriberAction]) {
    switch op {
    case .subscribe:
      actions.append(.answer(request: request, .refused(.nosub, "this connection is subscribed already")))
    case .acknowledge(let sequences, let isGone):
      acknowledge(sequences, blobIsGone: isGone, request: request, into: &actions)
    case .nak(let sequence, let after):
      actions.append(.answer(request: request, nak(sequence, after: after, at: now)))
    case .working(let sequence):
      actions.append(.answer(request: request, extendWait(of: sequence, at: now)))
    case .keep(let sequence, let ttl): keep(sequence, ttl, request: request, into: &actions)
    case .terminate(let sequence, _): terminate(sequence, request: request, into: &actions)
    case .stat: actions.append(.answer(request: request, .ok(.statistics(statistics))))
    case .pause:
      attachment?.isPaused = true
      actions.append(.answer(request: request, .ok(.plain(op: "pause"))))
    case .resume:
      attachment?.isPaused = false
      actions.append(.answer(request: request, .ok(.plain(op: "resume"))))
    case .unsubscribe(let forget): unsubscribe(forget: forget, request: request, into: &actions)
    case .kick: kick(request: request, into: &actions)
    }
  }

  // MARK: ack

  private mutating func acknowledge(
    _ acknowledged: AcknowledgedSequences, blobIsGone: Bool, request: UInt64, into actions: inout [SubscriberAction]
  ) {
    var settlement = CursorSettlement()
    settlement.request = request
    settlement.blobIsGone = blobIsGone
    let sequences: [UInt64]
    switch acknowledged {
    case .through(let last):
      guard last <= bounds.head else { return refuseBeyondHead(last, request, into: &actions) }
      sequences = tracked.keys.filter { $0 <= last }.sorted()
      settlement.unread = untouched(through: last, besides: sequences)
    case .only(let list):
      if let beyond = list.first(where: { $0 > bounds.head }) {
        return refuseBeyondHead(beyond, request, into: &actions)
      }
      sequences = list.filter { tracked[$0] != nil }
      // A blob that is gone matters even when the event itself is long settled.
      for sequence in list where tracked[sequence] == nil && (blobIsGone || !cursor.contains(sequence)) {
        settlement.unread.insert(sequence)
      }
    }
    for sequence in sequences { add(sequence, to: &settlement) }
    pendingAnswers[request] = .acknowledged
    actions.append(.settle(takeUnpersisted(into: settlement)))
  }

  private func refuseBeyondHead(_ sequence: UInt64, _ request: UInt64, into actions: inout [SubscriberAction]) {
    actions.append(.answer(request: request, .refused(.stale, "\(sequence) is beyond the head, \(bounds.head)")))
  }

  /// What a cumulative acknowledgement covers beside what is tracked: numbers delivered before a restart. Parked events
  /// are not covered.
  private func untouched(through last: UInt64, besides known: [UInt64]) -> SequenceSet {
    guard last > cursor.floor else { return SequenceSet() }
    var result = SequenceSet([(cursor.floor + 1)...last])
    for range in cursor.above.ranges { result.remove(range) }
    for range in parked.ranges { result.remove(range) }
    for sequence in known { result.remove(sequence) }
    return result
  }

  private mutating func add(_ sequence: UInt64, to settlement: inout CursorSettlement) {
    guard let event = tracked[sequence] else { return }
    setPhase(.settling, of: sequence)
    switch event.item {
    case .evict:
      if let eviction = eviction(sequence) { settlement.evictions.append(eviction) }
    case .cancel(_, let of, _):
      settlement.passed.insert(sequence)
      // Who has understood the cancel is done with what it cancels.
      if case .cancelled? = tracked[of]?.phase {
        setPhase(.settling, of: of)
        settlement.passed.insert(of)
      }
    }
  }

  mutating func finish(
    _ settlement: CursorSettlement, stale: [EventMessage.StaleEvent], at now: Int64,
    into actions: inout [SubscriberAction]
  ) {
    for range in settlement.sequences.ranges {
      cursor.insert(range)
      untrackAll(in: range)
    }
    for range in settlement.unread.ranges { parked.remove(range) }
    guard let request = settlement.request, let pending = pendingAnswers.removeValue(forKey: request) else { return }
    switch pending {
    case .acknowledged:
      actions.append(.answer(request: request, answer(stale: stale)))
    case .one(let op, let sequence): actions.append(.answer(request: request, .ok(.one(op: op, sequence: sequence))))
    case .kicked(let count): actions.append(.answer(request: request, .ok(.kicked(count: count))))
    case .unsubscribed(let connection):
      actions.append(.answer(request: request, .ok(.plain(op: "unsub"))))
      actions.append(.close(connection: connection, nil))
    }
  }

  private func answer(stale: [EventMessage.StaleEvent]) -> EventMessage {
    guard let first = stale.first else { return .ok(.acknowledged(floor: cursor.floor)) }
    let message =
      stale.count == 1
      ? first.livingGeneration.map { "the entry lives again as generation \($0)" } ?? "the entry lives again"
      : "\(stale.count) entries live again; the rest is acknowledged"
    return .failure(EventMessage.Refused(.stale, message, stale: stale))
  }

  /// Not committed: the events wait for an acknowledgement as before.
  mutating func giveBack(_ settlement: CursorSettlement, at now: Int64, into actions: inout [SubscriberAction]) {
    let sequences = settlement.sequences
    for (sequence, event) in tracked where event.phase == .settling && sequences.contains(sequence) {
      setPhase(.delivered(deadline: now + acknowledgeWaitMilliseconds), of: sequence)
    }
    for range in settlement.passed.ranges where cursor.contains(range.lowerBound) {
      unpersisted.insert(range)
      unpersistedSince = now
    }
    if settlement.parked != nil { isParkedUnpersisted = true }
    guard let request = settlement.request, pendingAnswers.removeValue(forKey: request) != nil else { return }
    actions.append(.answer(request: request, .refused(.unavailable, "the store did not take it; ask again")))
  }

  // MARK: nak, wip, keep, term, kick, unsub

  private func notWaiting(_ sequence: UInt64) -> EventMessage {
    if case .cancelled(let generation)? = tracked[sequence]?.phase {
      return .failure(
        EventMessage.Refused(
          .stale, "the entry lives again as generation \(generation)",
          stale: [EventMessage.StaleEvent(sequence: sequence, livingGeneration: generation)]))
    }
    return .failure(
      EventMessage.Refused(
        .stale, "\(sequence) does not wait for an answer",
        stale: [EventMessage.StaleEvent(sequence: sequence, livingGeneration: nil)]))
  }

  private func isWaiting(_ sequence: UInt64) -> Bool {
    switch tracked[sequence]?.phase {
    case .ready, .delivered, .backingOff, .verifying: true
    case nil, .cancelled, .settling: false
    }
  }

  private mutating func nak(_ sequence: UInt64, after: Int64?, at now: Int64) -> EventMessage {
    guard isWaiting(sequence), let event = tracked[sequence] else { return notWaiting(sequence) }
    let wait = after.map { min($0, Self.maxAskedWaitMilliseconds) } ?? backOff(deliveries: event.deliveries)
    setPhase(.backingOff(until: now + wait), of: sequence)
    return .ok(.one(op: "nak", sequence: sequence, afterMilliseconds: wait))
  }

  /// Doubles from 1 s to 5 min with the deliveries, and up to a quarter more, so that what was refused together does
  /// not come back together.
  mutating func backOff(deliveries: Int) -> Int64 {
    let doublings = min(max(deliveries - 1, 0), 20)
    let base = min(Self.minBackOffMilliseconds << Int64(doublings), Self.maxBackOffMilliseconds)
    return min(base + Int64.random(in: 0...base / 4, using: &generator), Self.maxBackOffMilliseconds)
  }

  private mutating func extendWait(of sequence: UInt64, at now: Int64) -> EventMessage {
    guard isWaiting(sequence), tracked[sequence]?.deliveries ?? 0 > 0 else { return notWaiting(sequence) }
    setPhase(.delivered(deadline: now + acknowledgeWaitMilliseconds), of: sequence)
    return .ok(.one(op: "wip", sequence: sequence))
  }

  private mutating func keep(
    _ sequence: UInt64, _ ttl: Int64?, request: UInt64, into actions: inout [SubscriberAction]
  ) {
    if let eviction = eviction(sequence), isWaiting(sequence) {
      setPhase(.settling, of: sequence)
      actions.append(.keep(request: request, sequence: sequence, entry: eviction.entry, ttlMilliseconds: ttl))
    } else if tracked[sequence] == nil, !cursor.contains(sequence), sequence <= bounds.head {
      actions.append(.keep(request: request, sequence: sequence, entry: nil, ttlMilliseconds: ttl))
    } else {
      actions.append(.answer(request: request, notWaiting(sequence)))
    }
  }

  mutating func finishKeep(
    request: UInt64, sequence: UInt64, _ outcome: KeepOutcome, at now: Int64, into actions: inout [SubscriberAction]
  ) {
    let answer: EventMessage
    switch outcome {
    case .kept:
      pass(sequence...sequence, at: now)
      answer = .ok(.one(op: "keep", sequence: sequence))
    case .stale(let generation):
      pass(sequence...sequence, at: now)
      let event = EventMessage.StaleEvent(sequence: sequence, livingGeneration: generation)
      let message = generation.map { "the entry lives again as generation \($0)" } ?? "the entry is gone already"
      answer = .failure(EventMessage.Refused(.stale, message, stale: [event]))
    case .tooLate:
      if tracked[sequence] != nil { setPhase(.delivered(deadline: now + acknowledgeWaitMilliseconds), of: sequence) }
      answer = .refused(.stale, "another subscriber has acknowledged \(sequence) already: it cannot be kept any more")
    case .unknown: answer = notWaiting(sequence)
    case .failed:
      if tracked[sequence] != nil { setPhase(.delivered(deadline: now + acknowledgeWaitMilliseconds), of: sequence) }
      answer = .refused(.unavailable, "the store did not take it; ask again")
    }
    if case .kept = outcome, parked.contains(sequence) {
      parked.remove(sequence)
      isParkedUnpersisted = true
    }
    actions.append(.answer(request: request, answer))
  }

  private mutating func terminate(_ sequence: UInt64, request: UInt64, into actions: inout [SubscriberAction]) {
    guard isWaiting(sequence) else {
      actions.append(.answer(request: request, notWaiting(sequence)))
      return
    }
    park(sequence)
    settle(request, .one(op: "term", sequence), into: &actions)
  }

  /// Parked events are read from the journal again, with their tries counted afresh.
  private mutating func kick(request: UInt64, into actions: inout [SubscriberAction]) {
    let count = parked.count
    if let first = parked.first {
      readPosition = min(readPosition, first)
      parked = SequenceSet()
      isParkedUnpersisted = true
    }
    settle(request, .kicked(count), into: &actions)
  }

  private mutating func settle(_ request: UInt64, _ answer: PendingAnswer, into actions: inout [SubscriberAction]) {
    pendingAnswers[request] = answer
    var settlement = CursorSettlement()
    settlement.request = request
    actions.append(.settle(takeUnpersisted(into: settlement)))
  }

  private mutating func unsubscribe(forget: Bool, request: UInt64, into actions: inout [SubscriberAction]) {
    if forget {
      actions.append(.forget(request: request))
    } else if let connection = attachment?.connection {
      attachment = nil
      // Behind the acknowledgements that this connection still waits for.
      settle(request, .unsubscribed(connection: connection), into: &actions)
    } else {
      actions.append(.answer(request: request, .ok(.plain(op: "unsub"))))
    }
  }
}
