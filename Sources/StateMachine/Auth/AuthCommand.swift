import Primitives

/// A change of users and roles, or somebody who has proved to be a user.
package enum AuthCommand: Hashable, Sendable {
  case enable
  case disable
  /// The user's password was right under this revision. `tokenPrefix`: with the entry's index behind it, the token that
  /// every member knows the user by from here on; empty when the member that asks makes a signed one.
  case authenticate(user: Bytes, authRevision: UInt64, tokenPrefix: Bytes)
  case addUser(AuthUser)
  case deleteUser(Bytes)
  case changePassword(user: Bytes, StoredPassword)
  case grantRole(user: Bytes, role: Bytes)
  case revokeRole(user: Bytes, role: Bytes)
  case addRole(Bytes)
  case deleteRole(Bytes)
  case grantPermission(role: Bytes, AuthPermission)
  case revokePermission(role: Bytes, key: Bytes, rangeEnd: Bytes)
}

/// etcd's refusals (`server/auth`), by their meaning.
package enum AuthError: Error, Hashable, Sendable, CaseIterable {
  case rootUserMissing
  case rootRoleMissing
  case userExists
  case userEmpty
  case userNotFound
  case roleExists
  case roleEmpty
  case roleNotFound
  case authenticationFailed
  case permissionDenied
  case roleNotGranted
  case permissionNotGranted
  case notEnabled
  case revisionOld
  case invalidManagement
}

extension AuthState {
  /// In etcd's order of checks; nothing has changed when it throws.
  mutating func apply(_ command: AuthCommand) throws(AuthError) {
    switch command {
    case .enable: return try enable()
    case .disable:
      guard isEnabled else { return }
      isEnabled = false
    case .authenticate(let name, let revision, _): return try authenticate(name, under: revision)
    case .addUser(let user): try add(user)
    case .deleteUser(let name):
      if isEnabled, name == Self.rootName { throw .invalidManagement }
      guard user(name) != nil else { throw .userNotFound }
      removeUser(name)
    case .changePassword(let name, let password):
      guard var user = user(name) else { throw .userNotFound }
      user.password = user.isWithoutPassword ? StoredPassword() : password
      put(user)
    case .grantRole(let name, let role):
      guard try grant(role, to: name) else { return }
    case .revokeRole(let name, let role): try revoke(role, from: name)
    case .addRole(let name):
      if name.isEmpty { throw .roleEmpty }
      guard role(name) == nil else { throw .roleExists }
      put(AuthRole(name: name))
    case .deleteRole(let name):
      if isEnabled, name == Self.rootName { throw .invalidManagement }
      guard role(name) != nil else { throw .roleNotFound }
      removeRole(name)
    case .grantPermission(let role, let permission): try grant(permission, to: role)
    case .revokePermission(let role, let key, let rangeEnd): try revoke(key, rangeEnd, from: role)
    }
    revision += 1
  }

  /// Not a change of users and roles: the revision stays.
  private mutating func enable() throws(AuthError) {
    guard !isEnabled else { return }
    guard let root = user(Self.rootName) else { throw .rootUserMissing }
    guard root.has(Self.rootName) else { throw .rootRoleMissing }
    isEnabled = true
  }

  /// A password that was checked before a change may be an old one.
  private func authenticate(_ name: Bytes, under revision: UInt64) throws(AuthError) {
    guard isEnabled else { throw .notEnabled }
    guard revision == self.revision else { throw .revisionOld }
    guard let user = user(name), !user.isWithoutPassword else { throw .authenticationFailed }
  }

  private mutating func add(_ user: AuthUser) throws(AuthError) {
    if user.name.isEmpty { throw .userEmpty }
    guard self.user(user.name) == nil else { throw .userExists }
    put(user)
  }

  /// Answers whether that changed anything. The root role need not exist to be granted.
  private mutating func grant(_ role: Bytes, to name: Bytes) throws(AuthError) -> Bool {
    guard var user = user(name) else { throw .userNotFound }
    guard role == Self.rootName || self.role(role) != nil else { throw .roleNotFound }
    guard !user.has(role) else { return false }
    user.roles.append(role)
    user.roles.sort()
    put(user)
    return true
  }

  private mutating func revoke(_ role: Bytes, from name: Bytes) throws(AuthError) {
    if isEnabled, name == Self.rootName, role == Self.rootName { throw .invalidManagement }
    guard var user = user(name) else { throw .userNotFound }
    guard user.has(role) else { throw .roleNotGranted }
    user.roles.removeAll { $0 == role }
    put(user)
  }

  /// A second grant for a range takes the place of the first.
  private mutating func grant(_ permission: AuthPermission, to name: Bytes) throws(AuthError) {
    guard permission.isSensible else { throw .invalidManagement }
    guard var role = role(name) else { throw .roleNotFound }
    let known = role.permissions.firstIndex { $0.key == permission.key && $0.rangeEnd == permission.rangeEnd }
    if let known {
      role.permissions[known].kind = permission.kind
    } else {
      let next = role.permissions.firstIndex { $0.key > permission.key } ?? role.permissions.count
      role.permissions.insert(permission, at: next)
    }
    put(role)
  }

  private mutating func revoke(_ key: Bytes, _ rangeEnd: Bytes, from name: Bytes) throws(AuthError) {
    guard var role = role(name) else { throw .roleNotFound }
    guard let position = role.permissions.firstIndex(where: { $0.key == key && $0.rangeEnd == rangeEnd }) else {
      throw .permissionNotGranted
    }
    role.permissions.remove(at: position)
    put(role)
  }
}
