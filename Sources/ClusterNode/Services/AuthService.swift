import EtcdAPI
import FoundationEssentials
import Primitives
import StateMachine
import Wire

/// etcdserverpb.Auth. Changes are judged where they are applied, as etcd does; what is only read, by the newest state.
struct AuthService<Node: NodeHandle>: Sendable {
  let context: ServiceContext<Node>
  let workshop: PasswordWorkshop

  init(_ context: ServiceContext<Node>) {
    self.context = context
    workshop = PasswordWorkshop(context.settings.auth.passwords)
  }

  func register(into registry: inout GRPCRegistry) {
    let lead = "/etcdserverpb.Auth/"
    registry.serve(lead + "Authenticate", context, access: .open, authenticate)
    registry.serve(lead + "AuthEnable", context, access: .open, enable)
    registry.serve(lead + "AuthDisable", context, access: .open, disable)
    registry.serve(lead + "AuthStatus", context, access: .open, status)
    registry.serve(lead + "UserAdd", context, access: .open, addUser)
    registry.serve(lead + "UserGet", context, access: .open, getUser)
    registry.serve(lead + "UserList", context, access: .open, listUsers)
    registry.serve(lead + "UserDelete", context, access: .open, deleteUser)
    registry.serve(lead + "UserChangePassword", context, access: .open, changePassword)
    registry.serve(lead + "UserGrantRole", context, access: .open, grantRole)
    registry.serve(lead + "UserRevokeRole", context, access: .open, revokeRole)
    registry.serve(lead + "RoleAdd", context, access: .open, addRole)
    registry.serve(lead + "RoleGet", context, access: .open, getRole)
    registry.serve(lead + "RoleList", context, access: .open, listRoles)
    registry.serve(lead + "RoleDelete", context, access: .open, deleteRole)
    registry.serve(lead + "RoleGrantPermission", context, access: .open, grantPermission)
    registry.serve(lead + "RoleRevokePermission", context, access: .open, revokePermission)
  }

  /// Proposes a change; the answers of all of them are a header.
  func change<Response>(
    _ command: AuthCommand, _ reply: UnaryReply<Response>,
    _ respond: @escaping @Sendable (EtcdResponseHeader) -> Response
  ) {
    do throws(GRPCStatus) { try context.checkSize(requestBytes: reply.call.requestBytes) } catch {
      return reply.fail(error)
    }
    context.propose(.auth(command), reply) { result in
      guard case .authChanged(let revision) = result else { preconditionFailure("a change of users came to \(result)") }
      return respond(context.header(revision: revision))
    }
  }

  /// Answers with what `respond` finds in the newest state, in which `check` has nothing against it.
  private func look<Response>(
    _ reply: UnaryReply<Response>, _ check: @escaping @Sendable (AuthState, AuthStamp?) throws(AuthError) -> Void,
    _ respond: @escaping @Sendable (AuthState, EtcdResponseHeader) throws(AuthError) -> Response
  ) {
    context.afterBarrier(reply) { () throws(GRPCStatus) in
      try context.authorize(reply.call.caller, check)
      let (auth, revision) = context.node.read { ($0.auth, $0.keyspace.revision) }
      do throws(AuthError) { return try respond(auth, context.header(revision: revision)) } catch {
        throw EtcdErrors.status(for: error)
      }
    }
  }

  // MARK: Whether users count

  @Sendable
  private func enable(_ request: EtcdAuthEnableRequest, _ reply: UnaryReply<EtcdAuthEnableResponse>) {
    change(.enable, reply) { header in .with { $0.header = header } }
  }

  @Sendable
  private func disable(_ request: EtcdAuthDisableRequest, _ reply: UnaryReply<EtcdAuthDisableResponse>) {
    change(.disable, reply) { header in .with { $0.header = header } }
  }

  @Sendable
  private func status(_ request: EtcdAuthStatusRequest, _ reply: UnaryReply<EtcdAuthStatusResponse>) {
    look(reply, { (auth, caller) throws(AuthError) in try auth.checkRoot(caller) }) { (auth, header) in
      .with {
        $0.header = header
        $0.enabled = auth.isEnabled
        $0.authRevision = auth.revision
      }
    }
  }

  // MARK: Users

  @Sendable
  private func getUser(_ request: EtcdAuthUserGetRequest, _ reply: UnaryReply<EtcdAuthUserGetResponse>) {
    let name = Bytes(request.name)
    look(reply, { (auth, caller) throws(AuthError) in try auth.checkLook(at: name, by: caller) }) {
      (auth, header) throws(AuthError) in
      guard let user = auth.user(name) else { throw .userNotFound }
      return .with {
        $0.header = header
        $0.roles = user.roles.map(\.etcdText)
      }
    }
  }

