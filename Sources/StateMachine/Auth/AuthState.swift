import Keyspace
import Primitives

/// Users, roles, and whether they count: what etcd calls its auth store. Every member has the same, by the log.
package struct AuthState: Hashable, Sendable {
  /// The user that there must be, and the role that may do everything.
  package static let rootName: Bytes = "root"

  package internal(set) var isEnabled = false
  /// Rises with every change of users and roles, and when they cease to count. Whoever judges what somebody may do
  /// notes under which revision; where that matters later, an older one does not count.
  package internal(set) var revision: UInt64 = 1
  /// Rising by name.
  package internal(set) var users: [AuthUser] = []
  /// Rising by name.
  package internal(set) var roles: [AuthRole] = []
  /// What each user may do, made of the roles whenever one of them changes.
  private(set) var access: [Bytes: UserAccess] = [:]

  package init() {}

  /// As it was stored or sent. Throws unless names rise.
  init(
    isEnabled: Bool, revision: UInt64, users: [AuthUser], roles: [AuthRole]
  ) throws(DecodingFailure) {
    guard (1...UInt64(Int64.max)).contains(revision) else {
      throw .malformed(offset: 0, "an auth revision of \(revision)")
    }
    guard zip(users, users.dropFirst()).allSatisfy({ $0.name < $1.name }),
      zip(roles, roles.dropFirst()).allSatisfy({ $0.name < $1.name }),
      users.allSatisfy({ user in zip(user.roles, user.roles.dropFirst()).allSatisfy { $0 < $1 } })
    else { throw .malformed(offset: 0, "users or roles out of order") }
    self.isEnabled = isEnabled
    self.revision = revision
    self.users = users
    self.roles = roles
    for user in users { refreshAccess(of: user) }
  }

  package func user(_ name: Bytes) -> AuthUser? { position(of: name, in: users, \.name).found.map { users[$0] } }

  package func role(_ name: Bytes) -> AuthRole? { position(of: name, in: roles, \.name).found.map { roles[$0] } }

  // MARK: Changes of one user or role

  mutating func put(_ user: AuthUser) {
    let place = position(of: user.name, in: users, \.name)
    if let index = place.found { users[index] = user } else { users.insert(user, at: place.next) }
    refreshAccess(of: user)
  }

  mutating func removeUser(_ name: Bytes) {
    users.removeAll { $0.name == name }
    access[name] = nil
  }

  mutating func put(_ role: AuthRole) {
    let place = position(of: role.name, in: roles, \.name)
    if let index = place.found { roles[index] = role } else { roles.insert(role, at: place.next) }
    for user in users where user.has(role.name) { refreshAccess(of: user) }
  }

  mutating func removeRole(_ name: Bytes) {
    roles.removeAll { $0.name == name }
    for user in users where user.has(name) {
      var changed = user
      changed.roles.removeAll { $0 == name }
      put(changed)
    }
  }

  private mutating func refreshAccess(of user: AuthUser) {
    access[user.name] = UserAccess(
      isRoot: user.has(Self.rootName), permissions: user.roles.flatMap { role($0)?.permissions ?? [] })
  }

  private func position<Element>(
    of name: Bytes, in elements: [Element], _ key: KeyPath<Element, Bytes>
  ) -> (found: Int?, next: Int) {
    var low = 0
    var high = elements.count
    while low < high {
      let middle = (low + high) / 2
      if elements[middle][keyPath: key] < name { low = middle + 1 } else { high = middle }
    }
    return (low < elements.count && elements[low][keyPath: key] == name ? low : nil, low)
  }
}

package struct AuthUser: Hashable, Sendable {
  package var name: Bytes
  package var password: StoredPassword
  /// Proves who it is by other means than a password.
  package var isWithoutPassword: Bool
  /// Sorted. A role may be gone: it grants nothing then.
  package var roles: [Bytes]

  package init(name: Bytes, password: StoredPassword, isWithoutPassword: Bool = false, roles: [Bytes] = []) {
    self.name = name
    self.password = password
    self.isWithoutPassword = isWithoutPassword
    self.roles = roles
  }

  package func has(_ role: Bytes) -> Bool { roles.contains(role) }
}

/// What the members keep of a password: a slow, salted hash, made before it comes here. Never printed.
package struct StoredPassword: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
  /// Empty: no password fits.
  package var bytes: [UInt8]

  package init(_ bytes: [UInt8] = []) { self.bytes = bytes }

  package var description: String { "(hidden)" }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

package struct AuthRole: Hashable, Sendable {
  package var name: Bytes
  /// Sorted by key; no two for the same range.
  package var permissions: [AuthPermission]

  package init(name: Bytes, permissions: [AuthPermission] = []) {
    self.name = name
    self.permissions = permissions
  }
}

package struct AuthPermission: Hashable, Sendable {
  /// etcd's numbers.
  package enum Kind: UInt8, Hashable, Sendable, CaseIterable {
    case read = 0
    case write = 1
    case readWrite = 2
  }

  package var kind: Kind
  package var key: Bytes
  /// As in a range request: empty for one key, one zero byte for all keys from `key` on.
  package var rangeEnd: Bytes

  package init(_ kind: Kind, key: Bytes, rangeEnd: Bytes = Bytes()) {
    self.kind = kind
    self.key = key
    self.rangeEnd = rangeEnd
  }

  package var range: KeyRange { KeyRange(key: key, rangeEnd: rangeEnd) }

  /// etcd's `isValidPermissionRange`: a key, and an end behind it if there is one.
  var isSensible: Bool { !key.isEmpty && (rangeEnd.isEmpty || key < rangeEnd || rangeEnd.array == [0]) }
}
