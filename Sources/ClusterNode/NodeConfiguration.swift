import Primitives

/// What a member needs to know to start, already checked by whoever read the flags.
package struct NodeConfiguration: Sendable {
  package var name: String
  package var dataDirectory: String
  package var clusterToken: String
  package var peerURLs: [String]
  package var clientURLs: [String]
  package var heartbeatIntervalMilliseconds: Int64 = 100
  package var electionTimeoutMilliseconds: Int64 = 1_000
  /// The engine commits without a rest when the log behind its last commit is longer.
  package var commitAfterLogBytes = Limits.commitAfterLogBytes
  /// `--quota-backend-bytes`: 0 is etcd's default, below 0 is no limit.
  package var quotaBackendBytes: Int64 = 0
  /// etcd's behaviour: an operator disarms the alarm, whatever has been deleted since.
  package var disarmsAlarmsByHand = false
  package var unsafeNoFsync = false

  package init(
    name: String, dataDirectory: String, clusterToken: String = "etcd-cluster", peerURLs: [String] = [],
    clientURLs: [String] = []
  ) {
    self.name = name
    self.dataDirectory = dataDirectory
    self.clusterToken = clusterToken
    self.peerURLs = peerURLs
    self.clientURLs = clientURLs
  }

  /// etcd's rule: no lease is shorter than one and a half election time-outs, rounded up to seconds, so that a lease
  /// cannot end in the middle of an election.
  package var minLeaseTTLSeconds: Int64 { (3 * electionTimeoutMilliseconds / 2 + 999) / 1_000 }
}
