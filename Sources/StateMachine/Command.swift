import Keyspace
import Primitives

/// What the log carries: every change of the replicated state, in etcd's meaning plus our native ones.
package indirect enum Command: Hashable, Sendable {
  case put(PutRequest)
  case delete(DeleteRequest)
  case transaction(TransactionRequest)
  case compact(revision: Int64)
  /// `id` is never 0 here: the proposer has picked one.
  case leaseGrant(id: LeaseID, ttlMilliseconds: Int64)
  case leaseRevoke(id: LeaseID)
  /// One entry carries all renewals of a few milliseconds.
  case leaseRenew(ids: [LeaseID])
  /// Proposed by the leader alone; each deadline is checked again at apply, so a renewal that committed first wins.
  case leaseExpire(ids: [LeaseID])
  /// Grants `grants`, runs `request` and ends `revokes`, all or nothing: when the comparisons fail, or the request is
  /// refused, every lease stays as it is. Puts in the success branch may name the new leases. The revoked ones end behind
  /// the request, with the keys that it has left them; one that is not there is passed over.
  case grantAndTransact(grants: [LeaseGrant], request: TransactionRequest, revokes: [LeaseID] = [])
  case alarm(AlarmAction, Alarm)
  case member(MemberChange)
  case clusterVersion(ClusterVersion)
  case auth(AuthCommand)
  /// Never has an author inside another.
  case authored(Author, Command)
  /// Carries nothing but its stamp: persists the lease clock of an idle leader.
  case tick
}

package struct LeaseGrant: Hashable, Sendable {
  package var id: LeaseID
  package var ttlMilliseconds: Int64

  package init(id: LeaseID, ttlMilliseconds: Int64) {
    self.id = id
    self.ttlMilliseconds = ttlMilliseconds
  }
}

/// The payload of one log entry: the leader's lease clock and the commands proposed since the previous entry.
/// Bundling them costs one stamp, one record and one apply for a whole batch; each command keeps its own revision.
package struct CommandBatch: Hashable, Sendable {
  package var clock: LeaseClock
  package var commands: [Command]
  /// Whom the first commands belong to, part behind part; the commands behind the last part are the leader's own. Never
  /// more commands than there are.
  package var origins: [ForwardedPart]

  package init(clock: LeaseClock, commands: [Command], origins: [ForwardedPart] = []) {
    self.clock = clock
    self.commands = commands
    self.origins = origins
  }
}

/// What one command came to. Results carry the revision of the keyspace right after the command: the response header's.
package enum CommandResult: Hashable, Sendable {
  case put(previous: KeyRecord?, revision: Int64)
  case delete(DeleteResult, revision: Int64)
  case transaction(TransactionResult, revision: Int64)
  case compacted(revision: Int64)
  case leaseGranted(id: LeaseID, ttlMilliseconds: Int64, revision: Int64)
  case leaseRevoked(revision: Int64)
  /// TTLs in milliseconds beside their leases; 0 for a lease that is not there.
  case leasesRenewed([Int64], revision: Int64)
  case leasesExpired(count: Int, revision: Int64)
  /// The alarm that now stands or that has ended; none when there was nothing to end.
  case alarms([Alarm], revision: Int64)
  /// All members after the change.
  case members([ClusterMember], revision: Int64)
  case clusterVersion(ClusterVersion, revision: Int64)
  case authChanged(revision: Int64)
  /// At this log index, under this revision of users and roles.
  case authenticated(index: UInt64, authRevision: UInt64, revision: Int64)
  case ticked
  case refused(CommandError)
}

package enum CommandError: Error, Hashable, Sendable {
  case keyspace(KeyspaceError)
  case leaseNotFound
  case leaseExists
  /// Above `Limits.maxLeaseTTLSeconds`. Also a TTL that is not positive, which no correct proposer sends.
  case leaseTTLTooLarge
  case member(MemberRefusal)
  case auth(AuthError)
  /// An active no-space alarm forbids it.
  case noSpace
  /// An active corruption alarm forbids it.
  case corrupt
}
