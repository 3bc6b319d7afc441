import Keyspace
import Member
import Primitives
import SidecarCore
import StateMachine

/// The watch on all markers and the scan behind it, as one sidecar runs them.
final class SidecarEvictor {
  private static let scanPage: Int64 = 3
  private static let maxRetryMilliseconds: Int64 = 2_000

  private unowned let sidecar: SimulatedSidecar
  private let planner: EvictionPlanner
  private var isWatching = false
  /// Told by the watch and not looked at yet.
  private var events: [KeyspaceEvent] = []
  private var isEvicting = false
  /// Counts the starts, so that what belongs to an earlier one comes to nothing.
  private var startCount = 0
  private var retryMilliseconds: Int64 = 100

  init(_ sidecar: SimulatedSidecar) {
    self.sidecar = sidecar
    planner = EvictionPlanner(
      layout: SimulatedSidecar.layout,
      policies: Dictionary(uniqueKeysWithValues: SimulatedSidecar.policies.map { ($0.name, $0) }))
  }

  private var store: SimulatedStore { sidecar.store }
  private var layout: StoreLayout { SimulatedSidecar.layout }

  /// Watches from now on, then scans once.
  func start() {
    startCount += 1
    let start = startCount
    events = []
    isEvicting = false
    store.range(RangeQuery(.single(layout.journalHead))) { [unowned self] result in
      guard start == startCount else { return }
      guard case .success(let found) = result else { return startOver() }
      isWatching = true
      if let head = found.records.first { follow(head) }
      if sidecar.mistake == .neverScans { return }
      scan(.prefix(layout.allRecords), OwedScan(layout: layout), at: found.revision, start)
    }
  }

  private func startOver() {
    isWatching = false
    startCount += 1
    let delay = retryMilliseconds
    retryMilliseconds = min(2 * delay, Self.maxRetryMilliseconds)
    sidecar.after(microseconds: delay * 1_000) { [unowned self] in start() }
  }

  // MARK: Watch

  /// The watch ends, as it does when its start was compacted or a state from elsewhere has taken the place of this one.
  func breakWatch() { if isWatching { startOver() } }

  /// What the member has applied.
  func tell(_ applied: [KeyspaceEvent]) {
    guard isWatching else { return }
    if let head = applied.last(where: { $0.record.key == layout.journalHead }) { follow(head.record) }
    let markers = applied.filter { $0.record.key.hasPrefix(layout.allMarkers) }
    guard !markers.isEmpty else { return }
    if sidecar.random(0, sidecar.mistake == .neverScans ? 1 : 60) == 0 { return breakWatch() }
    events += markers
    if events.count == markers.count {
      let start = startCount
      sidecar.after(microseconds: sidecar.random(50, 20_000)) { [unowned self] in
        if start == startCount { takeEvents() }
      }
    }
  }

  private func takeEvents() {
    guard !isEvicting, !events.isEmpty else { return }
    let ended = planner.endedMarkers(in: events)
    events = []
    for marker in ended where !marker.hasExpired { sidecar.requests.forget(marker.entry, revision: marker.revision) }
    guard !ended.isEmpty else { return }
    isEvicting = true
    let start = startCount
    store.entries(ended.map(\.entry), layout) { [unowned self] result in
      guard start == startCount else { return }
      guard case .success(let entries) = result else { return startOver() }
      let candidates = zip(entries, ended).compactMap { planner.candidate(for: $0, after: $1) }
      sidecar.journal.evict(candidates) { [unowned self] result in
        guard start == startCount else { return }
        guard case .success = result else { return startOver() }
        isEvicting = false
        takeEvents()
      }
    }
  }

  private func follow(_ head: KeyRecord) {
    let start = startCount
    sidecar.journal.catchUp(with: head) { [unowned self] result in
      if case .failure = result, start == startCount { startOver() }
    }
  }

  // MARK: Scan

  private func scan(_ range: KeyRange, _ found: OwedScan, at revision: Int64, _ start: Int) {
    store.range(RangeQuery(range, revision: revision, limit: Self.scanPage)) { [unowned self] result in
      guard start == startCount else { return }
      guard case .success(let page) = result else { return startOver() }
      guard let markers = found.markerRange(for: page.records) else { return finishScan() }
      var query = RangeQuery(markers, revision: revision)
      query.keysOnly = true
      store.range(query) { [unowned self] result in
        guard start == startCount else { return }
        guard case .success(let markers) = result else { return startOver() }
        var found = found
        found.add(records: page.records, markerKeys: markers.records.map(\.key))
        if !found.unreadable.isEmpty { sidecar.world.oracle.violate("unreadable records: \(found.unreadable)") }
        evict(found.takeOwed(), start) { [unowned self] in
          guard page.more, let last = page.records.last, case .halfOpen(_, let end) = range else {
            return finishScan()
          }
          scan(.halfOpen(start: last.key.successor, end: end), found, at: revision, start)
        }
      }
    }
  }

  private func evict(_ owed: [OwedScan.Owed], _ start: Int, _ completion: @escaping () -> Void) {
    sidecar.journal.evict(owed.map(planner.candidate)) { [unowned self] result in
      guard start == startCount else { return }
      guard case .success = result else { return startOver() }
      completion()
    }
  }

  private func finishScan() { retryMilliseconds = 100 }
}
