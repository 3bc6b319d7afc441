import NIOCore
import PeerProtocol
import Primitives
import Wire

/// A member's TLS towards its peers: one certificate for both sides, as in etcd.
package struct PeerTLS: Sendable {
  /// The own certificate, and what is asked of those who dial.
  package var settings: TLSSettings
  /// Judges those who are dialled.
  package var serverCheck: TrustCheck

  package init(settings: TLSSettings, serverCheck: @escaping TrustCheck) {
    self.settings = settings
    self.serverCheck = serverCheck
  }
}

package struct PeerTransportConfiguration: Sendable {
  package var clusterID: UInt64
  package var memberID: UInt64
  /// Where peers reach this member.
  package var advertisedURLs: [String]
  /// For `https` URLs, and for listeners that are to be secure.
  package var tls: PeerTLS?
  package var timing = PeerTiming()
  package var limits = PeerLimits()

  package init(clusterID: UInt64, memberID: UInt64, advertisedURLs: [String], tls: PeerTLS? = nil) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.advertisedURLs = advertisedURLs
    self.tls = tls
  }
}

/// The defaults are the product's; tests pass smaller ones.
package struct PeerTiming: Sendable {
  package var connectTimeout = TimeAmount.seconds(5)
  /// For the TLS handshake, and again for hello and welcome.
  package var handshakeTimeout = TimeAmount.seconds(5)
  /// Whoever dialled sends a ping this often.
  package var pingInterval = TimeAmount.seconds(1)
  /// A connection that brings nothing for so long is cut. Longer where a large frame may be under way.
  package var urgentSilence = TimeAmount.seconds(5)
  package var bulkSilence = TimeAmount.seconds(15)
  /// Between two attempts to connect: from the first to the second value, doubled each time, and shortened at random by
  /// up to a half.
  package var minBackoff = TimeAmount.milliseconds(50)
  package var maxBackoff = TimeAmount.seconds(2)
  /// What came of a snapshot whose connection was cut is kept for so long.
  package var snapshotMemory = TimeAmount.minutes(1)
  /// Connections in a row on which a snapshot got no further, after which it is given up.
  package var maxSnapshotAttempts = 12

  package init() {}

  func silence(_ purpose: PeerPurpose) -> TimeAmount { purpose == .urgent ? urgentSilence : bulkSilence }
}

/// What may wait for one connection; more is dropped.
package struct PeerLimits: Sendable {
  package var urgentMessages = Limits.maxUrgentBacklogMessages
  package var urgentBytes = Limits.maxUrgentBacklogBytes
  package var bulkMessages = Limits.maxBulkBacklogMessages
  package var bulkBytes = Limits.maxBulkBacklogBytes

  package init() {}
}

/// One peer and where to reach it.
package struct PeerAddress: Hashable, Sendable {
  package var id: UInt64
  package var urls: [String]

  package init(id: UInt64, urls: [String]) {
    self.id = id
    self.urls = urls
  }
}
