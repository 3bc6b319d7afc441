import Keyspace
import Primitives

/// One subscriber's acknowledgement of one eviction.
package struct Acknowledgement: Hashable, Sendable {
  package var sequence: UInt64
  package var entry: EntryName
  package var generation: UInt64
  /// Every subscriber that this eviction waits for has acknowledged it now.
  package var isLast: Bool
  /// The consumer says that the blob is gone, even if the entry has come back to life meanwhile: then the entry is
  /// dropped.
  package var blobIsGone: Bool

  package init(sequence: UInt64, entry: EntryName, generation: UInt64, isLast: Bool, blobIsGone: Bool = false) {
    self.sequence = sequence
    self.entry = entry
    self.generation = generation
    self.isLast = isLast
    self.blobIsGone = blobIsGone
  }
}

extension EntrySettlement {
  package init(of stored: StoredEntry, by acknowledgement: Acknowledgement, layout: StoreLayout) {
    self.init(
      of: stored, sequence: acknowledgement.sequence, generation: acknowledgement.generation,
      isLast: acknowledgement.isLast, blobIsGone: acknowledgement.blobIsGone, layout: layout)
  }
}

/// What several subscribers ask for at a time, put together for one commit: the directory as it will be, the
/// acknowledgements with the verdict whose is the last, and the cursors that go with them.
///
/// Batches are committed one after another; so the directory of the one before is the truth for the next.
package struct SettlementBatch: Sendable {
  package private(set) var directory: SubscriberDirectory
  package private(set) var acknowledgements: [Acknowledgement] = []
  private let before: SubscriberDirectory
  private var touched: Set<String> = []
  /// How many acknowledgements each request has added.
  private var counts: [Int] = []

  package init(_ directory: SubscriberDirectory) {
    self.directory = directory
    before = directory
  }

  // MARK: Requests, each of which counts for `stale`

  package mutating func add(_ settlement: CursorSettlement, by name: String) {
    touched.insert(name)
    directory.acknowledge(settlement.sequences, by: name)
    if let parked = settlement.parked { directory.setParked(parked, of: name) }
    for eviction in settlement.evictions {
      acknowledgements.append(
        Acknowledgement(
          sequence: eviction.sequence, entry: eviction.entry, generation: eviction.generation,
          isLast: directory.isAcknowledgedByAll(eviction.sequence, cache: eviction.entry.cache),
          blobIsGone: settlement.blobIsGone))
    }
    counts.append(settlement.evictions.count)
  }

  /// Makes a subscriber's record where there is none.
  package mutating func create(_ name: String, _ record: SubscriberRecord) {
    touched.insert(name)
    if directory.records[name] == nil { directory.put(record, for: name) }
    counts.append(0)
  }

  package mutating func forget(_ name: String) {
    touched.insert(name)
    directory.forget(name)
    counts.append(0)
  }

  // MARK: What comes of them

  /// The cursors that have changed, by name.
  package func cursors(_ layout: StoreLayout) -> [Operation] {
    touched.sorted().compactMap { name in
      let record = directory.records[name]
      guard record != before.records[name] else { return nil }
      let key = layout.subscriber(name)
      return record.map { .put(PutRequest(key, $0.encoded())) } ?? .delete(DeleteRequest(.single(key)))
    }
  }

  /// The stale ones among the acknowledgements of each request.
  package func stale(_ verdicts: [EntrySettlement.Verdict]) -> [[EventMessage.StaleEvent]] {
    var stale: [[EventMessage.StaleEvent]] = []
    var index = 0
    for count in counts {
      stale.append(
        (index..<index + count).compactMap { place in
          // Gone altogether is what an acknowledgement wants.
          guard place < verdicts.count, case .stale(let generation?) = verdicts[place] else { return nil }
          return EventMessage.StaleEvent(
            sequence: acknowledgements[place].sequence, livingGeneration: generation)
        })
      index += count
    }
    return stale
  }
}

extension SubscriberDirectory {
  /// What a sweep does about evictions of which everybody may have heard: those that are still due and acknowledged by
  /// all are settled; the first that is due and waits for somebody has to stay in the journal, with all behind it.
  package func sweep(
    _ evictions: [CursorSettlement.Eviction], due: [Bool]
  ) -> (settled: [Acknowledgement], owed: UInt64?) {
    var settled: [Acknowledgement] = []
    for (eviction, isDue) in zip(evictions, due) where isDue {
      guard isAcknowledgedByAll(eviction.sequence, cache: eviction.entry.cache) else {
        return (settled, eviction.sequence)
      }
      settled.append(
        Acknowledgement(
          sequence: eviction.sequence, entry: eviction.entry, generation: eviction.generation, isLast: true))
    }
    return (settled, nil)
  }
}

extension SubscriberRecord {
  /// What is not told to this subscriber is not its to acknowledge.
  package func isTold(of eviction: CursorSettlement.Eviction) -> Bool {
    scope.includes(eviction.entry.cache) && start <= eviction.sequence
  }
}

extension JournalItem {
  package func eviction(sequence: UInt64) -> CursorSettlement.Eviction? {
    guard case .evict(let entry, let generation, _, _, _, _) = self else { return nil }
    return CursorSettlement.Eviction(sequence: sequence, entry: entry, generation: generation)
  }
}
