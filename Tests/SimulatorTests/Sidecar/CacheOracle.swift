import Keyspace
import Primitives
import SidecarCore

/// What must hold of entries, journal and deliveries. It sees every revision of the sidecars' keys when the first member
/// applies it, every answer to a hit, and every delivery.
struct CacheOracle {
  struct Eviction {
    var entry: EntryName
    var generation: UInt64
    var decidedAt: Int64
    /// Called off, or settled.
    var endedAt: Int64?
  }

  /// What one subscriber was told and has answered.
  struct Told {
    var evictions: Set<UInt64> = []
    var cancels: Set<UInt64> = []
    var acknowledged: Set<UInt64> = []
    var highest: UInt64 = 0
  }

  /// How long after the faults, or after its cause, a step may take at most: a request's time-out and the retries.
  static let boundMilliseconds: Int64 = 12_000

  /// A cursor's delay, a sweep, and what both take.
  private static let trimMilliseconds: Int64 = 6_000

  private let layout = SimulatedSidecar.layout
  private var policies: [String: CachePolicy] = [:]
  private var revision: Int64 = 0
  private var records: [EntryName: EntryRecord] = [:]
  private var markers: [EntryName: UInt64] = [:]
  private var markerEndedAt: [EntryName: Int64] = [:]
  /// True time before which the entry may not be evicted for age.
  private var notBefore: [EntryName: Int64] = [:]
  private var head: JournalHead?
  private var items: [UInt64: JournalItem] = [:]
  private(set) var evictions: [UInt64: Eviction] = [:]
  private var told: [String: Told] = [:]
  /// Whose blob a consumer has called gone.
  private var gone: Set<EntryName> = []
  /// When an entry has changed last.
  private var changedAt: Int64 = 0
  /// When the faults ended.
  var healedAt: Int64?
  private(set) var expiredCount = 0
  private(set) var cancelledCount = 0

  init() {
    for policy in SimulatedSidecar.policies { policies[policy.name] = policy }
  }

  // MARK: Answers and deliveries

  /// A hit, or a registration, that was asked for at `asked` is answered: the entry lives.
  mutating func accepted(_ entry: EntryName, asked: Int64) {
    let moment = asked + policies[entry.cache]!.ttlMilliseconds * World.millisecond
    notBefore[entry] = max(notBefore[entry] ?? 0, moment)
  }

  mutating func acknowledges(_ sequences: [UInt64], as name: String, goneEntry: EntryName?) {
    told[name, default: Told()].acknowledged.formUnion(sequences)
    if let goneEntry { gone.insert(goneEntry) }
  }

  mutating func isCancelled(_ sequence: UInt64, at name: String) {
    told[name, default: Told()].cancels.insert(sequence)
  }

  /// Before the subscriber hears of it: the eviction stands, or stood when it was last looked at.
  mutating func delivers(_ event: EvictEvent, to name: String, checkedAt: Int64, _ world: World) {
    guard let eviction = evictions[event.sequence] else {
      return world.oracle.violate("\(name) is told of \(event.sequence), which was never decided")
    }
    world.oracle.expect(
      eviction.entry == event.entry && eviction.generation == event.generation,
      "\(name) is told something else of \(event.sequence) than was decided")
    world.oracle.expect(
      (eviction.endedAt ?? .max) >= checkedAt,
      "\(name) is told of \(event.sequence), but \(event.entry.path) lives again or is gone")
    guard told[name, default: Told()].evictions.insert(event.sequence).inserted else { return }
    world.oracle.expect(
      event.sequence > told[name]!.highest, "\(name) is told of \(event.sequence) after \(told[name]!.highest)")
    told[name]!.highest = event.sequence
    checkBound(since: eviction.decidedAt, "\(name) is told of \(event.sequence)", world)
  }

