import Keyspace
import Primitives
import SidecarCore
import StateMachine
import Synchronization

extension Transition {
  init(_ change: EntryChange) {
    self.init(
      comparisons: change.comparisons, grants: change.grants.map(LeaseGrant.init), operations: change.operations,
      revokes: change.revokes)
  }

  init(_ append: JournalPlanner.Append) {
    self.init(
      comparisons: append.comparisons, grants: append.grants.map(LeaseGrant.init), operations: append.operations)
  }
}

extension LeaseGrant {
  init(_ lease: EntryLease) { self.init(id: lease.id, ttlMilliseconds: lease.ttlMilliseconds) }
}

extension TransitionOutcome {
  /// Nil when the guard failed.
  var revision: Int64? {
    if case .done(_, let revision) = self { revision } else { nil }
  }
}

extension SidecarStore {
  /// Both keys of each entry, one consistent read per page of `Limits.maxJournalChunkItems` entries.
  /// An entry that cannot be read fails by itself.
  func readEntries(
    _ names: [EntryName], layout: StoreLayout
  ) async throws(SidecarStoreError) -> [Result<StoredEntry, SidecarStoreError>] {
    var entries: [Result<StoredEntry, SidecarStoreError>] = []
    entries.reserveCapacity(names.count)
    var rest = names[...]
    while !rest.isEmpty {
      let page = rest.prefix(Limits.maxJournalChunkItems)
      rest = rest.dropFirst(page.count)
      var keys: [Bytes] = []
      keys.reserveCapacity(page.count * 2)
      for name in page {
        keys.append(layout.record(name))
        keys.append(layout.marker(name))
      }
      let records = try await get(keys)
      for (index, name) in page.enumerated() {
        do throws(DecodingFailure) {
          entries.append(
            .success(try StoredEntry(name, record: records[2 * index], marker: records[2 * index + 1])))
        } catch {
          entries.append(.failure(.refused("the entry \(name.path) in the store cannot be read: \(error)")))
        }
      }
    }
    return entries
  }

  /// As above; fails when one of them cannot be read.
  func entries(_ names: [EntryName], layout: StoreLayout) async throws(SidecarStoreError) -> [StoredEntry] {
    var entries: [StoredEntry] = []
    for entry in try await readEntries(names, layout: layout) { entries.append(try entry.get()) }
    return entries
  }
}

/// Fresh lease IDs. A collision is refused by the store, and the caller tries again with another.
enum FreshLease {
  static func pick() -> LeaseID { LeaseID.random(in: 1...LeaseID.max) }
}

/// What all parts of the sidecar share.
final class SidecarContext: Sendable {
  let store: any SidecarStore
  let layout: StoreLayout
  let clock: SidecarClock
  let metrics: SidecarMetrics
  let totals = Mutex(TotalsBook())

  init(store: any SidecarStore, layout: StoreLayout, clock: SidecarClock, metrics: SidecarMetrics) {
    self.store = store
    self.layout = layout
    self.clock = clock
    self.metrics = metrics
  }

  func note(_ change: EntryChange, revision: Int64) {
    totals.withLock {
      $0.note(cache: change.entry.cache, before: change.before, after: change.after, revision: revision)
    }
  }
}
