import Synchronization

/// What has passed between this member and one peer. Counted by event loops and senders, read by anyone.
final class PeerCounters: Sendable {
  let bytesSent = Atomic<UInt64>(0)
  let bytesReceived = Atomic<UInt64>(0)
  let messagesSent = Atomic<UInt64>(0)
  let messagesReceived = Atomic<UInt64>(0)
  let messagesDropped = Atomic<UInt64>(0)
  /// Of the urgent connection's pings.
  let roundTrips = Mutex(RoundTrips())
  /// Attempts to connect that failed.
  let failures = Atomic<UInt64>(0)
}

extension Atomic<UInt64> {
  func add(_ amount: Int) { wrappingAdd(UInt64(amount), ordering: .relaxed) }
  var value: UInt64 { load(ordering: .relaxed) }
}

/// One peer as metrics show it.
package struct PeerStatus: Hashable, Sendable {
  package var id: UInt64
  /// Whether the connections of the two lanes, dialled by this member, stand.
  package var isUrgentConnected: Bool
  package var isBulkConnected: Bool
  /// Connections to and from the peer, those of snapshots included.
  package var activeStreams: Int
  /// Frames and what surrounds them, without TLS.
  package var bytesSent: UInt64
  package var bytesReceived: UInt64
  package var messagesSent: UInt64
  package var messagesReceived: UInt64
  /// Never sent: no connection, or a full queue.
  package var messagesDropped: UInt64
  /// What waits for the bulk connection now.
  package var bulkBacklogBytes: Int
  package var roundTrips: RoundTrips
  package var connectFailures: UInt64
}
