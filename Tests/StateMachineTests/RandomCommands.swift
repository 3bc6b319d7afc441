import Keyspace
import Primitives
import StateMachine

/// Every shape of command, with fields from all over their range: for the codec, which must not care what is sensible.
struct RandomCommands {
  var random: SeededGenerator

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  mutating func number() -> Int64 {
    switch Int.random(in: 0..<4, using: &random) {
    case 0: 0
    case 1: Int64.random(in: -5...5, using: &random)
    case 2: Int64.random(in: 0...1_000_000, using: &random)
    default: Int64.random(in: .min ... .max, using: &random)
    }
  }

  mutating func flag() -> Bool { Bool.random(using: &random) }

  mutating func bytes() -> Bytes {
    let count = Int.random(in: 0..<12, using: &random)
    return Bytes((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
  }

  mutating func several<Element>(upTo most: Int, _ make: (inout RandomCommands) -> Element) -> [Element] {
    (0..<Int.random(in: 0...most, using: &random)).map { _ in make(&self) }
  }

  mutating func range() -> KeyRange {
    switch Int.random(in: 0..<3, using: &random) {
    case 0: .single(bytes())
    case 1: .halfOpen(start: bytes(), end: bytes())
    default: .from(bytes())
    }
  }

  mutating func put() -> PutRequest {
    var request = PutRequest(bytes(), bytes(), lease: number())
    request.wantsPrevious = flag()
    request.ignoresValue = flag()
    request.ignoresLease = flag()
    return request
  }

  mutating func delete() -> DeleteRequest {
    var request = DeleteRequest(range())
    request.wantsPrevious = flag()
    return request
  }

  mutating func query() -> RangeQuery {
    var query = RangeQuery(range(), revision: number(), limit: number())
    query.sortTarget = [.key, .version, .create, .mod, .value].randomElement(using: &random)!
    query.sortOrder = [.none, .ascend, .descend].randomElement(using: &random)!
    query.keysOnly = flag()
    query.countOnly = flag()
    query.minModRevision = number()
    query.maxModRevision = number()
    query.minCreateRevision = number()
    query.maxCreateRevision = number()
    return query
  }

  mutating func comparison() -> Comparison {
    let target: CompareTarget =
      switch Int.random(in: 0..<5, using: &random) {
      case 0: .version(number())
      case 1: .createRevision(number())
      case 2: .modRevision(number())
      case 3: .value(bytes())
      default: .lease(number())
      }
    return Comparison(range(), [.equal, .greater, .less, .notEqual].randomElement(using: &random)!, target)
  }

  mutating func transaction(depth: Int) -> TransactionRequest {
    TransactionRequest(
      comparisons: several(upTo: 3) { $0.comparison() }, success: several(upTo: 3) { $0.operation(depth: depth) },
      failure: several(upTo: 3) { $0.operation(depth: depth) })
  }

  mutating func operation(depth: Int) -> Operation {
    switch Int.random(in: 0..<(depth > 0 ? 4 : 3), using: &random) {
    case 0: .range(query())
    case 1: .put(put())
    case 2: .delete(delete())
    default: .transaction(transaction(depth: depth - 1))
    }
  }

  mutating func command() -> Command {
    switch Int.random(in: 0..<17, using: &random) {
    case 13, 14: .auth(authCommand())
    case 15, 16: authored()
    case let kind: command(ofKind: kind)
    }
  }

  mutating func authored() -> Command {
    let author: Author =
      switch Int.random(in: 0..<3, using: &random) {
      case 0: .user(AuthStamp(user: bytes(), revision: random.next()))
      case 1: .judged(authRevision: random.next())
      default: .member
      }
    return .authored(author, command(ofKind: Int.random(in: 0..<13, using: &random)))
  }

  mutating func authCommand() -> AuthCommand {
    switch Int.random(in: 0..<12, using: &random) {
    case 0: .enable
    case 1: .disable
    case 2: .authenticate(user: bytes(), authRevision: random.next(), tokenPrefix: bytes())
    case 3:
      .addUser(
        AuthUser(
          name: bytes(), password: StoredPassword(bytes().array), isWithoutPassword: flag(),
          roles: several(upTo: 3) { $0.bytes() }))
    case 4: .deleteUser(bytes())
    case 5: .changePassword(user: bytes(), StoredPassword(bytes().array))
    case 6: .grantRole(user: bytes(), role: bytes())
    case 7: .revokeRole(user: bytes(), role: bytes())
    case 8: .addRole(bytes())
    case 9: .deleteRole(bytes())
    case 10:
      .grantPermission(
        role: bytes(),
        AuthPermission(AuthPermission.Kind.allCases.randomElement(using: &random)!, key: bytes(), rangeEnd: bytes()))
    default: .revokePermission(role: bytes(), key: bytes(), rangeEnd: bytes())
    }
  }

  private mutating func command(ofKind kind: Int) -> Command {
    switch kind {
    case 0: .put(put())
    case 1: .delete(delete())
    case 2: .transaction(transaction(depth: 3))
    case 3: .compact(revision: number())
    case 4: .leaseGrant(id: number(), ttlMilliseconds: number())
    case 5: .leaseRevoke(id: number())
    case 6: .leaseRenew(ids: several(upTo: 9) { $0.number() })
    case 7: .leaseExpire(ids: several(upTo: 9) { $0.number() })
    case 8:
      .grantAndTransact(
        grants: several(upTo: 3) { LeaseGrant(id: $0.number(), ttlMilliseconds: $0.number()) },
        request: transaction(depth: 2), revokes: several(upTo: 3) { $0.number() })
    case 9:
      .alarm(
        flag() ? .activate : .deactivate,
        Alarm(memberID: UInt64(bitPattern: number()), kind: flag() ? .noSpace : .corrupt))
    case 10: .member(memberChange())
    case 11: .clusterVersion(ClusterVersion(major: UInt32.random(in: 0...9, using: &random), minor: .max))
    default: .tick
    }
  }

  mutating func memberChange() -> MemberChange {
    let id = UInt64(bitPattern: number())
    switch Int.random(in: 0..<5, using: &random) {
    case 0:
      return .add(
        ClusterMember(id: id, name: "n\(id)", peerURLs: urls(), clientURLs: urls(), isLearner: flag()))
    case 1: return .remove(id: id)
    case 2: return .update(id: id, peerURLs: urls())
    case 3: return .promote(id: id)
    default: return .publish(id: id, name: "grün", clientURLs: urls())
    }
  }

  mutating func urls() -> [String] { several(upTo: 2) { "http://h:\($0.number())" } }

  mutating func batch() -> CommandBatch {
    let commands = several(upTo: 6) { $0.command() }
    return CommandBatch(
      clock: LeaseClock(milliseconds: number()), commands: commands, origins: origins(of: commands.count))
  }

  /// Parts that cover some of the first commands, often none.
  mutating func origins(of commandCount: Int) -> [ForwardedPart] {
    var rest = flag() ? 0 : commandCount
    var parts: [ForwardedPart] = []
    while rest > 0, flag() {
      let count = Int.random(in: 1...rest, using: &random)
      let origin = ProposalOrigin(
        memberID: UInt64(bitPattern: number()), session: random.next(), sequence: UInt64(bitPattern: number()))
      parts.append(ForwardedPart(origin: origin, commandCount: count))
      rest -= count
    }
    return parts
  }
}
