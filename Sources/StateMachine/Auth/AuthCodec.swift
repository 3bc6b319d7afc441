import Primitives

// Users and roles, as snapshots and the engine carry them, and changes of them, as commands do:
//
//   auth:       is enabled u8 · revision varint · users: count · user each, rising · roles: count · role each, rising
//   user:       name · is without password u8 · password hash · roles: count · name each
//   role:       name · permissions: count · permission each
//   permission: kind u8 · key · range end
//   change:     tag u8 · its fields
//   author:     tag u8 · user: name · auth revision varint | judged: auth revision varint | member: nothing
//
// Names, hashes and keys are a length and bytes.

private enum AuthTag: UInt8 {
  case enable = 1
  case disable = 2
  case authenticate = 3
  case addUser = 4
  case deleteUser = 5
  case changePassword = 6
  case grantRole = 7
  case revokeRole = 8
  case addRole = 9
  case deleteRole = 10
  case grantPermission = 11
  case revokePermission = 12
}

private enum AuthorTag: UInt8 {
  case user = 1
  case judged = 2
  case member = 3
}

extension ByteWriter {
  package mutating func write(_ auth: AuthState) {
    writeBool(auth.isEnabled)
    writeVarint(auth.revision)
    writeCount(auth.users.count)
    for user in auth.users { write(user) }
    writeCount(auth.roles.count)
    for role in auth.roles {
      writeBytes(role.name)
      writeCount(role.permissions.count)
      for permission in role.permissions { write(permission) }
    }
  }

  private mutating func write(_ user: AuthUser) {
    writeBytes(user.name)
    writeBool(user.isWithoutPassword)
    writeBytes(Bytes(user.password.bytes))
    writeCount(user.roles.count)
    for role in user.roles { writeBytes(role) }
  }

  private mutating func write(_ permission: AuthPermission) {
    writeByte(permission.kind.rawValue)
    writeBytes(permission.key)
    writeBytes(permission.rangeEnd)
  }

  package mutating func write(_ command: AuthCommand) {
    switch command {
    case .enable: writeByte(AuthTag.enable.rawValue)
    case .disable: writeByte(AuthTag.disable.rawValue)
    case .authenticate(let user, let revision, let prefix):
      write(.authenticate, user)
      writeVarint(revision)
      writeBytes(prefix)
    case .addUser(let user):
      writeByte(AuthTag.addUser.rawValue)
      write(user)
    case .deleteUser(let name): write(.deleteUser, name)
    case .changePassword(let user, let password):
      write(.changePassword, user)
      writeBytes(Bytes(password.bytes))
    case .grantRole(let user, let role):
      write(.grantRole, user)
      writeBytes(role)
    case .revokeRole(let user, let role):
      write(.revokeRole, user)
      writeBytes(role)
    case .addRole(let name): write(.addRole, name)
    case .deleteRole(let name): write(.deleteRole, name)
    case .grantPermission(let role, let permission):
      write(.grantPermission, role)
      write(permission)
    case .revokePermission(let role, let key, let rangeEnd):
      write(.revokePermission, role)
      writeBytes(key)
      writeBytes(rangeEnd)
    }
  }

  private mutating func write(_ tag: AuthTag, _ name: Bytes) {
    writeByte(tag.rawValue)
    writeBytes(name)
  }

  mutating func write(_ author: Author) {
    switch author {
    case .user(let stamp):
      writeByte(AuthorTag.user.rawValue)
      writeBytes(stamp.user)
      writeVarint(stamp.revision)
    case .judged(let revision):
      writeByte(AuthorTag.judged.rawValue)
      writeVarint(revision)
    case .member: writeByte(AuthorTag.member.rawValue)
    }
  }
}

extension ByteReader {
  package mutating func readAuth() throws(DecodingFailure) -> AuthState {
    let isEnabled = try readBool()
    let revision = try readVarint()
    var users: [AuthUser] = []
    for _ in 0..<(try readCount(minimumSize: 4)) { users.append(try readUser()) }
    var roles: [AuthRole] = []
    for _ in 0..<(try readCount(minimumSize: 2)) {
      var role = AuthRole(name: try readBytes())
      for _ in 0..<(try readCount(minimumSize: 3)) { role.permissions.append(try readPermission()) }
      roles.append(role)
    }
    return try AuthState(isEnabled: isEnabled, revision: revision, users: users, roles: roles)
  }

  private mutating func readUser() throws(DecodingFailure) -> AuthUser {
    let name = try readBytes()
    let isWithoutPassword = try readBool()
    var user = AuthUser(
      name: name, password: StoredPassword(try readBytes().array), isWithoutPassword: isWithoutPassword)
    for _ in 0..<(try readCount()) { user.roles.append(try readBytes()) }
    return user
  }

  private mutating func readPermission() throws(DecodingFailure) -> AuthPermission {
    let offset = offset
    guard let kind = AuthPermission.Kind(rawValue: try readByte()) else {
      throw .malformed(offset: offset, "an unknown kind of permission")
    }
    let key = try readBytes()
    return AuthPermission(kind, key: key, rangeEnd: try readBytes())
  }

  package mutating func readAuthCommand() throws(DecodingFailure) -> AuthCommand {
    let offset = offset
    guard let tag = AuthTag(rawValue: try readByte()) else {
      throw .malformed(offset: offset, "an unknown change of users and roles")
    }
    switch tag {
    case .enable: return .enable
    case .disable: return .disable
    case .addUser: return .addUser(try readUser())
    default: return try readAuthCommand(tag, name: try readBytes())
    }
  }

  private mutating func readAuthCommand(_ tag: AuthTag, name: Bytes) throws(DecodingFailure) -> AuthCommand {
    switch tag {
    case .authenticate:
      let revision = try readVarint()
      return .authenticate(user: name, authRevision: revision, tokenPrefix: try readBytes())
    case .deleteUser: return .deleteUser(name)
    case .changePassword: return .changePassword(user: name, StoredPassword(try readBytes().array))
    case .grantRole: return .grantRole(user: name, role: try readBytes())
    case .revokeRole: return .revokeRole(user: name, role: try readBytes())
    case .addRole: return .addRole(name)
    case .deleteRole: return .deleteRole(name)
    case .grantPermission: return .grantPermission(role: name, try readPermission())
    case .revokePermission:
      let key = try readBytes()
      return .revokePermission(role: name, key: key, rangeEnd: try readBytes())
    case .enable, .disable, .addUser: preconditionFailure("\(tag) has no name")
    }
  }

  mutating func readAuthor() throws(DecodingFailure) -> Author {
    let offset = offset
    guard let tag = AuthorTag(rawValue: try readByte()) else {
      throw .malformed(offset: offset, "an unknown kind of author")
    }
    switch tag {
    case .user:
      let user = try readBytes()
      return .user(AuthStamp(user: user, revision: try readVarint()))
    case .judged: return .judged(authRevision: try readVarint())
    case .member: return .member
    }
  }
}
