import SidecarCore

/// The entry half's metrics in Prometheus' text format.
extension Sidecar {
  package func metricsText() -> String {
    let values = metrics.snapshot
    let caches = caches.values.sorted { $0.name < $1.name }
    var text = MetricsText()
    text.family("leasehold_cache_entries", "gauge", "Entries by state.")
    for cache in caches {
      let totals = totals(of: cache).totals
      text.sample([("cache", cache.name), ("state", "live")], totals.liveEntries)
      text.sample([("cache", cache.name), ("state", "evicting")], totals.evictingEntries)
    }
    text.family("leasehold_cache_bytes", "gauge", "Bytes of entries by state.")
    for cache in caches {
      let totals = totals(of: cache).totals
      text.sample([("cache", cache.name), ("state", "live")], totals.liveBytes)
      text.sample([("cache", cache.name), ("state", "evicting")], totals.evictingBytes)
    }
    text.family("leasehold_hits_total", "counter", "Reported hits and registrations by what came of them.")
    var hits = values.hits
    for cache in caches {
      // A single call that is coalesced is counted in its shard alone; batches and hooks count theirs here as well.
      let counted = hits.filter { $0.key.cache == cache.name && $0.key.outcome == EntryOutcome.coalesced.label }
        .reduce(0) { $0 + $1.value }
      let labels = SidecarMetrics.HitLabels(
        cache: cache.name, hook: .http, outcome: EntryOutcome.coalesced.label)
      hits[labels, default: 0] += max(cache.coalescedCount, counted) - counted
    }
    for (labels, count) in hits.sorted(by: { $0.key < $1.key }) {
      text.sample(
        [("cache", labels.cache), ("hook", labels.hook.rawValue), ("outcome", labels.outcome)], Int64(count))
    }
    text.family("leasehold_hook_lost_total", "counter", "Lines that a lossy hook dropped.")
    for hook in HookKind.allCases {
      text.sample([("hook", hook.rawValue)], Int64(values.lostByHook[hook] ?? 0))
    }
    text.family("leasehold_hook_unparsable_total", "counter", "Lines that a hook could not read.")
    for hook in HookKind.allCases {
      text.sample([("hook", hook.rawValue)], Int64(values.unparsableByHook[hook] ?? 0))
    }
    text.family("leasehold_renewals_total", "counter", "Leases renewed.")
    text.sample([], Int64(values.renewals))
    text.family("leasehold_evictions_total", "counter", "Evictions decided.")
    for (cache, reasons) in values.evictions.sorted(by: { $0.key < $1.key }) {
      for (reason, count) in reasons.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        text.sample([("cache", cache), ("reason", reason.label)], Int64(count))
      }
    }
    text.family("leasehold_journal_head", "gauge", "Last sequence number of the eviction journal.")
    text.sample([], Int64(journal.head))
    text.family("leasehold_scans_total", "counter", "Scans for owed evictions.")
    text.sample([], Int64(values.scans))
    text.family("leasehold_unreadable_records", "gauge", "Records that the last scan could not read.")
    text.sample([], Int64(values.unreadableKeys))
    text.family("leasehold_evictor_leader", "gauge", "1 while this sidecar evicts.")
    text.sample([], values.isEvictor ? 1 : 0)
    return text.text
  }
}

/// Families and their samples, one after another.
struct MetricsText {
  private(set) var text = ""
  private var name = ""

  mutating func family(_ name: String, _ kind: String, _ help: String) {
    self.name = name
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
  }

  /// Label values are cache names and words of ours: nothing in them needs escaping.
  mutating func sample(_ labels: [(name: String, value: String)], _ value: Int64) {
    let list = labels.map { "\($0.name)=\"\($0.value)\"" }.joined(separator: ",")
    text += list.isEmpty ? "\(name) \(value)\n" : "\(name){\(list)} \(value)\n"
  }
}
