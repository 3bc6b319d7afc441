import Keyspace
import Primitives
import SidecarCore

/// An entry as the API shows it.
package struct EntryView: Sendable {
  package var key: Bytes
  package var record: EntryRecord
  /// Nil while EVICTING, and for an entry whose lease has just run out.
  package var leaseTime: LeaseTime?

  func encode(into writer: inout JSONWriter, wallMilliseconds: Int64) {
    writer.key(key)
    switch record.state {
    case .live:
      writer.member("state", "live")
      writer.member("gen", record.generation)
      let remaining = leaseTime?.remainingMilliseconds ?? 0
      writer.member("deadline", TimestampText.text(milliseconds: wallMilliseconds + remaining))
      writer.member("remaining", secondsOfMilliseconds: remaining)
      if let leaseTime {
        writer.member(
          "idle", secondsOfMilliseconds: max(0, leaseTime.grantedMilliseconds - leaseTime.remainingMilliseconds))
      }
    case .evicting(let sequence, let reason):
      writer.member("state", "evicting")
      writer.member("gen", record.generation)
      writer.member("seq", sequence)
      writer.member("why", reason.label)
      writer.member("acknowledged", record.acknowledged)
    }
    writer.member("size", record.sizeBytes)
    writer.member("registered", TimestampText.text(milliseconds: record.registeredAtMilliseconds))
    writer.member("ttl", DurationText.text(milliseconds: record.ttlMilliseconds))
    writer.member("refs", texts: record.refs.map { $0.text ?? "base64:" + Base64.text(of: $0) })
    writer.member("labels", texts: record.labels)
  }
}

/// Which entries a list shows.
package struct EntryListQuery: Sendable {
  package enum State: String, Sendable { case live, evicting }

  package var state: State?
  package var prefix = Bytes()
  /// The page begins behind this key.
  package var after: Bytes?
  package var limit = 100

  package init() {}
}

package struct EntryPage: Sendable {
  package var entries: [EntryView]
  /// Where the next page begins; nil at the end. A page may be short, even empty, and still have a next one.
  package var next: Bytes?
}

/// Reads of entries, without any effect on them.
extension Sidecar {
  /// Records looked at for one page, so that a filter that matches little does not hold a request for long.
  private static let maxRecordsPerPage = 10_000

  package func entry(_ key: Bytes, in cache: SidecarCache) async throws(SidecarStoreError) -> EntryView? {
    let stored = try await context.store.entries([cache.entry(key)], layout: context.layout)
    return try await views(of: stored).first
  }

  package func list(
    _ query: EntryListQuery, in cache: SidecarCache
  ) async throws(SidecarStoreError) -> EntryPage {
    let base = context.layout.records(of: cache.name)
    guard let end = (base + query.prefix).prefixEnd else { throw .refused("a prefix without end") }
    var start = base + query.prefix
    if let after = query.after { start = max(start, (base + after).successor) }
    var found: [EntryName] = []
    var looked = 0
    while start < end, looked < Self.maxRecordsPerPage {
      let page = try await context.store.range(
        RangeQuery(.halfOpen(start: start, end: end), limit: Int64(Limits.maxListPage)))
      for record in page.records {
        if found.count == query.limit {
          return EntryPage(entries: try await read(found), next: found.last?.key)
        }
        looked += 1
        start = record.key.successor
        if let name = context.layout.entry(of: record.key), Self.matches(record, query.state) { found.append(name) }
      }
      guard page.more, let last = page.records.last else { return EntryPage(entries: try await read(found), next: nil) }
      if looked >= Self.maxRecordsPerPage {
        return EntryPage(
          entries: try await read(found), next: context.layout.entry(of: last.key)?.key)
      }
    }
    return EntryPage(entries: try await read(found), next: nil)
  }

  /// A record that cannot be read matches, so that reading it reports it.
  private static func matches(_ record: KeyRecord, _ state: EntryListQuery.State?) -> Bool {
    guard let state, let entry = try? EntryRecord(decoding: record.value) else { return true }
    return (entry.state == .live) == (state == .live)
  }

  private func read(_ names: [EntryName]) async throws(SidecarStoreError) -> [EntryView] {
    try await views(of: try await context.store.entries(names, layout: context.layout))
  }

  private func views(of entries: [StoredEntry]) async throws(SidecarStoreError) -> [EntryView] {
    let times = try await context.store.timeToLive(entries.map(\.lease))
    var views: [EntryView] = []
    for (entry, time) in zip(entries, times) {
      guard let record = entry.record else { continue }
      views.append(EntryView(key: entry.entry.key, record: record, leaseTime: time))
    }
    return views
  }

  package func totals(of cache: SidecarCache) -> (totals: CacheTotals, isExact: Bool) {
    context.totals.withLock { ($0.totals[cache.name] ?? CacheTotals(), $0.isExact) }
  }
}
