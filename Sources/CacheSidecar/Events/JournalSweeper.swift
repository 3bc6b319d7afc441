import SidecarCore

/// Trims the journal behind the slowest subscriber, and settles on its way what everybody has acknowledged and still
/// stands: after a subscriber was forgotten, or a name left a policy, others' acknowledgements are the last ones.
///
/// An eviction that is due and waits for somebody (a `from now` subscriber passed it over, say) stops the trimming:
/// whoever subscribes next from the oldest must find it.
struct JournalSweeper {
  private static let pageItems = 500

  let journal: any EvictionJournal
  let outcomes: any EvictionOutcomes
  let trimming: (any JournalTrimming)?
  let settlements: SettlementQueue
  /// Everything below is settled.
  private var position: UInt64 = 0

  init(
    journal: any EvictionJournal, outcomes: any EvictionOutcomes, trimming: (any JournalTrimming)?,
    settlements: SettlementQueue
  ) {
    self.journal = journal
    self.outcomes = outcomes
    self.trimming = trimming
    self.settlements = settlements
  }

  mutating func sweep() async throws(SidecarStoreError) {
    guard let floor = settlements.directory.minimumFloor else { return }
    position = max(position, journal.first)
    while position <= floor {
      let wanted = Int(min(floor - position + 1, UInt64(Self.pageItems)))
      let page = try await journal.items(from: position, limit: wanted)
      guard let last = page.last?.sequence else { break }
      if let owed = try await settle(page.compactMap { $0.item.eviction(sequence: $0.sequence) }) {
        position = owed
        break
      }
      position = last + 1
    }
    if position > journal.first { try await trimming?.trim(below: position) }
  }

  /// The first that has to stay.
  private func settle(_ evictions: [CursorSettlement.Eviction]) async throws(SidecarStoreError) -> UInt64? {
    guard !evictions.isEmpty else { return nil }
    let due = try await outcomes.areDue(evictions.map { ($0.sequence, $0.entry) })
    let (settled, owed) = settlements.directory.sweep(evictions, due: due)
    if !settled.isEmpty { _ = try await outcomes.settle(settled, cursors: []) }
    return owed
  }
}
