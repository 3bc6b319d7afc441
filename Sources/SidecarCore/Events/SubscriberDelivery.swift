import Primitives

/// Reading the journal, delivering, delivering again, parking.
extension SubscriberState {
  /// Asks for the next read or delivery when the connection has room. What is ready again goes before what is new.
  mutating func pump(at now: Int64, into actions: inout [SubscriberAction]) {
    guard let attachment, !attachment.isPaused, !attachment.isCongested, attachment.allowance > 0 else { return }
    guard !isReading, verifying.isEmpty, now >= readAgainAt else { return }
    parkExhausted()
    if ready.isEmpty {
      readNew(attachment, into: &actions)
    } else {
      redeliver(attachment, at: now, into: &actions)
    }
  }

  private mutating func readNew(_ attachment: Attachment, into actions: inout [SubscriberAction]) {
    let room = min(attachment.inflight - tracked.count, attachment.allowance)
    guard room > 0, parked.count < Self.maxParked else { return }
    readPosition = cursor.firstMissing(from: readPosition)
    guard readPosition <= bounds.head else { return }
    isReading = true
    readStart = readPosition
    let limit = min(max(room, Self.minItemsPerRead), Self.maxItemsPerRead)
    actions.append(.read(from: readPosition, limit: limit, scope))
  }

  private mutating func redeliver(_ attachment: Attachment, at now: Int64, into actions: inout [SubscriberAction]) {
    let delivered = tracked.count - ready.count
    let room = min(attachment.inflight - delivered, attachment.allowance, Self.maxItemsPerRead)
    guard room > 0 else { return }
    verifying = Array(ready.sequences.prefix(room))
    for sequence in verifying { setPhase(.verifying, of: sequence) }
    let evictions = verifying.compactMap { eviction($0) }
    if evictions.isEmpty {
      deliverVerified(except: [], at: now, into: &actions)
    } else {
      actions.append(.verify(evictions))
    }
  }

  private mutating func parkExhausted() {
    guard !ready.isEmpty else { return }
    for sequence in Array(ready.sequences) {
      guard let event = tracked[sequence], event.deliveries >= Limits.maxDeliveryTries else { continue }
      park(sequence)
    }
  }

  mutating func park(_ sequence: UInt64) {
    untrack(sequence)
    parked.insert(sequence)
    isParkedUnpersisted = true
  }

  /// The eviction tracked under this number; nil for a cancel and for what is not tracked.
  func eviction(_ sequence: UInt64) -> CursorSettlement.Eviction? {
    guard case .evict(let entry, let generation, _, _, _, _)? = tracked[sequence]?.item else { return nil }
    return CursorSettlement.Eviction(sequence: sequence, entry: entry, generation: generation)
  }

  /// New items, in order. Takes as many as there is room for; the rest is read again later.
  mutating func take(_ readings: [JournalReading], at now: Int64, into actions: inout [SubscriberAction]) {
    isReading = false
    // A kick has gone back meanwhile: what lies between is neither gone nor read. All of it is read again from there.
    guard readPosition >= readStart else { return }
    guard let first = readings.first else {
      // The head had promised more.
      readAgainAt = now + Self.retryMilliseconds
      return
    }
    if first.sequence > readPosition, cursor.floor + 1 < first.sequence {
      skip(to: first.sequence, at: now, into: &actions)
    }
    let inflight = attachment?.inflight ?? Subscription.inflightRange.lowerBound
    let mostNew = attachment?.allowance ?? inflight
    var fresh: [UInt64] = []
    for reading in readings where reading.sequence >= readPosition {
      let isKnown =
        cursor.contains(reading.sequence) || tracked[reading.sequence] != nil || parked.contains(reading.sequence)
      if !isKnown {
        if isOwed(reading) {
          guard tracked.count < inflight, fresh.count < mostNew else { break }
          tracked[reading.sequence] = Tracked(item: reading.item, deliveries: 0, phase: .ready)
          ready.insert(reading.sequence)
          fresh.append(reading.sequence)
          noteCancel(reading.item)
        } else {
          pass(reading.sequence...reading.sequence, at: now)
        }
      }
      readPosition = reading.sequence + 1
    }
    guard let attachment, !attachment.isPaused, !attachment.isCongested else { return }
    deliver(fresh, at: now, into: &actions)
  }

