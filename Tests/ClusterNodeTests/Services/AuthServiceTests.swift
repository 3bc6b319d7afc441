import ClusterNode
import EtcdAPI
import NIOCore
import NIOEmbedded
import Primitives
import StateMachine
import Testing
import Wire

@Suite("Calls while users count")
struct AuthServiceTests {
  let client = Client(settings)
  private let token = "abcdefghijklmnop.7"

  private static let settings: EtcdSettings = {
    var settings = EtcdSettings()
    settings.auth.namesComeFromCertificates = true
    return settings
  }()

  init() {
    for command in [
      AuthCommand.addUser(AuthUser(name: "root", password: StoredPassword())), .grantRole(user: "root", role: "root"),
      .addUser(AuthUser(name: "alice", password: StoredPassword())), .addRole("r"),
      .grantPermission(role: "r", AuthPermission(.readWrite, key: "a")), .grantRole(user: "alice", role: "r"), .enable,
    ] { client.node.propose([.auth(command)]) { _ in } }
    client.node.auth.tokens.take([.issued(prefix: "abcdefghijklmnop", index: 7, user: "alice")], at: .now)
  }

  private func status(_ path: String, headers: [String: String] = [:], name: String? = nil) throws -> GRPCStatus? {
    let (call, handler) = try client.open(path, headers: headers)
    call.peerCommonName = name
    handler.receive(ByteBuffer())
    client.loop.run()
    if path.hasSuffix("/Watch") {
      return try call.take(EtcdWatchResponse.self).isEmpty ? call.status : GRPCStatus(.unknown, "")
    }
    return call.status
  }

  /// A method that is added later must say what it asks of its caller.
  @Test("nobody gets anything but health and the answer to an empty transaction, which tells nothing")
  func nobody() throws {
    var open: [String] = []
    for method in client.registry.methods {
      let status = try status(method.path)
      if status?.code == .ok { open.append(method.path) }
    }
    #expect(open == ["/etcdserverpb.KV/Txn", "/grpc.health.v1.Health/Check"])
    #expect(
      client.node.proposed.allSatisfy { commands in commands.allSatisfy { if case .auth = $0 { true } else { false } } }
    )
  }

  @Test("a token that nobody was given is refused everywhere, before anything else is looked at")
  func impostors() throws {
    for method in client.registry.methods where !method.path.contains("Health") && !method.path.hasSuffix("/Watch") {
      if method.path.hasSuffix("/Authenticate") { continue }
      for token in ["x", "abcdefghijklmnop.8", "abcdefghijklmnop.99999999999999999999", "", "a.b.c"] {
        let status = try status(method.path, headers: ["token": token], name: "root")
        if method.path.hasPrefix("/v3") {
          // Locks and elections pass on what their own calls are told, without its code, as in etcd.
          #expect(status?.code == .unknown, "\(method.path)")
        } else {
          // A request without a key is refused for that, as in etcd.
          #expect(status == EtcdErrors.invalidAuthToken || status?.code == .invalidArgument, "\(method.path)")
        }
      }
    }
  }

  @Test("the token may come as a gateway's header; a certificate's name counts without one")
  func sources() throws {
    func get(_ headers: [String: String], name: String? = nil) throws -> GRPCStatus? {
      let (call, handler) = try client.open("/etcdserverpb.KV/Range", headers: headers)
      call.peerCommonName = name
      handler.receive(EtcdRangeRequest.with { $0.key = bytes("a") }.wireBuffer)
      client.loop.run()
      return call.status
    }
    #expect(try get(["token": token]) == .ok)
    #expect(try get(["authorization": token]) == .ok)
    #expect(try get([:], name: "alice") == .ok)
    #expect(try get([:], name: "root") == .ok)
    #expect(try get([:], name: "mallory") == EtcdErrors.permissionDenied)
    #expect(try get(["token": token], name: "mallory") == .ok)
    #expect(try get(["token": "x"], name: "root") == EtcdErrors.invalidAuthToken)
    #expect(try get([:]) == EtcdErrors.userEmpty)
  }

  @Test("a command travels with its user, and without one when users do not count")
  func authors() throws {
    let headers = ["token": token]
    let request = EtcdPutRequest.with { $0.key = bytes("a") }
    let _: EtcdPutResponse = try client.unary("/etcdserverpb.KV/Put", request, headers: headers)
    guard case .authored(.user(let stamp), .put) = client.node.proposed.last?.first else {
      Issue.record("\(client.node.proposed.last ?? [])")
      return
    }
    #expect(stamp == AuthStamp(user: "alice", revision: client.node.machine.auth.revision))
    client.node.propose([.authored(.member, .auth(.disable))]) { _ in }
    let _: EtcdPutResponse = try client.unary("/etcdserverpb.KV/Put", request, headers: ["token": "whatever"])
    guard case .put = client.node.proposed.last?.first else {
      Issue.record("\(client.node.proposed.last ?? [])")
      return
    }
  }

  @Test("passwords that this member cannot hash are refused")
  func withoutPasswords() throws {
    #expect(throws: EtcdErrors.notCapable) {
      let _: EtcdAuthenticateResponse = try client.unary(
        "/etcdserverpb.Auth/Authenticate", EtcdAuthenticateRequest.with { $0.name = "alice" })
    }
  }
}