  private func checkBound(since: Int64, _ what: @autoclosure () -> String, _ world: World) {
    guard let healedAt else { return }
    let late = (world.now - max(since, healedAt)) / World.millisecond
    world.oracle.expect(late <= Self.boundMilliseconds, "\(what()) \(late) ms late")
  }

  // MARK: The store

  /// What a member has applied; revisions that another one had applied before are passed over.
  mutating func applied(_ events: [KeyspaceEvent], _ world: World) {
    var rest = events.drop { $0.record.modRevision <= revision }
    while let first = rest.first {
      let number = first.record.modRevision
      let group = rest.prefix { $0.record.modRevision == number }
      rest = rest.dropFirst(group.count)
      revision = number
      let own = group.filter { $0.record.key.hasPrefix(layout.prefix) }
      if !own.isEmpty { note(own, world) }
    }
  }

  private mutating func note(_ events: [KeyspaceEvent], _ world: World) {
    var changed: [EntryName: EntryRecord?] = [:]
    var touched: Set<EntryName> = []
    var newHead: JournalHead?
    var chunk: JournalChunk?
    do {
      for event in events {
        let key = event.record.key
        let isPut = event.kind == .put
        if key == layout.journalHead {
          newHead = try JournalHead(decoding: event.record.value)
        } else if key.hasPrefix(layout.allJournalChunks) {
          if isPut { chunk = try JournalChunk(decoding: event.record.value) }
        } else if key.hasPrefix(layout.allRecords), let entry = layout.entry(of: key) {
          changed[entry] = .some(isPut ? try EntryRecord(decoding: event.record.value) : nil)
          touched.insert(entry)
        } else if key.hasPrefix(layout.allMarkers), let entry = layout.entry(of: key) {
          markers[entry] = isPut ? try EntryMarker(decoding: event.record.value).generation : nil
          markerEndedAt[entry] = isPut ? nil : world.now
          touched.insert(entry)
        }
      }
    } catch {
      return world.oracle.violate("a sidecar's value cannot be read: \(error)")
    }
    if let newHead { note(newHead, chunk, &world.oracle) }
    if !changed.isEmpty { changedAt = world.now }
    for (entry, after) in changed {
      let before = records[entry]
      records[entry] = after
      change(entry, before, after, chunk, world)
    }
    for entry in touched { checkMarker(entry, &world.oracle) }
  }

  /// Dense, and nothing that is owed leaves it.
  private mutating func note(_ new: JournalHead, _ chunk: JournalChunk?, _ oracle: inout Oracle) {
    let before = head ?? JournalHead(epoch: new.epoch)
    head = new
    oracle.expect(new.epoch == before.epoch, "the journal has begun anew")
    oracle.expect(new.first >= before.first && new.first <= new.next, "the journal's beginning falls")
    for sequence in before.first..<max(before.first, new.first) {
      oracle.expect(evictions[sequence].map { $0.endedAt != nil } ?? true, "\(sequence) is owed and trimmed")
    }
    oracle.expect(
      new.next == before.next + UInt64(chunk?.items.count ?? 0), "the journal goes from \(before.next) to \(new.next)")
    guard let chunk else { return }
    oracle.expect(chunk.firstSequence == before.next, "a chunk begins with \(chunk.firstSequence), not \(before.next)")
    for (offset, item) in chunk.items.enumerated() { items[chunk.firstSequence + UInt64(offset)] = item }
  }

  private func checkMarker(_ entry: EntryName, _ oracle: inout Oracle) {
    guard let marker = markers[entry] else { return }
    guard let record = records[entry] else { return oracle.violate("\(entry.path) has a marker and no record") }
    oracle.expect(record.state == .live, "\(entry.path) is evicted and has a marker")
    oracle.expect(record.generation == marker, "the marker of \(entry.path) is of another generation")
  }

  // MARK: An entry's life

