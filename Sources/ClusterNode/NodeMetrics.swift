import Storage

extension Node {
  /// Lets a scrape read the log's and the raft thread's figures.
  package func observe(with metrics: EtcdMetrics) {
    let published = published
    let log = log
    metrics.registry.computedCounter("etcd_server_leader_changes_seen_total", "Changes of leader seen.") {
      Double(published.counters.leaderChanges)
    }
    metrics.registry.computedCounter("etcd_debugging_server_lease_expired_total", "Leases proposed to expire.") {
      Double(published.counters.expiredLeases)
    }
    metrics.registry.computedCounter("leasehold_log_written_bytes_total", "Bytes written to the log.") {
      Double(log.metrics.writtenBytes)
    }
    metrics.registry.computedCounter("leasehold_log_records_total", "Records written to the log.") {
      Double(log.metrics.recordCount)
    }
    observeWatches(in: metrics.registry)
    let walFsync = metrics.walFsync
    metrics.registry.onScrape {
      let now = log.metrics
      walFsync.replace(counts: now.fsyncBuckets.map(Int.init), sum: now.fsyncSecondsSum)
    }
  }

  private func observeWatches(in registry: MetricsRegistry) {
    let counters = watchCounters
    registry.computedGauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that read history.") {
      Double(counters.slow)
    }
    registry.computedGauge(
      "etcd_debugging_mvcc_pending_events_total", "Applied events that no watch has been told of yet."
    ) { Double(counters.pending) }
    registry.computedCounter(
      "etcd_debugging_mvcc_events_total", "Events told to watches, counted once for each watch."
    ) { Double(counters.told) }
  }
}
