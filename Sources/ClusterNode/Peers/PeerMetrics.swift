import PeerTransport

extension PeerTransport {
  /// Shows what passes between this member and each of the others under etcd's names. Peers are known to a scrape once
  /// there is a connection to count for; what they came to stays when they have left the cluster.
  package func observe(in registry: MetricsRegistry, memberID: UInt64) {
    registry.onScrape { [self] in
      for peer in status { peer.show(in: registry, memberID: memberID) }
    }
  }
}

extension PeerStatus {
  fileprivate func show(in registry: MetricsRegistry, memberID: UInt64) {
    let id = String(self.id, radix: 16)
    let counters: [(String, String, String, UInt64)] = [
      ("etcd_network_peer_sent_bytes_total", "Bytes sent to a peer.", "To", bytesSent),
      ("etcd_network_peer_received_bytes_total", "Bytes received from a peer.", "From", bytesReceived),
      ("etcd_network_peer_sent_failures_total", "Messages to a peer that were not sent.", "To", messagesDropped),
    ]
    for (name, help, label, value) in counters {
      registry.computedCounter(name, help, labels: [(label, id)]) { Double(value) }
    }
    let isActive = isUrgentConnected && isBulkConnected
    registry.computedGauge(
      "etcd_network_active_peers", "1 while the connections to a peer stand.",
      labels: [("Local", String(memberID, radix: 16)), ("Remote", id)]
    ) { isActive ? 1 : 0 }
    registry.histogram(
      "etcd_network_peer_round_trip_time_seconds", "Seconds of a ping to a peer and back.",
      upperBounds: RoundTrips.upperBoundsSeconds, labels: [("To", id)]
    ).replace(counts: roundTrips.counts, sum: roundTrips.sumSeconds)
  }
}
