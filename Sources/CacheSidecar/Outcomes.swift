import Keyspace
import Primitives
import SidecarCore

/// What subscribers do to entries, for the event half.
final class Outcomes: EvictionOutcomes {
  private let context: SidecarContext
  private let journal: JournalWriter
  private let caches: [String: SidecarCache]
  private static let maxRounds = 16

  init(context: SidecarContext, journal: JournalWriter, caches: [String: SidecarCache]) {
    self.context = context
    self.journal = journal
    self.caches = caches
  }

  func areDue(_ items: [(sequence: UInt64, entry: EntryName)]) async throws(SidecarStoreError) -> [Bool] {
    var due: [Bool] = []
    var rest = items[...]
    while !rest.isEmpty {
      let page = rest.prefix(Limits.maxJournalChunkItems)
      rest = rest.dropFirst(page.count)
      let records = try await context.store.get(page.map { context.layout.record($0.entry) })
      for (item, record) in zip(page, records) {
        let stored: StoredEntry
        do { stored = try StoredEntry(item.entry, record: record, marker: nil) } catch {
          throw .refused("the record of \(item.entry.path) cannot be read: \(error)")
        }
        due.append(stored.isEvicting(as: item.sequence))
      }
    }
    return due
  }

  /// The cursors are committed behind the entries' changes, in the same commit. A change that conflicts there has met
  /// a hit or a registration: planned anew it is stale, and the cursor is right to have passed it.
  func settle(
    _ acknowledgements: [Acknowledgement], cursors: [Transition]
  ) async throws(SidecarStoreError) -> [AcknowledgementOutcome] {
    var outcomes = [AcknowledgementOutcome](repeating: .accepted, count: acknowledgements.count)
    var open = Array(acknowledgements.indices)
    var cursors = cursors
    for _ in 0..<Self.maxRounds {
      let entries = try await context.store.entries(open.map { acknowledgements[$0].entry }, layout: context.layout)
      var changes: [(index: Int, change: EntryChange)] = []
      for (index, entry) in zip(open, entries) {
        let settlement = EntrySettlement(of: entry, by: acknowledgements[index], layout: context.layout)
        outcomes[index] = settlement.verdict
        if let change = settlement.change { changes.append((index, change)) }
      }
      if changes.isEmpty, cursors.isEmpty { return outcomes }
      let results = try await context.store.commit(changes.map { Transition($0.change) } + cursors)
      for outcome in results.dropFirst(changes.count) where outcome.revision == nil {
        throw .refused("a subscriber's cursor has been changed by somebody else")
      }
      cursors = []
      open = []
      for (done, result) in zip(changes, results) {
        if let revision = result.revision { finish(done.change, revision: revision) } else { open.append(done.index) }
      }
      if open.isEmpty { return outcomes }
    }
    throw .unavailable("too many changes of the same entries at the same time")
  }

  func keep(
    _ entry: EntryName, sequence: UInt64, ttlMilliseconds: Int64?
  ) async throws(SidecarStoreError) -> KeepOutcome {
    guard let cache = caches[entry.cache] else {
      throw .refused("no cache is called \(entry.cache): its policy has been removed, so nothing can be kept in it")
    }
    for _ in 0..<Self.maxRounds {
      let stored = try await context.store.entries([entry], layout: context.layout)[0]
      let plan = cache.planner.planKeep(
        stored, sequence: sequence, ttlMilliseconds: ttlMilliseconds, newLease: FreshLease.pick())
      let revival: RevivalCandidate
      switch plan {
      case .answer(let outcome): return outcome
      case .revive(let candidate): revival = candidate
      }
      let issuedAt = context.clock.monotonicMilliseconds()
      guard let revision = try await journal.revive([revival])[0] else { continue }
      cache.remember(
        entry.key,
        RenewedLease(
          lease: revival.lease, generation: revival.after.generation, markerRevision: revision,
          issuedAtMilliseconds: issuedAt, windowMilliseconds: revival.terms.windowMilliseconds),
        at: context.clock.monotonicMilliseconds())
      return .kept
    }
    throw .unavailable("too many changes of the same entry at the same time")
  }

  private func finish(_ change: EntryChange, revision: Int64) {
    context.note(change, revision: revision)
    guard change.after == nil, change.before?.state == .live else { return }
    caches[change.entry.cache]?.forget(
      change.entry.key, revision: revision, at: context.clock.monotonicMilliseconds())
  }
}