@Suite("Tokens")
struct TokenTests {
  @Test("a simple token counts while it is used, until its user is revoked")
  func simple() {
    let store = TokenStore(ttlMilliseconds: 1_000)
    func at(_ milliseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: milliseconds * 1_000_000) }
    store.take([.issued(prefix: "aa", index: 5, user: "u"), .issued(prefix: "bb", index: 5, user: "v")], at: at(0))
    #expect(store.use("aa.5", at: at(900)) == "u")
    #expect(store.use("aa.5", at: at(1_800)) == "u")
    #expect(store.use("bb.5", at: at(1_800)) == nil)
    #expect(store.use("aa.6", at: at(1_800)) == nil && store.use("", at: at(1_800)) == nil)
    store.take([.issued(prefix: "cc", index: 9, user: "v"), .revoked(user: "u")], at: at(1_900))
    #expect(store.use("aa.5", at: at(1_900)) == nil)
    #expect(store.use("cc.9", at: at(1_900)) == "v")
    store.take([.cleared], at: at(2_000))
    #expect(store.count == 0)
  }

  @Test("unused tokens do not pile up")
  func sweeping() {
    let store = TokenStore(ttlMilliseconds: 10)
    for index in 0..<100 {
      store.take(
        [.issued(prefix: "p", index: UInt64(index), user: "u")],
        at: MonotonicTime(nanoseconds: Int64(index) * 2_000_000_000))
    }
    #expect(store.count == 1)
    #expect(TokenStore.index(of: "p.12") == 12)
    for text in ["", "p", ".", "p.", "p.x", "p.-1", "p.1.2", "p.18446744073709551616"] {
      #expect(TokenStore.index(of: text) == nil, "\(text)")
    }
    let prefix = TokenStore.randomPrefix()
    #expect(prefix.count == 16 && prefix != TokenStore.randomPrefix())
  }

  /// Enough of a key to see what is signed and what is looked at.
  private struct Key: TokenKey {
    let algorithm = "XX"
    func sign(_ message: [UInt8]) -> [UInt8]? { [UInt8(truncatingIfNeeded: message.reduce(0) { $0 + Int($1) }), 7] }
    func isValid(_ signature: [UInt8], of message: [UInt8]) -> Bool { signature == sign(message) }
  }

  private static func token(_ header: String, _ claims: String) -> String {
    let message = "\(Base64URL.encode(Array(header.utf8))).\(Base64URL.encode(Array(claims.utf8)))"
    return "\(message).\(Base64URL.encode(Key().sign(Array(message.utf8))!))"
  }

  @Test("a signed token names its user until its time is up")
  func signed() throws {
    let tokens = SignedTokens(key: Key(), ttlSeconds: 60)
    let stamp = AuthStamp(user: "a\"b", revision: 9)
    let token = try #require(tokens.make(for: stamp, at: 1_000))
    let parts = token.split(separator: ".")
    #expect(Base64URL.decode(parts[0]) == Array(#"{"alg":"XX","typ":"JWT"}"#.utf8))
    #expect(Base64URL.decode(parts[1]) == Array(#"{"exp":1060,"revision":9,"username":"a\"b"}"#.utf8))
    #expect(tokens.check(token, at: 1_059) == stamp)
    #expect(tokens.check(token, at: 1_059.5) == stamp)
    #expect(tokens.check(token, at: 1_060) == nil)
    let good = #"{"alg":"XX"}"#
    for (header, claims, isGood) in [
      (good, #"{"username":"u","revision":3}"#, true),
      (good, #"{"username":"u","revision":3,"nbf":2000}"#, false),
      (good, #"{"revision":3}"#, false), (good, #"{"username":"u"}"#, false),
      (good, #"{"username":3,"revision":3}"#, false), (good, #"{"username":"u","revision":-1}"#, false),
      (good, #"{"username":"u","revision":1e300}"#, false), (good, "", false), (good, "[]", false),
      (#"{"alg":"none"}"#, #"{"username":"u","revision":3}"#, false), ("", #"{"username":"u","revision":3}"#, false),
    ] { #expect((tokens.check(Self.token(header, claims), at: 1_000) != nil) == isGood, "\(header) \(claims)") }
  }

  @Test("mutated tokens are refused or name the same user, and nothing crashes")
  func fuzz() throws {
    var random = SeededGenerator(seed: 11)
    let tokens = SignedTokens(key: Key(), ttlSeconds: 60)
    let stamp = AuthStamp(user: "user", revision: 9)
    let token = try #require(tokens.make(for: stamp, at: 1_000))
    let alphabet = Array("abcXYZ019-_.={}\"\u{fc}".unicodeScalars)
    var refused = 0
    for _ in 0..<3_000 {
      var scalars = Array(token.unicodeScalars)
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = Int.random(in: 0..<scalars.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: scalars.remove(at: place)
        case 1: scalars.insert(alphabet.randomElement(using: &random)!, at: place)
        default: scalars[place] = alphabet.randomElement(using: &random)!
        }
      }
      var text = String.UnicodeScalarView()
      text.append(contentsOf: scalars)
      if tokens.check(String(text), at: 1_000) == nil { refused += 1 }
      _ = TokenStore.index(of: String(text))
    }
    #expect(refused > 2_000)
    #expect(tokens.check(String(repeating: "a", count: 1 << 20), at: 0) == nil)
  }
}