  private func isOwed(_ reading: JournalReading) -> Bool {
    switch reading.item {
    case .evict(let entry, _, _, _, _, _): reading.isDue && scope.includes(entry.cache)
    case .cancel(let entry, _, _): scope.includes(entry.cache)
    }
  }

  /// A delivered eviction that is off is not delivered again.
  private mutating func noteCancel(_ item: JournalItem) {
    guard case .cancel(_, let of, let generation) = item else { return }
    switch tracked[of]?.phase {
    case .delivered, .backingOff: setPhase(.cancelled(generation: generation), of: of)
    case nil, .ready, .verifying, .cancelled, .settling: break
    }
  }

  mutating func deliverVerified(
    except notDue: Set<UInt64>, at now: Int64, into actions: inout [SubscriberAction]
  ) {
    let sequences = verifying.filter { tracked[$0]?.phase == .verifying }
    verifying = []
    for sequence in sequences {
      if notDue.contains(sequence) {
        pass(sequence...sequence, at: now)
      } else {
        makeReady(sequence)
      }
    }
    guard let attachment, !attachment.isPaused, !attachment.isCongested else { return }
    deliver(sequences.filter { tracked[$0] != nil }, at: now, into: &actions)
  }

  /// Neighbouring evictions make one action; a cancel stands between.
  private mutating func deliver(_ sequences: [UInt64], at now: Int64, into actions: inout [SubscriberAction]) {
    guard let attachment else { return }
    var events: [EvictEvent] = []
    func flush() {
      guard !events.isEmpty else { return }
      actions.append(.deliver(connection: attachment.connection, events, batch: attachment.batch))
      events = []
    }
    for sequence in sequences.prefix(attachment.allowance) {
      guard var event = tracked[sequence] else { continue }
      event.deliveries += 1
      if event.deliveries > 1 { redelivered += 1 }
      tracked[sequence] = event
      setPhase(.delivered(deadline: now + attachment.ackWaitMilliseconds), of: sequence)
      if self.attachment?.allowance != .max { self.attachment?.allowance -= 1 }
      switch event.item {
      case .evict(let entry, let generation, let reason, let size, let idle, let registered):
        events.append(
          EvictEvent(
            sequence: sequence, entry: entry, generation: generation, reason: reason, sizeBytes: size,
            idleMilliseconds: idle, registeredAtMilliseconds: registered, attempt: event.deliveries))
      case .cancel(let entry, let of, let generation):
        flush()
        actions.append(
          .send(
            connection: attachment.connection,
            .cancel(sequence: sequence, of: of, entry, generation: generation)))
      }
    }
    flush()
  }

  mutating func passTime(at now: Int64, into actions: inout [SubscriberAction]) {
    for (sequence, event) in tracked {
      switch event.phase {
      case .delivered(let deadline): if deadline <= now { makeReady(sequence) }
      case .backingOff(let until): if until <= now { makeReady(sequence) }
      case .ready, .verifying, .cancelled, .settling: break
      }
    }
    let isOld = unpersistedSince.map { now - $0 >= Self.persistDelayMilliseconds } ?? false
    if isOld || isParkedUnpersisted {
      actions.append(.settle(takeUnpersisted(into: CursorSettlement())))
    }
  }

  /// Adds what is waiting to be committed anyway.
  mutating func takeUnpersisted(into settlement: CursorSettlement) -> CursorSettlement {
    var result = settlement
    for range in unpersisted.ranges { result.passed.insert(range) }
    unpersisted = SequenceSet()
    unpersistedSince = nil
    if isParkedUnpersisted {
      result.parked = parked
      isParkedUnpersisted = false
    }
    return result
  }
}
