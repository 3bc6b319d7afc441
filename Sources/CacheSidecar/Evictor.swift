import Keyspace
import Logging
import Primitives
import SidecarCore
import Synchronization

/// Turns ended leases into evictions, and tells the journal what others append to it. The watch on all markers makes it prompt; a scan (at the start, after every
/// interruption of the watch, and hourly) makes it certain.
final class Evictor: Sendable {
  private let context: SidecarContext
  private let journal: JournalWriter
  private let caches: [String: SidecarCache]
  private let planner: EvictionPlanner
  private let logger: Logger

  private static let scanPage: Int64 = 1_000
  private static let scanInterval = Duration.seconds(3_600)
  private static let firstRetryDelay = Duration.milliseconds(100)
  private static let maxRetryDelay = Duration.seconds(10)

  init(context: SidecarContext, journal: JournalWriter, caches: [String: SidecarCache], logger: Logger) {
    self.context = context
    self.journal = journal
    self.caches = caches
    planner = EvictionPlanner(layout: context.layout, policies: caches.mapValues(\.policy))
    self.logger = logger
  }

  /// Until cancelled.
  func run() async {
    context.metrics.setEvictor(true)
    defer { context.metrics.setEvictor(false) }
    var delay = Self.firstRetryDelay
    while !Task.isCancelled {
      do {
        try await watchAndScan { delay = Self.firstRetryDelay }
      } catch is CancellationError {
        return
      } catch {
        if Task.isCancelled { return }
        logger.warning("evictor: starting over with a scan", metadata: ["error": "\(error)", "in": "\(delay)"])
        do { try await Task.sleep(for: delay) } catch { return }
        delay = min(delay * 2, Self.maxRetryDelay)
      }
    }
  }

  /// Until something fails. `onProgress` after each finished scan.
  private func watchAndScan(onProgress: () -> Void) async throws {
    let found = try await context.store.range(RangeQuery(.single(context.layout.journalHead)))
    if let head = found.records.first { try await journal.catchUp(with: head) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await self.watch(from: found.revision + 1) }
      group.addTask { try await self.journal.follow(from: found.revision + 1) }
      repeat {
        try await scan()
        onProgress()
        // Whichever comes first: the watch's end (an error) or the next scan's time.
        group.addTask { try await Task.sleep(for: Self.scanInterval) }
        try await group.next()
      } while !Task.isCancelled
    }
  }

  private func currentRevision() async throws(SidecarStoreError) -> Int64 {
    try await context.store.range(RangeQuery(.single(context.layout.journalHead))).revision
  }

  // MARK: Watch

  private func watch(from revision: Int64) async throws {
    for try await batch in context.store.watch(prefix: context.layout.allMarkers, from: revision) {
      let ended = planner.endedMarkers(in: batch.events)
      for marker in ended where !marker.hasExpired {
        caches[marker.entry.cache]?.forget(
          marker.entry.key, revision: marker.revision, at: context.clock.monotonicMilliseconds())
      }
      try await evict(ended)
    }
    throw SidecarStoreError.unavailable("the watch on markers has ended")
  }

  private func evict(_ ended: [EvictionPlanner.EndedMarker]) async throws(SidecarStoreError) {
    var rest = ended[...]
    while !rest.isEmpty {
      let page = rest.prefix(Limits.maxJournalChunkItems)
      rest = rest.dropFirst(page.count)
      let entries = try await context.store.readEntries(page.map(\.entry), layout: context.layout)
      let candidates = zip(entries, page).compactMap { result, marker -> EvictionCandidate? in
        // The scan reports what cannot be read.
        guard case .success(let entry) = result else { return nil }
        return planner.candidate(for: entry, after: marker)
      }
      _ = try await journal.evict(candidates)
    }
  }

  // MARK: Scan

  /// One walk over all records at one revision: evicts what is owed and counts the totals anew.
  func scan() async throws(SidecarStoreError) {
    context.totals.withLock { $0.beginCount() }
    do throws(SidecarStoreError) {
      let revision = try await currentRevision()
      let totals = try await walk(at: revision)
      context.totals.withLock { $0.finishCount(totals, at: revision) }
    } catch {
      context.totals.withLock { $0.abandonCount() }
      throw error
    }
  }

  private func walk(at revision: Int64) async throws(SidecarStoreError) -> [String: CacheTotals] {
    var scan = OwedScan(layout: context.layout)
    var range: KeyRange? = .prefix(context.layout.allRecords)
    while let next = range {
      let page = try await context.store.range(RangeQuery(next, revision: revision, limit: Self.scanPage))
      scan.add(records: page.records, markerKeys: try await markerKeys(for: page.records, scan, at: revision))
      _ = try await journal.evict(scan.takeOwed().map(planner.candidate))
      range = page.more ? rest(of: .prefix(context.layout.allRecords), after: page.records) : nil
    }
    for key in scan.unreadable { logger.error("evictor: cannot read the record", metadata: ["key": "\(key)"]) }
    context.metrics.countScan(unreadable: scan.unreadable.count)
    return scan.totals
  }

  private func markerKeys(
    for records: [KeyRecord], _ scan: OwedScan, at revision: Int64
  ) async throws(SidecarStoreError) -> [Bytes] {
    var keys: [Bytes] = []
    var range = scan.markerRange(for: records)
    while let next = range {
      var query = RangeQuery(next, revision: revision, limit: Self.scanPage)
      query.keysOnly = true
      let page = try await context.store.range(query)
      keys += page.records.map(\.key)
      range = page.more ? rest(of: next, after: page.records) : nil
    }
    return keys
  }

  private func rest(of range: KeyRange, after records: [KeyRecord]) -> KeyRange? {
    guard let last = records.last else { return nil }
    switch range {
    case .halfOpen(_, let end): return .halfOpen(start: last.key.successor, end: end)
    case .from: return .from(last.key.successor)
    case .single: return nil
    }
  }
}
