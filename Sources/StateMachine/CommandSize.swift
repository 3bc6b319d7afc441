import Keyspace

extension Command {
  /// About how many bytes the command takes in the log: for the backlog and the size of an entry, not for its coding.
  package var approximateBytes: Int {
    switch self {
    case .put(let put): put.approximateBytes
    case .delete: 64
    case .transaction(let request): request.approximateBytes
    case .grantAndTransact(let grants, let request, let revokes):
      grants.count * 16 + request.approximateBytes + revokes.count * 9
    case .leaseRenew(let ids), .leaseExpire(let ids): 16 + ids.count * 9
    case .member(let change): change.approximateBytes
    case .auth(let command): command.approximateBytes
    case .authored(let author, let inner): author.approximateBytes + inner.approximateBytes
    case .compact, .leaseGrant, .leaseRevoke, .alarm, .clusterVersion, .tick: 24
    }
  }
}

extension AuthCommand {
  fileprivate var approximateBytes: Int {
    switch self {
    case .enable, .disable: 16
    case .authenticate(let user, _, let prefix): 24 + user.count + prefix.count
    case .addUser(let user): 24 + user.name.count + user.password.bytes.count
    case .deleteUser(let name), .addRole(let name), .deleteRole(let name): 16 + name.count
    case .changePassword(let user, let password): 16 + user.count + password.bytes.count
    case .grantRole(let user, let role), .revokeRole(let user, let role): 16 + user.count + role.count
    case .grantPermission(let role, let permission):
      16 + role.count + permission.key.count + permission.rangeEnd.count
    case .revokePermission(let role, let key, let rangeEnd): 16 + role.count + key.count + rangeEnd.count
    }
  }
}

extension Author {
  fileprivate var approximateBytes: Int {
    if case .user(let stamp) = self { stamp.user.count + 8 } else { 8 }
  }
}

extension MemberChange {
  fileprivate var approximateBytes: Int {
    switch self {
    case .add(let member): member.peerURLs.reduce(24) { $0 + $1.utf8.count + 2 }
    case .remove, .promote: 16
    case .update(_, let urls): urls.reduce(16) { $0 + $1.utf8.count + 2 }
    case .publish(_, let name, let urls): urls.reduce(16 + name.utf8.count) { $0 + $1.utf8.count + 2 }
    }
  }
}

extension PutRequest {
  fileprivate var approximateBytes: Int { key.count + value.count + 24 }
}

extension TransactionRequest {
  fileprivate var approximateBytes: Int {
    comparisons.reduce(16) { $0 + $1.approximateBytes } + success.reduce(0) { $0 + $1.approximateBytes }
      + failure.reduce(0) { $0 + $1.approximateBytes }
  }
}

extension Comparison {
  fileprivate var approximateBytes: Int {
    if case .value(let value) = target { range.approximateBytes + value.count } else { range.approximateBytes + 16 }
  }
}

extension KeyRange {
  fileprivate var approximateBytes: Int {
    switch self {
    case .single(let key), .from(let key): key.count + 8
    case .halfOpen(let start, let end): start.count + end.count + 8
    }
  }
}

extension Operation {
  fileprivate var approximateBytes: Int {
    switch self {
    case .range(let query): query.range.approximateBytes + 48
    case .put(let put): put.approximateBytes
    case .delete(let request): request.range.approximateBytes
    case .transaction(let request): request.approximateBytes
    }
  }
}
