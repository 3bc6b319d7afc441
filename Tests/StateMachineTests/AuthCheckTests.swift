import Keyspace
import Primitives
import StateMachine
import Testing

@Suite("What users may do, decided where commands are applied")
struct AuthCheckTests {
  /// Why the command is refused to the user; nobody: nil.
  private func refusal(_ command: Command, by user: Bytes?) -> AuthError? {
    var log = Log.withUsers()
    let proposed = user.map { log.command(command, by: $0) } ?? command
    guard case .auth(let error)? = log.at(1, proposed)[0].refusal else { return nil }
    return error
  }

  private func put(_ key: Bytes, lease: LeaseID = 0, previous: Bool = false) -> Command {
    .put(request(key, lease: lease, previous: previous))
  }

  private func request(_ key: Bytes, lease: LeaseID = 0, previous: Bool = false) -> PutRequest {
    var request = PutRequest(key, "v", lease: lease)
    request.wantsPrevious = previous
    return request
  }

  private func delete(_ range: KeyRange, previous: Bool = false) -> DeleteRequest {
    var request = DeleteRequest(range)
    request.wantsPrevious = previous
    return request
  }

  private func transaction(
    _ comparisons: [Comparison] = [], _ success: [Operation] = [], _ failure: [Operation] = []
  ) -> Command {
    .transaction(TransactionRequest(comparisons: comparisons, success: success, failure: failure))
  }

  @Test("every kind of command, for a user with some rights, one with none, root and nobody")
  func table() {
    let compared = Comparison(.single("w/1"), .greater, .version(0))
    let allowed: [Command] = [
      put("w/1"), put("b/1", previous: true), put("w/1", lease: 2), put("w/1", lease: 3), put("w/1", lease: 99),
      .delete(delete(.prefix("w/"))), .delete(delete(.prefix("b/"), previous: true)),
      transaction([Comparison(.single("r/1"), .greater, .version(0))], [.put(request("w/1"))]),
      transaction([], [.range(RangeQuery(.prefix("r/")))], [.delete(delete(.single("w/1")))]),
      .leaseRevoke(id: 2), .leaseRevoke(id: 3), .leaseRevoke(id: 99), .leaseRenew(ids: [2, 3, 99]),
      .grantAndTransact(
        grants: [LeaseGrant(id: 9, ttlMilliseconds: 5_000)],
        request: TransactionRequest(success: [.put(request("w/1", lease: 9))])),
    ]
    let denied: [Command] = [
      put("r/1"), put("w/1", previous: true), put("w/1", lease: 1), put("w0"),
      .delete(delete(.halfOpen(start: "w/", end: "w1"))), .delete(delete(.single("w/1"), previous: true)),
      .delete(delete(.from("w/"))),
      transaction([compared], [.put(request("w/1"))]),
      transaction([], [], [.put(request("r/1"))]),
      transaction([], [.put(request("w/1", previous: true))]),
      transaction([], [.put(request("w/1", lease: 1))]),
      transaction([], [.transaction(TransactionRequest(success: [.range(RangeQuery(.single("w/1")))]))]),
      transaction([], [.transaction(TransactionRequest(comparisons: [compared]))]),
      .leaseRevoke(id: 1), .leaseRenew(ids: [2, 1]), .compact(revision: 1),
      .grantAndTransact(
        grants: [LeaseGrant(id: 9, ttlMilliseconds: 5_000)],
        request: TransactionRequest(success: [.put(request("r/1", lease: 9))])),
      .auth(.addRole("x")), .auth(.disable), .alarm(.activate, Alarm(memberID: 1, kind: .noSpace)),
    ]
    for command in allowed {
      #expect(refusal(command, by: "alice") == nil, "\(command)")
      #expect(refusal(command, by: "root") == nil, "\(command)")
      #expect(refusal(command, by: nil) == .userEmpty, "\(command)")
    }
    for command in denied {
      #expect(refusal(command, by: "alice") == .permissionDenied, "\(command)")
      #expect(refusal(command, by: "idle") == .permissionDenied, "\(command)")
      #expect(refusal(command, by: "root") == nil, "\(command)")
    }
    #expect(refusal(.grant(9, 5_000), by: "idle") == nil, "any user may grant")
    #expect(refusal(.grant(9, 5_000), by: nil) == .userEmpty)
    #expect(refusal(put("w/1"), by: "stranger") == .permissionDenied)
    #expect(refusal(.compact(revision: 1), by: "stranger") == .userNotFound)
  }

