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
    observeProposals(with: metrics)
    observeEngine(with: metrics)
    observeWatches(in: metrics.registry)
    let walFsync = metrics.walFsync
    metrics.registry.onScrape {
      let now = log.metrics
      walFsync.replace(counts: now.fsyncBuckets.map(Int.init), sum: now.fsyncSecondsSum)
    }
  }

  private func observeProposals(with metrics: EtcdMetrics) {
    let published = published
    let registry = metrics.registry
    registry.computedGauge("etcd_server_proposals_pending", "Proposals that are not answered yet.") {
      Double(published.snapshot.pendingProposals)
    }
    registry.computedCounter("etcd_server_slow_apply_total", "Batches that took more than 100 ms to apply.") {
      Double(published.snapshot.slowApplies)
    }
    registry.computedCounter("etcd_server_slow_read_indexes_total", "Read indexes that were asked for again.") {
      Double(published.snapshot.slowReadIndexes)
    }
    registry.computedGauge("leasehold_raft_loop_busy_ratio", "Share of the last second that the raft thread worked.") {
      published.snapshot.busyRatio
    }
    let lag = registry.histogram(
      "leasehold_lease_expiry_lag_seconds", "Seconds that the latest lease of an expiry was late.",
      upperBounds: MetricHistogram.lagBounds)
    registry.onScrape { lag.copy(published.expiryLag) }
  }

  private func observeEngine(with metrics: EtcdMetrics) {
    let writer = writer
    let quota = quota
    let registry = metrics.registry
    let commits = registry.histogram(
      "etcd_disk_backend_commit_duration_seconds", "Seconds of one commit of the storage engine.",
      upperBounds: MetricHistogram.diskBounds)
    registry.onScrape { commits.copy(writer.durations) }
    registry.computedGauge("leasehold_engine_uncommitted_bytes", "Bytes that only memory and the log hold.") {
      Double(writer.load.uncommittedBytes)
    }
    registry.computedGauge("leasehold_quota_used_bytes", "Logical bytes of the state, which the quota limits.") {
      Double(quota.usedBytes)
    }
    // As etcd: without a limit, what was set.
    let limit = Double(quota.limitBytes ?? configuration.quotaBackendBytes)
    registry.computedGauge("etcd_server_quota_backend_bytes", "Limit for the state's logical bytes.") { limit }
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
