import Keyspace
import Primitives
import StateMachine
import Testing

@Suite("Users and roles")
struct AuthCommandTests {
  @Test("begin to count when there is a root user with the root role, and root cannot lose it then")
  func enabling() {
    var log = Log()
    #expect(log.auth(.enable) == .rootUserMissing)
    #expect(log.auth(.addUser(AuthUser(name: "root", password: "p"))) == nil)
    #expect(log.auth(.enable) == .rootRoleMissing)
    #expect(log.auth(.grantRole(user: "root", role: "root")) == nil, "the role need not be written down")
    #expect(log.machine.auth.revision == 3)
    #expect(log.auth(.enable) == nil)
    #expect(log.machine.auth.isEnabled && log.machine.auth.revision == 3, "enabling changes no rights")
    for command in [
      AuthCommand.deleteUser("root"), .deleteRole("root"), .revokeRole(user: "root", role: "root"),
    ] { #expect(log.auth(command, by: "root") == .invalidManagement) }
    #expect(log.auth(.disable, by: "root") == nil)
    #expect(!log.machine.auth.isEnabled && log.machine.auth.revision == 4)
    #expect(log.auth(.deleteUser("root")) == nil)
  }

  @Test("are refused in etcd's words, and nothing changes then")
  func refusals() {
    var log = Log()
    log.auth(.addUser(AuthUser(name: "u", password: "p")))
    log.auth(.addRole("r"))
    let before = log.machine.auth
    let refused: [(AuthCommand, AuthError)] = [
      (.addUser(AuthUser(name: "", password: "p")), .userEmpty),
      (.addUser(AuthUser(name: "u", password: "q")), .userExists),
      (.deleteUser("v"), .userNotFound),
      (.changePassword(user: "v", "p"), .userNotFound),
      (.grantRole(user: "v", role: "r"), .userNotFound),
      (.grantRole(user: "u", role: "s"), .roleNotFound),
      (.revokeRole(user: "v", role: "r"), .userNotFound),
      (.revokeRole(user: "u", role: "r"), .roleNotGranted),
      (.addRole(""), .roleEmpty),
      (.addRole("r"), .roleExists),
      (.deleteRole("s"), .roleNotFound),
      (.grantPermission(role: "s", AuthPermission(.read, key: "a")), .roleNotFound),
      (.grantPermission(role: "r", AuthPermission(.read, key: "")), .invalidManagement),
      (.grantPermission(role: "r", AuthPermission(.read, key: "b", rangeEnd: "a")), .invalidManagement),
      (.revokePermission(role: "s", key: "a", rangeEnd: ""), .roleNotFound),
      (.revokePermission(role: "r", key: "a", rangeEnd: ""), .permissionNotGranted),
      (.authenticate(user: "u", authRevision: before.revision, tokenPrefix: "t"), .notEnabled),
    ]
    for (command, error) in refused { #expect(log.auth(command) == error, "\(command)") }
    #expect(log.machine.auth == before)
  }

  @Test("keep a role's permissions by key, one for a range, and a deleted role leaves its holders")
  func permissions() {
    var log = Log()
    log.auth(.addRole("r"))
    log.auth(.addUser(AuthUser(name: "u", password: "p")))
    log.auth(.grantRole(user: "u", role: "r"))
    for (kind, key, end) in [(AuthPermission.Kind.read, "b", ""), (.write, "a", "c"), (.readWrite, "b", "d")] {
      log.auth(.grantPermission(role: "r", AuthPermission(kind, key: Bytes(key), rangeEnd: Bytes(end))))
    }
    log.auth(.grantPermission(role: "r", AuthPermission(.write, key: "b", rangeEnd: "d")))
    #expect(
      log.machine.auth.role("r")?.permissions == [
        AuthPermission(.write, key: "a", rangeEnd: "c"), AuthPermission(.read, key: "b"),
        AuthPermission(.write, key: "b", rangeEnd: "d"),
      ])
    #expect(log.auth(.deleteRole("r")) == nil)
    #expect(log.machine.auth.user("u")?.roles == [])
    #expect(log.auth(.addRole("r")) == nil)
    #expect(log.machine.auth.user("u")?.roles == [], "a new role of that name is another one")
  }

  @Test("a password that was checked before rights changed admits nobody")
  func authentication() {
    var log = Log.withUsers()
    let revision = log.machine.auth.revision
    func attempt(_ user: Bytes, under revision: UInt64) -> CommandResult {
      log.at(1, .auth(.authenticate(user: user, authRevision: revision, tokenPrefix: "t")))[0]
    }
    #expect(
      attempt("alice", under: revision)
        == .authenticated(index: log.machine.appliedIndex, authRevision: revision, revision: 3))
    #expect(attempt("alice", under: revision - 1) == .refused(.auth(.revisionOld)))
    #expect(attempt("nobody", under: revision) == .refused(.auth(.authenticationFailed)))
    log.auth(.addUser(AuthUser(name: "keyless", password: "", isWithoutPassword: true)), by: "root")
    #expect(attempt("keyless", under: revision + 1) == .refused(.auth(.authenticationFailed)))
  }

