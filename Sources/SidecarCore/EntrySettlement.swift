import Keyspace
import Primitives

/// What an acknowledgement does to its entry.
package struct EntrySettlement: Hashable, Sendable {
  package enum Verdict: Hashable, Sendable {
    case accepted
    /// This eviction is over: the entry lives as `livingGeneration` (nil: it is gone).
    case stale(livingGeneration: UInt64?)
  }

  package var verdict: Verdict
  /// The guarded change, nil when nothing is to be written.
  package var change: EntryChange?

  /// `isLast`: every subscriber has acknowledged now. `blobIsGone`: the consumer has deleted the blob although the
  /// entry may live again; then the entry goes too, for it would promise what the cache does not have.
  package init(
    of stored: StoredEntry, sequence: UInt64, generation: UInt64, isLast: Bool, blobIsGone: Bool, layout: StoreLayout
  ) {
    guard let record = stored.record else {
      verdict = .stale(livingGeneration: nil)
      return
    }
    let recordKey = layout.record(stored.entry)
    let guarding = [Comparison.isAt(recordKey, revision: stored.recordRevision)]
    guard case .evicting(sequence, _) = record.state, record.generation == generation else {
      verdict = .stale(livingGeneration: record.generation)
      guard blobIsGone, record.state == .live, record.generation > generation else { return }
      let markerKey = layout.marker(stored.entry)
      change = EntryChange(
        entry: stored.entry, before: record, after: nil, comparisons: guarding,
        operations: [.delete(DeleteRequest(.single(recordKey))), .delete(DeleteRequest(.single(markerKey)))],
        revokes: stored.lease == 0 ? [] : [stored.lease])
      return
    }
    verdict = .accepted
    if isLast {
      change = EntryChange(
        entry: stored.entry, before: record, after: nil, comparisons: guarding,
        operations: [.delete(DeleteRequest(.single(recordKey)))])
    } else if !record.acknowledged {
      var after = record
      after.acknowledged = true
      change = EntryChange(
        entry: stored.entry, before: record, after: after, comparisons: guarding,
        operations: [.put(PutRequest(recordKey, after.encoded()))])
    }
  }
}