  @Test("what members do by themselves needs nobody")
  func upkeep() {
    for command in [
      Command.tick, .leaseExpire(ids: [1]), .alarm(.activate, Alarm(memberID: 1, kind: .noSpace)),
      .clusterVersion(.current), .authored(.member, put("x")), .authored(.member, .leaseRenew(ids: [1])),
    ] { #expect(refusal(command, by: nil) == nil, "\(command)") }
  }

  @Test("a command that was proposed before rights changed is refused after it")
  func oldRevision() {
    var log = Log.withUsers()
    let proposed = log.command(put("w/1"), by: "alice")
    let judged = Command.authored(.judged(authRevision: log.machine.auth.revision), .leaseRenew(ids: [1]))
    #expect(log.at(1, proposed, judged).map(\.refusal) == [nil, nil])
    log.auth(.addRole("another"), by: "root")
    #expect(log.at(2, proposed, judged).map(\.refusal) == [.auth(.revisionOld), .auth(.revisionOld)])
    log.auth(.disable, by: "root")
    #expect(log.at(3, proposed, judged, put("x")).map(\.refusal) == [nil, nil, nil])
  }

  @Test("an alarm does not open what users are denied")
  func alarm() {
    var log = Log.withUsers()
    log.at(1, .alarm(.activate, Alarm(memberID: 1, kind: .noSpace)))
    #expect(log.at(2, log.command(put("r/1"), by: "alice"))[0].refusal == .auth(.permissionDenied))
    #expect(log.at(2, log.command(put("w/1"), by: "alice"))[0].refusal == .noSpace)
    #expect(log.auth(.disable, by: "alice") == .permissionDenied)
  }

  @Test("a refused command leaves everything as it was")
  func unchanged() throws {
    var log = Log.withUsers()
    let before = log.machine
    let refused = [put("w/1"), put("r/1", lease: 1), .leaseRevoke(id: 1), .auth(.deleteUser("alice"))]
    log.at(0, log.command(refused[1], by: "alice"), refused[0], log.command(refused[2], by: "idle"), refused[3])
    #expect(log.machine.keyspace.revision == before.keyspace.revision)
    #expect(log.machine.auth == before.auth && log.machine.leases.count == before.leases.count)
  }

  /// Ranges over a small alphabet, against asking key by key.
  @Test("ranges that overlap or touch count as one, never as more")
  func coverage() throws {
    var random = SeededGenerator(seed: 5)
    let letters = Array("abcdefghij".utf8)
    func range() -> (key: Bytes, end: Bytes) {
      let start = Int.random(in: 0..<letters.count, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: return (Bytes([letters[start]]), [0])
      case 1: return (Bytes([letters[start]]), [])
      default:
        let end = min(start + Int.random(in: 1...4, using: &random), letters.count - 1)
        return (Bytes([letters[start]]), end == start ? [] : Bytes([letters[end]]))
      }
    }
    // Each letter, and what lies right behind it before the next.
    let probes = letters.flatMap { [Bytes([$0]), Bytes([$0, 0])] } + [Bytes([letters.last! + 1])]
    var covered = 0
    for _ in 0..<300 {
      var log = Log()
      log.auth(.addUser(AuthUser(name: "root", password: "p")))
      log.auth(.grantRole(user: "root", role: "root"))
      log.auth(.addUser(AuthUser(name: "u", password: "p")))
      log.auth(.addRole("r"))
      log.auth(.grantRole(user: "u", role: "r"))
      var granted: [KeyRange] = []
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let (key, end) = range()
        granted.append(KeyRange(key: key, rangeEnd: end))
        log.auth(.grantPermission(role: "r", AuthPermission(.read, key: key, rangeEnd: end)))
      }
      log.auth(.enable)
      let stamp = AuthStamp(user: "u", revision: log.machine.auth.revision)
      for _ in 0..<10 {
        let (key, end) = range()
        let asked = KeyRange(key: key, rangeEnd: end)
        let expected = probes.filter(asked.contains).allSatisfy { key in granted.contains { $0.contains(key) } }
        let isCovered = (try? log.machine.auth.check(stamp, .read, asked)) != nil
        #expect(isCovered == expected, "\(asked) in \(granted)")
        #expect((try? log.machine.auth.check(stamp, .write, asked)) == nil)
        if isCovered { covered += 1 }
      }
    }
    #expect(covered > 300)
  }
}
