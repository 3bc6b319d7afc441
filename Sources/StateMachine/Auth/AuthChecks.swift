import Keyspace
import Primitives

package enum AuthAccess: Hashable, Sendable {
  case read
  case write
}

// Who may do what: etcd's `IsRangePermitted` and its kin. A caller of nil is nobody. All of it holds only while users
// count.

extension AuthState {
  package func check(_ caller: AuthStamp?, _ access: AuthAccess, _ range: KeyRange) throws(AuthError) {
    guard isEnabled else { return }
    guard let caller, caller.revision != 0 else { throw .userEmpty }
    guard caller.revision >= revision else { throw .revisionOld }
    guard let own = self.access[caller.user] else { throw .permissionDenied }
    if own.isRoot { return }
    let allowed = access == .read ? own.readable : own.writable
    guard allowed.covers(range) else { throw .permissionDenied }
  }

  /// For what only users with the root role may do. As in etcd under any revision: the roles are looked up now.
  package func checkRoot(_ caller: AuthStamp?) throws(AuthError) {
    guard isEnabled else { return }
    guard let caller, !caller.user.isEmpty else { throw .userEmpty }
    guard let own = access[caller.user] else { throw .userNotFound }
    guard own.isRoot else { throw .permissionDenied }
  }

  /// For what any user may do.
  package func checkUser(_ caller: AuthStamp?) throws(AuthError) {
    if isEnabled, caller == nil { throw .userEmpty }
  }

  package func isRoot(_ caller: AuthStamp?) -> Bool {
    guard let caller else { return false }
    return access[caller.user]?.isRoot ?? false
  }

  /// Users may look at themselves.
  package func checkLook(at user: Bytes, by caller: AuthStamp?) throws(AuthError) {
    do throws(AuthError) { try checkRoot(caller) } catch {
      guard let caller, caller.user == user else { throw error }
    }
  }

  /// Users may look at their roles.
  package func checkLook(atRole role: Bytes, by caller: AuthStamp?) throws(AuthError) {
    do throws(AuthError) { try checkRoot(caller) } catch {
      guard let caller, user(caller.user)?.has(role) ?? false else { throw error }
    }
  }
}

// MARK: Requests

extension StateMachine {
  /// What the state's users may do with it, for one caller.
  package func check(_ request: TransactionRequest, by caller: AuthStamp?) throws(AuthError) {
    guard auth.isEnabled else { return }
    for comparison in request.comparisons { try auth.check(caller, .read, comparison.range) }
    for operation in request.success { try check(operation, by: caller) }
    for operation in request.failure { try check(operation, by: caller) }
  }

  private func check(_ operation: Operation, by caller: AuthStamp?) throws(AuthError) {
    switch operation {
    case .range(let query): try auth.check(caller, .read, query.range)
    case .put(let put): try check(put, by: caller)
    case .delete(let delete): try check(delete, by: caller)
    case .transaction(let inner): try check(inner, by: caller)
    }
  }

  /// A lease with a key that the caller may not write cannot take another key of the caller's: it could not be revoked.
  func check(_ put: PutRequest, by caller: AuthStamp?) throws(AuthError) {
    try auth.check(caller, .write, .single(put.key))
    if put.lease != 0 { try checkKeys(of: put.lease, .write, by: caller) }
    if put.wantsPrevious { try auth.check(caller, .read, .single(put.key)) }
  }

  func check(_ delete: DeleteRequest, by caller: AuthStamp?) throws(AuthError) {
    try auth.check(caller, .write, delete.range)
    if delete.wantsPrevious { try auth.check(caller, .read, delete.range) }
  }

  /// Of every key on the lease; a lease without any, or that is not there, is anybody's.
  package func checkKeys(
    of lease: LeaseID, _ access: AuthAccess, by caller: AuthStamp?
  ) throws(AuthError) {
    guard auth.isEnabled, !auth.isRoot(caller) else { return }
    for key in keys(of: lease) { try auth.check(caller, access, .single(key)) }
  }

  /// Why the command must not be carried out, while users count. etcd's `authApplierV3`, with what later releases of 3.5
  /// have closed: nested transactions, puts inside transactions, leases and compaction.
  func refusalByUsers(of command: Command) -> AuthError? {
    do throws(AuthError) {
      guard case .authored(let author, let inner) = command else {
        if command.needsAuthor { throw .userEmpty }
        return nil
      }
      switch author {
      case .member: return nil
      case .judged(let revision): if revision < auth.revision { throw .revisionOld }
      case .user(let caller): try check(inner, by: caller)
      }
      return nil
    } catch {
      return error
    }
  }

  private func check(_ command: Command, by caller: AuthStamp) throws(AuthError) {
    switch command {
    case .put(let request): try check(request, by: caller)
    case .delete(let request): try check(request, by: caller)
    case .transaction(let request): try check(request, by: caller)
    case .grantAndTransact(_, let request, let revokes):
      try check(request, by: caller)
      for id in revokes { try checkKeys(of: id, .write, by: caller) }
    case .leaseGrant: try auth.checkUser(caller)
    case .leaseRevoke(let id): try checkKeys(of: id, .write, by: caller)
    case .leaseRenew(let ids): for id in ids { try checkKeys(of: id, .write, by: caller) }
    case .auth(.authenticate): break
    case .compact, .alarm, .auth, .leaseExpire, .member, .clusterVersion, .tick, .authored: try auth.checkRoot(caller)
    }
  }
}

extension Command {
  /// Whether somebody must stand for the command while users count. What members propose by themselves needs nobody; that
  /// no client gets it done under their name is for the services to see to.
  fileprivate var needsAuthor: Bool {
    switch self {
    case .put, .delete, .transaction, .compact, .leaseGrant, .leaseRevoke, .leaseRenew, .grantAndTransact: true
    case .auth(.authenticate): false
    case .auth: true
    case .leaseExpire, .alarm, .member, .clusterVersion, .tick, .authored: false
    }
  }

  /// The command itself, without its author.
  package var bare: Command {
    if case .authored(_, let inner) = self { inner } else { self }
  }
}

extension StateMachine {
  mutating func change(_ command: AuthCommand) throws(CommandError) -> CommandResult {
    do throws(AuthError) { try auth.apply(command) } catch { throw .auth(error) }
    if case .authenticate = command {
      return .authenticated(index: appliedIndex, authRevision: auth.revision, revision: keyspace.revision)
    }
    var writer = ByteWriter(reserving: 64)
    writer.write(command)
    hash.mix(writer.bytes)
    hash.mix(auth.revision)
    return .authChanged(revision: keyspace.revision)
  }
}