  @Test("come back from a snapshot, and are part of what members compare")
  func snapshot() throws {
    let log = Log.withUsers()
    let restored = try StateMachine(decoding: log.machine.encoded())
    #expect(restored.auth == log.machine.auth)
    #expect(restored.encoded() == log.machine.encoded())
    var one = log
    var other = log
    one.auth(.addUser(AuthUser(name: "x", password: "p")), by: "root")
    other.auth(.addUser(AuthUser(name: "x", password: "q")), by: "root")
    #expect(one.machine.rollingHash != other.machine.rollingHash)
  }

  @Test("a snapshot from before there were users opens without any")
  func oldSnapshot() throws {
    var log = Log()
    log.at(5, .put("a"), .grant(1, 5_000))
    let bytes = log.machine.encoded()
    var writer = ByteWriter()
    writer.write(AuthState())
    let auth = writer.bytes
    // The last of the head, in front of the leases.
    var hash = ByteWriter()
    hash.write(log.machine.hash)
    let place = try #require(bytes.firstRange(of: hash.bytes + auth))
    var old = bytes
    old.replaceSubrange(place.upperBound - auth.count..<place.upperBound, with: [])
    old[4] = 3
    let length = old[5..<9].withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) }
    withUnsafeBytes(of: (length - UInt32(auth.count)).littleEndian) { old.replaceSubrange(5..<9, with: $0) }
    let checksum = CRC32C.checksum(old.dropLast(4))
    withUnsafeBytes(of: checksum.littleEndian) { old.replaceSubrange(old.count - 4..<old.count, with: $0) }
    let machine = try StateMachine(decoding: old)
    #expect(machine.auth == AuthState() && machine.leases.count == 1 && machine.keyspace.keyCount == 1)
  }

  @Test("damaged bytes are read as some users and roles, or refused, and never crash")
  func fuzz() throws {
    var writer = ByteWriter()
    writer.write(Log.withUsers().machine.auth)
    let bytes = writer.bytes
    var random = SeededGenerator(seed: 7)
    var refused = 0
    for _ in 0..<3_000 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        damaged[Int.random(in: 0..<damaged.count, using: &random)] = .random(in: 0...255, using: &random)
      }
      if Bool.random(using: &random) { damaged.removeLast(Int.random(in: 0..<damaged.count, using: &random)) }
      var reader = ByteReader(damaged)
      do throws(DecodingFailure) {
        let read = try reader.readAuth()
        var again = ByteWriter()
        again.write(read)
        var second = ByteReader(again.bytes)
        #expect(try second.readAuth() == read)
      } catch { refused += 1 }
    }
    #expect(refused > 1_000)
  }

  @Test("a stored password is never printed")
  func hidden() {
    let user = AuthUser(name: "u", password: "secret")
    let command = Command.authored(.member, .auth(.addUser(user)))
    var dumped = ""
    dump(command, to: &dumped)
    for text in [
      "\(command)", String(reflecting: command), dumped, "\(AuthCommand.changePassword(user: "u", "secret"))",
    ] {
      #expect(!text.contains("115") && !text.contains("secret"), "\(text)")
    }
  }
}

extension StoredPassword: ExpressibleByStringLiteral {
  public init(stringLiteral text: String) { self.init(Array(text.utf8)) }
}

extension Log {
  /// Why a change was refused; `by` nil: nobody's, which is enough while users do not count.
  @discardableResult
  mutating func auth(_ command: AuthCommand, by user: Bytes? = nil) -> AuthError? {
    let bare = Command.auth(command)
    let result = at(machine.clock.milliseconds, user.map { self.command(bare, by: $0) } ?? bare)[0]
    if case .auth(let error)? = result.refusal { return error }
    return nil
  }

  func command(_ command: Command, by user: Bytes) -> Command {
    .authored(.user(AuthStamp(user: user, revision: machine.auth.revision)), command)
  }

  /// Users count. `alice` reads r/, writes w/ and both in b/; `root` is root.
  static func withUsers() -> Log {
    var log = Log()
    log.at(0, .grant(1, 60_000), .grant(2, 60_000), .grant(3, 60_000))
    log.at(0, .put("r/leased", lease: 1), .put("w/leased", lease: 2))
    for user in ["root", "alice", "idle"] as [Bytes] { log.auth(.addUser(AuthUser(name: user, password: "p"))) }
    log.auth(.addRole("mixed"))
    for (kind, prefix) in [(AuthPermission.Kind.read, "r"), (.write, "w"), (.readWrite, "b")] {
      log.auth(
        .grantPermission(role: "mixed", AuthPermission(kind, key: Bytes("\(prefix)/"), rangeEnd: Bytes("\(prefix)0"))))
    }
    log.auth(.grantRole(user: "alice", role: "mixed"))
    log.auth(.grantRole(user: "root", role: "root"))
    log.auth(.enable)
    return log
  }
}
