import Keyspace
import StateMachine
import Wire

/// Every refusal that etcd's clients know, by text and code (etcd 3.5, `rpctypes`): clients match both literally.
package enum EtcdErrors {
  private static func error(_ code: GRPCCode, _ text: String) -> GRPCStatus { GRPCStatus(code, "etcdserver: " + text) }

  // Requests
  package static let emptyKey = error(.invalidArgument, "key is not provided")
  package static let keyNotFound = error(.invalidArgument, "key not found")
  package static let valueProvided = error(.invalidArgument, "value is provided")
  package static let leaseProvided = error(.invalidArgument, "lease is provided")
  package static let tooManyOperations = error(.invalidArgument, "too many operations in txn request")
  package static let duplicateKey = error(.invalidArgument, "duplicate key given in txn request")
  package static let invalidSortOption = error(.invalidArgument, "invalid sort option")
  package static let requestTooLarge = error(.invalidArgument, "request is too large")
  package static let invalidClientAPIVersion = error(.invalidArgument, "invalid client api version")

  // Keyspace
  package static let compacted = error(.outOfRange, "mvcc: required revision has been compacted")
  package static let futureRevision = error(.outOfRange, "mvcc: required revision is a future revision")
  package static let noSpace = error(.resourceExhausted, "mvcc: database space exceeded")

  // Leases
  package static let leaseNotFound = error(.notFound, "requested lease not found")
  package static let leaseExists = error(.failedPrecondition, "lease already exists")
  package static let leaseTTLTooLarge = error(.outOfRange, "too large lease TTL")

  // Watches
  package static let watchCanceled = error(.cancelled, "watch canceled")

  // Members
  package static let memberExists = error(.failedPrecondition, "member ID already exist")
  package static let peerURLExists = error(.failedPrecondition, "Peer URLs already exists")
  /// etcd means to give it a code, FailedPrecondition, and does not: what it sends is what clients have always seen.
  package static let notEnoughStartedMembers = error(
    .unknown, "re-configuration failed due to not enough started members")
  package static let badMemberURLs = error(.invalidArgument, "given member URLs are invalid")
  package static let memberNotFound = error(.notFound, "member not found")
  package static let memberNotLearner = error(.failedPrecondition, "can only promote a learner member")
  package static let learnerNotReady = error(
    .failedPrecondition, "can only promote a learner member which is in sync with leader")
  package static let tooManyLearners = error(.failedPrecondition, "too many learner members in cluster")
  package static let clusterIDMismatch = error(.failedPrecondition, "cluster ID mismatch")
  package static let notSupportedForLearner = error(.unavailable, "rpc not supported for learner")

  // Users and roles
  package static let rootUserMissing = error(.failedPrecondition, "root user does not exist")
  package static let rootRoleMissing = error(.failedPrecondition, "root user does not have root role")
  package static let userExists = error(.failedPrecondition, "user name already exists")
  package static let userEmpty = error(.invalidArgument, "user name is empty")
  package static let userNotFound = error(.failedPrecondition, "user name not found")
  package static let roleExists = error(.failedPrecondition, "role name already exists")
  package static let roleNotFound = error(.failedPrecondition, "role name not found")
  package static let roleEmpty = error(.invalidArgument, "role name is empty")
  package static let authenticationFailed = error(
    .invalidArgument, "authentication failed, invalid user ID or password")
  package static let permissionNotGiven = error(.invalidArgument, "permission not given")
  package static let permissionDenied = error(.permissionDenied, "permission denied")
  package static let roleNotGranted = error(.failedPrecondition, "role is not granted to the user")
  package static let permissionNotGranted = error(.failedPrecondition, "permission is not granted to the role")
  package static let authenticationNotEnabled = error(.failedPrecondition, "authentication is not enabled")
  package static let invalidAuthToken = error(.unauthenticated, "invalid auth token")
  package static let invalidAuthManagement = error(.invalidArgument, "invalid auth management")
  package static let authRevisionOld = error(.invalidArgument, "revision of auth store is old")

  /// Without a code of their own in etcd.
  package static let passwordForNoPasswordUser = GRPCStatus(
    .unknown, "auth: authentication failed, password was given for no password user")
  package static let signingImpossible = GRPCStatus(
    .unknown, "auth: token signing attempted with verify-only key")

  // The cluster
  package static let tooManyRequests = error(.resourceExhausted, "too many requests")
  package static let noLeader = error(.unavailable, "no leader")
  package static let notLeader = error(.failedPrecondition, "not leader")
  package static let leaderChanged = error(.unavailable, "leader changed")
  package static let notCapable = error(.unavailable, "not capable")
  package static let stopped = error(.unavailable, "server stopped")
  package static let timedOut = error(.unavailable, "request timed out")
  package static let timedOutByLeaderFailure = error(
    .unavailable, "request timed out, possibly due to previous leader failure")
  package static let timedOutByConnectionLoss = error(
    .unavailable, "request timed out, possibly due to connection lost")
  package static let timedOutWaitingForApply = error(
    .unavailable, "request timed out, waiting for the applied index took too long")
  package static let unhealthy = error(.unavailable, "unhealthy cluster")
  package static let corrupt = error(.dataLoss, "corrupt cluster")
  package static let badLeaderTransferee = error(.failedPrecondition, "bad leader transferee")
  /// Not among etcd's own texts with a code.
  package static let leaderTransferTookTooLong = error(
    .unknown, "request timed out, leader transfer took too long")

  // Downgrades
  package static let downgradeVersionFormat = error(.invalidArgument, "wrong downgrade target version format")
  package static let downgradeTarget = error(.invalidArgument, "invalid downgrade target version")
  package static let noDowngrade = error(.failedPrecondition, "no inflight downgrade job")
  package static let unknownMethod = error(.unknown, "unknown method")
  /// Ours.
  package static let downgradeNotOffered = GRPCStatus(
    .unimplemented, "leasehold: downgrades are not offered, no other release reads this member's data")

  /// A request that is not the message it should be, in grpc-go's words.
  static func undecodable(_ reason: any Error, streaming: Bool) -> GRPCStatus {
    let lead =
      streaming ? "grpc: failed to unmarshal the received message: " : "grpc: error unmarshalling request: "
    return GRPCStatus(.internal, lead + "\(reason)")
  }

  package static func status(for error: ProposalError) -> GRPCStatus {
    switch error {
    case .noLeader: noLeader
    case .notLeader: notLeader
    case .badLeaderTransferee: badLeaderTransferee
    case .tooManyRequests: tooManyRequests
    case .requestTooLarge: requestTooLarge
    case .noSpace: noSpace
    case .stopped: stopped
    case .timedOut: timedOut
    case .timedOutByLeaderFailure: timedOutByLeaderFailure
    case .membership(.notEnoughStartedMembers): notEnoughStartedMembers
    case .membership(.unhealthy): unhealthy
    case .membership(.learnerNotReady): learnerNotReady
    case .corrupt: corrupt
    }
  }

  package static func status(for error: KeyspaceError) -> GRPCStatus {
    switch error {
    case .compacted: compacted
    case .futureRevision: futureRevision
    case .keyNotFound: keyNotFound
    case .leaseNotFound: leaseNotFound
    }
  }

  package static func status(for error: CommandError) -> GRPCStatus {
    switch error {
    case .keyspace(let error): status(for: error)
    case .leaseNotFound: leaseNotFound
    case .leaseExists: leaseExists
    case .leaseTTLTooLarge: leaseTTLTooLarge
    case .member(let refusal): status(for: refusal)
    case .auth(let error): status(for: error)
    case .noSpace: noSpace
    case .corrupt: corrupt
    }
  }

  package static func status(for error: AuthError) -> GRPCStatus {
    switch error {
    case .rootUserMissing: rootUserMissing
    case .rootRoleMissing: rootRoleMissing
    case .userExists: userExists
    case .userEmpty: userEmpty
    case .userNotFound: userNotFound
    case .roleExists: roleExists
    case .roleEmpty: roleEmpty
    case .roleNotFound: roleNotFound
    case .authenticationFailed: authenticationFailed
    case .permissionDenied: permissionDenied
    case .roleNotGranted: roleNotGranted
    case .permissionNotGranted: permissionNotGranted
    case .notEnabled: authenticationNotEnabled
    case .revisionOld: authRevisionOld
    case .invalidManagement: invalidAuthManagement
    }
  }

  package static func status(for error: MembershipError) -> GRPCStatus {
    switch error {
    case .proposal(let error): status(for: error)
    case .refused(let refusal): status(for: refusal)
    case .unready(.notEnoughStartedMembers): notEnoughStartedMembers
    case .unready(.unhealthy): unhealthy
    case .unready(.learnerNotReady): learnerNotReady
    }
  }

  package static func status(for error: TransferError) -> GRPCStatus {
    switch error {
    case .badTransferee: badLeaderTransferee
    case .notLeader: notLeader
    case .tookTooLong: leaderTransferTookTooLong
    case .stopped: stopped
    }
  }

  package static func status(for refusal: MemberRefusal) -> GRPCStatus {
    switch refusal {
    case .memberExists: memberExists
    case .memberNotFound, .memberRemoved: memberNotFound
    case .peerURLExists: peerURLExists
    case .notLearner: memberNotLearner
    case .tooManyLearners: tooManyLearners
    }
  }
}

/// Why a watch could not be made or is over: the `cancel_reason` of its last answer. Plain text, no status.
package enum WatchCancelReason {
  package static let emptyRange = "mvcc: watcher range is empty"
  package static let duplicateID = "mvcc: duplicate watch ID provided on the WatchStream"
  package static let tooManyWatches = "etcdserver: too many watches on one stream"

  /// A status as grpc-go prints an error.
  static func status(_ status: GRPCStatus) -> String {
    "rpc error: code = \(status.code.name) desc = \(status.message)"
  }
}
