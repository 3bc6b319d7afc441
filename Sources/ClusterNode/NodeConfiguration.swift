import Primitives
import Storage

/// What a member needs to know to start, already checked by whoever read the flags.
package struct NodeConfiguration: Sendable {
  package var name: String
  package var dataDirectory: String
  package var peerURLs: [String]
  package var clientURLs: [String]
  package var clusterToken: String
  /// Whom the cluster begins with, or whom a joining member asks first: this member alone unless set. Of no account once
  /// the member has data.
  package var initialCluster: InitialCluster {
    get { givenCluster ?? InitialCluster(token: clusterToken, members: [.init(name: name, peerURLs: peerURLs)]) }
    set { givenCluster = newValue }
  }
  private var givenCluster: InitialCluster?
  /// The member joins a cluster that runs (`--initial-cluster-state existing`), and is sent its state.
  package var joinsExisting = false
  /// A change of members that could cost the quorum is refused.
  package var checksReconfiguration = true
  /// The data begins a new cluster of this member alone.
  package var forcesNewCluster = false
  /// Applied entries that are kept for members that lag.
  package var keptEntries = 100_000
  package var heartbeatIntervalMilliseconds: Int64 = 100
  package var electionTimeoutMilliseconds: Int64 = 1_000
  /// The engine commits without a rest when the log behind its last commit is longer.
  package var commitAfterLogBytes = Limits.commitAfterLogBytes
  /// `--quota-backend-bytes`: 0 is etcd's default, below 0 is no limit.
  package var quotaBackendBytes: Int64 = 0
  /// What history the leader gives up of its own accord.
  package var autoCompaction = AutoCompactionRule.off
  /// etcd's behaviour: an operator disarms the alarm, whatever has been deleted since.
  package var disarmsAlarmsByHand = false
  package var unsafeNoFsync = false
  /// How long a token counts that nobody uses (`--auth-token-ttl`).
  package var authTokenTTLSeconds: Int64 = 300
  /// Who a member without a past is in the cluster that has taken it in; nil: one of the first.
  package var joiningAs: MemberIdentity?
  package var preVote = true
  /// Learners that have caught up become voters without being asked.
  package var promotesLearners = false

  package init(
    name: String, dataDirectory: String, clusterToken: String = "etcd-cluster", peerURLs: [String] = [],
    clientURLs: [String] = []
  ) {
    self.name = name
    self.dataDirectory = dataDirectory
    self.peerURLs = peerURLs
    self.clientURLs = clientURLs
    self.clusterToken = clusterToken
  }

  /// etcd's rule: no lease is shorter than one and a half election time-outs, rounded up to seconds, so that a lease
  /// cannot end in the middle of an election.
  package var minLeaseTTLSeconds: Int64 { (3 * electionTimeoutMilliseconds / 2 + 999) / 1_000 }
}
