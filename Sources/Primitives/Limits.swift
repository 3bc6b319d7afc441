/// Every limit of the product in one place. Names end in their unit.
package enum Limits {
  // etcd's request limits
  /// The default of `--max-request-bytes`.
  package static let maxRequestBytes = 1_572_864
  /// What gRPC adds on top for the envelope before it refuses a message.
  package static let grpcOverheadBytes = 512 * 1024
  /// The default of `--max-txn-ops`.
  package static let maxTxnOperations = 128
  /// Transactions inside transactions, the outermost counted. More than protobuf's own limit of 100 nested messages
  /// lets through, two of which make one level.
  package static let maxTransactionDepth = 64

  // Leases
  /// The longest TTL that etcd grants.
  package static let maxLeaseTTLSeconds: Int64 = 9_000_000_000
  /// How long the lease clock may go unrecorded while leases exist and nothing else is proposed.
  package static let leaseClockPersistIntervalMilliseconds: Int64 = 1_000
  /// Leases and keys that one expiry command may remove, so that a storm never stalls writes.
  package static let maxExpiriesPerCommand = 256
  package static let maxExpiredKeysPerCommand = 1_024
  /// Leases that one request of our own lease service names.
  package static let maxLeasesPerNativeRequest = 10_000
  /// Leases with a key that one request grants; all of them share one revision and one moment under the state's lock.
  package static let maxPutsPerNativeRequest = 1_000

  // Consensus
  /// Bytes of proposals waiting for the log; beyond it proposals are refused with `too many requests`.
  package static let maxProposalBacklogBytes = 64 * 1024 * 1024
  package static let maxProposalBacklog = 65_536
  /// Bytes of commands that are packed into one log entry.
  package static let maxEntryBytes = 4 * 1024 * 1024
  /// What a member keeps, for members that lag, of the log that its engine has stored, however many entries that is.
  package static let keptLogBytes: Int64 = 64 * 1024 * 1024
  /// The same while a state is on its way to one of them.
  package static let maxKeptLogBytes: Int64 = 512 * 1024 * 1024

  // Members
  /// etcd's default: a learner costs the leader as much as a voter and brings nothing yet.
  package static let maxLearners = 1
  /// IDs of removed members that stay barred. They are drawn from 64 bits, so none comes back by chance.
  package static let maxRemovedMembers = 256

  // Peers
  /// The payload of one frame: the largest log record fits, and with it what surrounds an entry.
  package static let maxPeerFrameBytes = maxWALRecordBytes + 1024 * 1024
  /// The same where only small things pass: heartbeats, a snapshot's chunks.
  package static let maxSmallPeerFrameBytes = 1024 * 1024
  /// The same for whoever has not been let in yet.
  package static let maxPeerHandshakeBytes = 64 * 1024
  /// Entries of one append: a decoded entry takes more room than its bytes.
  package static let maxPeerMessageEntries = 262_144
  /// Messages and bytes that wait for one connection, beyond which new ones are dropped; raft repeats what matters.
  package static let maxUrgentBacklogMessages = 4_096
  package static let maxUrgentBacklogBytes = 4 * 1024 * 1024
  package static let maxBulkBacklogMessages = 16_384
  package static let maxBulkBacklogBytes = 128 * 1024 * 1024
  /// Senders that are let in although this member has not heard of them.
  package static let maxPeerGuests = 16
  package static let snapshotChunkBytes = 256 * 1024
  /// How far a snapshot's sender goes ahead of what the receiver has kept.
  package static let snapshotWindowBytes = 4 * 1024 * 1024

  // Log
  package static let walSegmentBytes = 64 * 1024 * 1024
  package static let maxWALRecordBytes = 32 * 1024 * 1024

  /// A membership in a message: some thousand members.
  package static let maxMembershipBytes = 32 * 1024

  // Storage engine
  /// What write-behind holds in memory before the engine commits without a rest.
  package static let commitAfterBytes = 64 * 1024 * 1024
  /// The same for the log behind the last commit, which a restart reads.
  package static let commitAfterLogBytes = 256 * 1024 * 1024
  /// Beyond it proposals wait for the next commit.
  package static let maxUncommittedBytes = 512 * 1024 * 1024

  // Quota
  /// `--quota-backend-bytes 0`, as in etcd.
  package static let defaultQuotaBytes: Int64 = 2 * 1024 * 1024 * 1024
  /// What a put, and a lease, are taken to cost beyond their bytes before they are proposed: etcd's figures.
  package static let quotaPutBytes = 256
  package static let quotaLeaseBytes = 64
  /// A member takes its alarm back when it uses less than this share of the quota.
  package static let quotaAlarmEndShare = 0.9

  // Watch
  /// Bytes of events that wait for one slow stream before its watchers fall back to reading history.
  package static let maxWatchStreamBacklogBytes = 1024 * 1024
  /// The same for all of etcd's streams on one event loop: with many of them each may have its share, but not less than
  /// the minimum.
  package static let maxWatchBacklogBytesPerLoop = 64 * 1024 * 1024
  package static let minWatchStreamBacklogBytes = 64 * 1024
  /// Bytes of applied events that wait for one event loop to look at them; beyond, its watches read history.
  package static let maxWatchInboxBytes = 16 * 1024 * 1024
  package static let maxWatchersPerStream = 10_000

  // Users
  /// Passwords that wait to be hashed; each takes tens of milliseconds.
  package static let maxWaitingPasswords = 256
  package static let maxTokenBytes = 16 * 1024
  /// Signed tokens that are known without a look at their signature.
  package static let maxKnownTokens = 4_096
  /// Messages that a stream keeps while it waits to learn who its caller is.
  package static let maxEarlyMessages = 1_000

  // HTTP and gRPC
  package static let maxHTTPBodyBytes = 8 * 1024 * 1024
  package static let maxConcurrentStreams = 1_000

  // Sidecar
  package static let maxCacheKeyBytes = 1_024
  package static let maxEventLineBytes = 64 * 1024
  /// Items under one journal key: a storm of evictions costs few keys, and a chunk stays far below a request.
  package static let maxJournalChunkItems = 1_000
  package static let maxEntryLabels = 32
  /// Refs and labels of one entry, together and encoded: a record is rewritten at each change of its state.
  package static let maxEntryAttributeBytes = 256 * 1024
  package static let maxListPage = 1_000
  /// Log lines that wait for the store before a lossy hook begins to lose.
  package static let maxHookBacklogLines = 100_000
  package static let maxLogLineBytes = 64 * 1024
  package static let maxEntryRefs = 10_000
  package static let maxSubscriberNameBytes = 128
  package static let eventHeartbeatMilliseconds: Int64 = 15_000
  package static let stalledSubscriberMilliseconds: Int64 = 30_000
  package static let maxDeliveryTries = 20
  package static let maxBatchHitLines = 100_000
}
