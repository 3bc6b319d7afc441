import Primitives
import Wire

/// The metrics of a member under etcd's names, so that its dashboards show data. The services count
/// what clients do; the node's loop, its log and its storage feed the rest through the instruments here.
package final class EtcdMetrics: Sendable {
  package let registry: MetricsRegistry

  // What clients do
  package let puts: MetricCounter
  package let ranges: MetricCounter
  package let deletes: MetricCounter
  package let transactions: MetricCounter
  package let leasesGranted: MetricCounter
  package let leasesRevoked: MetricCounter
  package let leasesRenewed: MetricCounter
  package let watchers: MetricGauge
  package let watchStreams: MetricGauge
  package let clientReceivedBytes: MetricCounter
  package let clientSentBytes: MetricCounter

  // For the node to feed
  package let proposalsFailed: MetricCounter
  /// Seconds of one fsync of the log.
  package let walFsync: MetricHistogram

  package init(registry: MetricsRegistry = MetricsRegistry()) {
    self.registry = registry
    puts = registry.counter("etcd_mvcc_put_total", "Puts that clients made.")
    ranges = registry.counter("etcd_mvcc_range_total", "Ranges that clients read.")
    deletes = registry.counter("etcd_mvcc_delete_total", "Range deletions that clients made.")
    transactions = registry.counter("etcd_mvcc_txn_total", "Transactions that clients ran.")
    leasesGranted = registry.counter("etcd_debugging_lease_granted_total", "Leases granted.")
    leasesRevoked = registry.counter("etcd_debugging_lease_revoked_total", "Leases revoked.")
    leasesRenewed = registry.counter("etcd_debugging_lease_renewed_total", "Leases renewed.")
    watchers = registry.gauge("etcd_debugging_mvcc_watcher_total", "Watches of clients.")
    watchStreams = registry.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams of clients.")
    clientReceivedBytes = registry.counter(
      "etcd_network_client_grpc_received_bytes_total", "Bytes of requests from clients.")
    clientSentBytes = registry.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of answers to clients.")

    proposalsFailed = registry.counter("etcd_server_proposals_failed_total", "Proposals that failed.")
    walFsync = registry.histogram(
      "etcd_disk_wal_fsync_duration_seconds", "Seconds of one fsync of the log.",
      upperBounds: MetricHistogram.diskBounds)
  }

  /// Adds what a scrape reads off the node itself.
  package func observe(_ node: some NodeHandle, settings: EtcdSettings) {
    observeServer(node, settings: settings)
    let revisions: [(String, String, @Sendable (AppliedRevisions) -> Int64)] = [
      ("etcd_debugging_mvcc_current_revision", "Revision of the keyspace.", { $0.current }),
      ("etcd_debugging_mvcc_compact_revision", "Revision of the last compaction.", { $0.compacted }),
      ("etcd_debugging_mvcc_keys_total", "Keys alive.", { $0.keys }),
    ]
    for (name, help, value) in revisions {
      registry.computedGauge(name, help) {
        Double(
          value(
            node.read {
              AppliedRevisions(
                current: $0.keyspace.revision, compacted: $0.keyspace.compactRevision,
                keys: Int64($0.keyspace.keyCount))
            }))
      }
    }
    ProcessMetrics.register(in: registry)
  }

  private struct AppliedRevisions {
    var current: Int64
    var compacted: Int64
    var keys: Int64
  }

  private func observeServer(_ node: some NodeHandle, settings: EtcdSettings) {
    let status: [(String, String, @Sendable (NodeStatus) -> Double)] = [
      ("etcd_server_has_leader", "1 while a leader is known.", { $0.leaderID != 0 ? 1 : 0 }),
      ("etcd_server_is_leader", "1 on the leader.", { $0.leaderID == $0.memberID ? 1 : 0 }),
      ("etcd_server_proposals_committed_total", "Index of the latest committed entry.", { Double($0.raftIndex) }),
      ("etcd_server_proposals_applied_total", "Index of the latest applied entry.", { Double($0.appliedIndex) }),
      ("etcd_mvcc_db_total_size_in_bytes", "Bytes of the state on disk.", { Double($0.databaseSizeBytes) }),
      ("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of it in use.", { Double($0.databaseInUseBytes) }),
    ]
    for (name, help, value) in status {
      registry.computedGauge(name, help) { value(node.status) }
    }
    registry.computedGauge("etcd_server_is_learner", "1 on a learner.") { node.isLearner ? 1 : 0 }
    registry.gauge("etcd_server_version", "1, with the version.", labels: [("server_version", settings.serverVersion)])
      .set(1)
    registry.gauge(
      "etcd_cluster_version", "1, with the cluster's version.", labels: [("cluster_version", settings.clusterVersion)]
    ).set(1)
    registry.gauge(
      "etcd_server_id", "1, with the member's ID.", labels: [("server_id", String(node.header.memberID, radix: 16))]
    ).set(1)
  }
}
