import FoundationEssentials
import Primitives
import StateMachine
import Wire

/// Who makes a call.
package enum Caller: Sendable {
  /// Users do not count.
  case anyone
  /// Users count, and the call names none.
  case nobody
  /// The call has a token that is not valid.
  case impostor
  indirect case user(AuthStamp)
}

/// What a method asks of its caller before it looks at the request.
enum Access: Sendable {
  /// Nothing: the method is for everybody, or decides by the request itself.
  case open
  /// To be some user.
  case user
  /// To have the root role.
  case root
}

// Here, and nowhere else, calls become users: by the token in the call's metadata, else by the certificate of its
// connection. A call that the gateway makes for an HTTP request has the metadata of that request and no certificate: that
// counts for gRPC only, as in etcd.

extension ServiceContext {
  /// nil: the call's token is of a log entry that this member has yet to apply; ask again then.
  func caller(of call: any GRPCCall) -> Caller? {
    guard node.auth.isEnabled else { return .anyone }
    if let token = call.metadata("token") ?? call.metadata("authorization") { return caller(with: token) }
    guard settings.auth.namesComeFromCertificates, let name = call.peerCommonName else { return .nobody }
    return .user(AuthStamp(user: Bytes(name), revision: node.auth.state.revision))
  }

  private func caller(with token: String) -> Caller? {
    switch settings.auth.tokens {
    case .signed(let tokens):
      return tokens.check(token, at: Date().timeIntervalSince1970).map { .user($0) } ?? .impostor
    case .simple:
      // The revision first: a token that is used while rights change counts for those before.
      let revision = node.auth.state.revision
      if let user = node.auth.tokens.use(token, at: .now) { return .user(AuthStamp(user: user, revision: revision)) }
      guard let index = TokenStore.index(of: token), index > node.status.appliedIndex else { return .impostor }
      return nil
    }
  }

  /// As above, for a member that has applied all it could know of.
  func settledCaller(of call: any GRPCCall) -> Caller { caller(of: call) ?? .impostor }

  /// Calls `then` with the call's caller, at once where nothing has to be waited for.
  func identify(_ call: UnaryCall, _ then: @escaping @Sendable (UnaryCall) -> Void) {
    var identified = call
    if let caller = call.caller(in: self) {
      identified.caller = caller
      return then(identified)
    }
    afterBarrier(call) {
      var identified = call
      identified.caller = call.caller(in: self) ?? .impostor
      then(identified)
    }
  }

  // MARK: Judging

  /// Runs a check on users and roles as they are; what it refuses becomes the call's status.
  func authorize(
    _ caller: Caller, _ check: (AuthState, AuthStamp?) throws(AuthError) -> Void
  ) throws(GRPCStatus) {
    guard node.auth.isEnabled else { return }
    let stamp = try stamp(of: caller)
    do throws(AuthError) { try check(node.auth.state, stamp) } catch { throw EtcdErrors.status(for: error) }
  }

  func authorize(_ caller: Caller, _ access: Access) throws(GRPCStatus) {
    switch access {
    case .open: return
    case .user: try authorize(caller) { (auth, stamp) throws(AuthError) in try auth.checkUser(stamp) }
    case .root: try authorize(caller) { (auth, stamp) throws(AuthError) in try auth.checkRoot(stamp) }
    }
  }

  /// What is judged by the state itself: its leases and their keys.
  func authorize(
    _ caller: Caller, state check: (borrowing StateMachine, AuthStamp?) throws(AuthError) -> Void
  ) throws(GRPCStatus) {
    guard node.auth.isEnabled else { return }
    let stamp = try stamp(of: caller)
    let failure: AuthError? = node.read { machine in
      do throws(AuthError) {
        try check(machine, stamp)
        return nil
      } catch { return error }
    }
    if let failure { throw EtcdErrors.status(for: failure) }
  }

  /// nil for nobody.
  func stamp(of caller: Caller) throws(GRPCStatus) -> AuthStamp? {
    switch caller {
    case .anyone, .nobody: nil
    case .impostor: throw EtcdErrors.invalidAuthToken
    case .user(let stamp): stamp
    }
  }

  /// An answer that was read while rights changed may be one that its reader must not have any more (etcd's
  /// `doSerialize`).
  func confirm(_ caller: Caller) throws(GRPCStatus) {
    guard case .user(let stamp) = caller, node.auth.isEnabled, node.auth.state.revision != stamp.revision else {
      return
    }
    throw EtcdErrors.authRevisionOld
  }
}