  private mutating func change(
    _ entry: EntryName, _ before: EntryRecord?, _ after: EntryRecord?, _ chunk: JournalChunk?, _ world: World
  ) {
    switch (before?.state, after?.state) {
    case (nil, .live?): world.oracle.expect(after!.generation == 1, "\(entry.path) begins at another generation")
    case (.live?, .live?):
      world.oracle.expect(after!.generation == before!.generation, "\(entry.path) changes its generation alive")
    case (.live?, .evicting(let sequence, let reason)?): evicts(entry, after!, sequence, reason, world)
    case (.evicting(let old, _)?, .evicting(let new, _)?):
      world.oracle.expect(
        old == new && after!.generation == before!.generation && after!.acknowledged,
        "\(entry.path) is evicted as \(new) while it is as \(old)")
    case (.evicting(let sequence, _)?, .live?): revives(entry, after!, before!, sequence, chunk, world)
    case (.evicting(let sequence, _)?, nil):
      evictions[sequence]?.endedAt = world.now
      for name in policies[entry.cache]!.subscribers {
        world.oracle.expect(
          told[name]?.acknowledged.contains(sequence) ?? false,
          "\(entry.path) is settled as \(sequence) without \(name)")
      }
    case (.live?, nil):
      world.oracle.expect(gone.contains(entry), "\(entry.path) goes alive")
      notBefore[entry] = nil
    case (nil, .evicting?): world.oracle.violate("\(entry.path) is evicted without having lived")
    case (nil, nil): break
    }
  }

  private mutating func evicts(
    _ entry: EntryName, _ record: EntryRecord, _ sequence: UInt64, _ reason: EvictionReason, _ world: World
  ) {
    guard case .evict(entry, record.generation, reason, _, _, _)? = items[sequence], evictions[sequence] == nil else {
      return world.oracle.violate("\(entry.path) is evicted as \(sequence), which the journal knows otherwise")
    }
    evictions[sequence] = Eviction(entry: entry, generation: record.generation, decidedAt: world.now)
    world.oracle.expect(markers[entry] == nil, "\(entry.path) is evicted as \(sequence) while its lease runs")
    defer { notBefore[entry] = nil }
    guard reason == .expired else { return }
    expiredCount += 1
    let early = ((notBefore[entry] ?? 0) - world.now) / World.millisecond
    world.oracle.expect(early <= 0, "\(entry.path) is evicted as \(sequence), \(early) ms early")
    if let ended = markerEndedAt[entry] {
      checkBound(since: ended, "\(entry.path) is evicted as \(sequence)", world)
    }
  }

  private mutating func revives(
    _ entry: EntryName, _ after: EntryRecord, _ before: EntryRecord, _ sequence: UInt64, _ chunk: JournalChunk?,
    _ world: World
  ) {
    cancelledCount += 1
    evictions[sequence]?.endedAt = world.now
    world.oracle.expect(
      after.generation == before.generation + 1, "\(entry.path) lives again as generation \(after.generation)")
    world.oracle.expect(
      chunk?.items.contains(.cancel(entry, of: sequence, generation: after.generation)) ?? false,
      "\(entry.path) lives again and nobody is told")
  }

  // MARK: The end

  /// Long after the last fault and the last request: everything was evicted, told, acknowledged and forgotten.
  func checkEnd(_ oracle: inout Oracle, now: Int64) {
    for (entry, record) in records {
      oracle.violate("\(entry.path) is \(record.state) at the end, its lease ended: \(markers[entry] == nil)")
    }
    let isTrimmed = head.map { $0.first == $0.next } ?? true
    oracle.expect(
      isTrimmed || now - changedAt < Self.trimMilliseconds * World.millisecond,
      "the journal is not trimmed: \(String(describing: head))")
    for (sequence, item) in items {
      guard case .cancel(let entry, _, _) = item else { continue }
      for name in policies[entry.cache]!.subscribers {
        oracle.expect(told[name]?.cancels.contains(sequence) ?? false, "\(name) is never told of cancel \(sequence)")
      }
    }
  }
}