  @Sendable
  private func listUsers(_ request: EtcdAuthUserListRequest, _ reply: UnaryReply<EtcdAuthUserListResponse>) {
    look(reply, { (auth, caller) throws(AuthError) in try auth.checkRoot(caller) }) { (auth, header) in
      .with {
        $0.header = header
        $0.users = auth.users.map(\.name.etcdText)
      }
    }
  }

  @Sendable
  private func deleteUser(_ request: EtcdAuthUserDeleteRequest, _ reply: UnaryReply<EtcdAuthUserDeleteResponse>) {
    change(.deleteUser(Bytes(request.name)), reply) { header in .with { $0.header = header } }
  }

  @Sendable
  private func grantRole(_ request: EtcdAuthUserGrantRoleRequest, _ reply: UnaryReply<EtcdAuthUserGrantRoleResponse>) {
    change(.grantRole(user: Bytes(request.user), role: Bytes(request.role)), reply) { header in
      .with { $0.header = header }
    }
  }

  @Sendable
  private func revokeRole(
    _ request: EtcdAuthUserRevokeRoleRequest, _ reply: UnaryReply<EtcdAuthUserRevokeRoleResponse>
  ) {
    change(.revokeRole(user: Bytes(request.name), role: Bytes(request.role)), reply) { header in
      .with { $0.header = header }
    }
  }

  // MARK: Roles

  @Sendable
  private func addRole(_ request: EtcdAuthRoleAddRequest, _ reply: UnaryReply<EtcdAuthRoleAddResponse>) {
    change(.addRole(Bytes(request.name)), reply) { header in .with { $0.header = header } }
  }

  /// The root role's permissions are not written down: it has all.
  @Sendable
  private func getRole(_ request: EtcdAuthRoleGetRequest, _ reply: UnaryReply<EtcdAuthRoleGetResponse>) {
    let name = Bytes(request.role)
    look(reply, { (auth, caller) throws(AuthError) in try auth.checkLook(atRole: name, by: caller) }) {
      (auth, header) throws(AuthError) in
      guard let role = auth.role(name) else { throw .roleNotFound }
      let permissions =
        name == AuthState.rootName ? [AuthPermission(.readWrite, key: Bytes(), rangeEnd: [0])] : role.permissions
      return .with {
        $0.header = header
        $0.perm = permissions.map(\.etcdPermission)
      }
    }
  }

  @Sendable
  private func listRoles(_ request: EtcdAuthRoleListRequest, _ reply: UnaryReply<EtcdAuthRoleListResponse>) {
    look(reply, { (auth, caller) throws(AuthError) in try auth.checkRoot(caller) }) { (auth, header) in
      .with {
        $0.header = header
        $0.roles = auth.roles.map(\.name.etcdText)
      }
    }
  }

  @Sendable
  private func deleteRole(_ request: EtcdAuthRoleDeleteRequest, _ reply: UnaryReply<EtcdAuthRoleDeleteResponse>) {
    change(.deleteRole(Bytes(request.role)), reply) { header in .with { $0.header = header } }
  }

  /// A kind of permission that does not exist grants nothing: it is refused.
  @Sendable
  private func grantPermission(
    _ request: EtcdAuthRoleGrantPermissionRequest, _ reply: UnaryReply<EtcdAuthRoleGrantPermissionResponse>
  ) {
    guard request.hasPerm else { return refuse(reply, EtcdErrors.permissionNotGiven) }
    let kind: AuthPermission.Kind
    switch request.perm.permType {
    case .read: kind = .read
    case .write: kind = .write
    case .readwrite: kind = .readWrite
    case .UNRECOGNIZED: return refuse(reply, EtcdErrors.invalidAuthManagement)
    }
    let permission = AuthPermission(
      kind, key: Bytes(request.perm.key), rangeEnd: Bytes(request.perm.rangeEnd))
    change(.grantPermission(role: Bytes(request.name), permission), reply) { header in .with { $0.header = header } }
  }

  /// For a request that makes no sense, to somebody who may make such requests.
  private func refuse<Response>(_ reply: UnaryReply<Response>, _ status: GRPCStatus) {
    context.afterRootCheck(reply.call) { $0.fail(status) }
  }

  @Sendable
  private func revokePermission(
    _ request: EtcdAuthRoleRevokePermissionRequest, _ reply: UnaryReply<EtcdAuthRoleRevokePermissionResponse>
  ) {
    change(
      .revokePermission(role: Bytes(request.role), key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd)), reply
    ) { header in .with { $0.header = header } }
  }
}

extension Bytes {
  /// Names came as text.
  fileprivate var etcdText: String { String(decoding: array, as: UTF8.self) }
}

extension AuthPermission {
  fileprivate var etcdPermission: EtcdAuthPermission {
    .with {
      $0.permType =
        switch kind {
        case .read: .read
        case .write: .write
        case .readWrite: .readwrite
        }
      $0.key = key.data
      $0.rangeEnd = rangeEnd.data
    }
  }
}
