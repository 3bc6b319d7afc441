import Keyspace
import Member
import Primitives
import SidecarCore
import StateMachine

/// The member as its sidecar's store, with completions where the shell awaits: what `EmbeddedStore` asks of a node, asked
/// of the member's core.
final class SimulatedStore {
  typealias Completion<Value> = (Result<Value, ProposalError>) -> Void

  private enum Waiter {
    case commands(Completion<[CommandResult]>)
    case read(Completion<Void>)
  }

  /// Tickets from here on are sidecars'.
  static let firstTicket: Ticket = 1 << 32

  private unowned let world: World
  private let member: SimulatedMember
  private var lastTicket = SimulatedStore.firstTicket
  private var waiters: [Ticket: Waiter] = [:]
  private var outbox: [MemberEvent] = []
  /// Called when the outbox fills.
  var onAsk: () -> Void = {}

  init(_ member: SimulatedMember, in world: World) {
    self.member = member
    self.world = world
  }

  func stop() {
    waiters = [:]
    onAsk = {}
  }

  func takeOutbox() -> [MemberEvent] {
    defer { outbox = [] }
    return outbox
  }

  private func ask(_ waiter: Waiter, _ event: (Ticket) -> MemberEvent) {
    lastTicket += 1
    waiters[lastTicket] = waiter
    outbox.append(event(lastTicket))
    if outbox.count == 1 { onAsk() }
  }

  // MARK: What the member answers

  func answered(_ ticket: Ticket, _ result: Result<[CommandResult], ProposalError>) {
    guard case .commands(let completion)? = waiters.removeValue(forKey: ticket) else {
      return world.oracle.violate("member \(member.id) answers ticket \(ticket), which its sidecar does not hold")
    }
    completion(result)
  }

  func readAnswered(_ ticket: Ticket, _ failure: ProposalError?) {
    guard case .read(let completion)? = waiters.removeValue(forKey: ticket) else {
      return world.oracle.violate("member \(member.id) answers read \(ticket), which its sidecar does not hold")
    }
    completion(failure.map { .failure($0) } ?? .success(()))
  }

  // MARK: What the sidecar asks

  /// Linearizable: reads this member's state once it is known to be new enough.
  private func read<Value>(
    _ completion: @escaping Completion<Value>, _ body: @escaping (borrowing StateMachine) throws(KeyspaceError) -> Value
  ) {
    ask(
      .read { [self] barrier in
        switch barrier {
        case .failure(let error): completion(.failure(error))
        case .success:
          do throws(KeyspaceError) {
            completion(.success(try body(member.life!.machine)))
          } catch .compacted {
            // A compaction has overtaken a walk at one revision: it begins anew, as after any failure.
            completion(.failure(.timedOut))
          } catch {
            world.oracle.violate("a sidecar's read is refused: \(error)")
          }
        }
      }
    ) { .read($0) }
  }

  func range(_ query: RangeQuery, _ completion: @escaping Completion<RangeResult>) {
    read(completion) { machine throws(KeyspaceError) in try machine.keyspace.range(query) }
  }

  func get(_ keys: [Bytes], _ completion: @escaping Completion<[KeyRecord?]>) {
    read(completion) { machine throws(KeyspaceError) in
      var records: [KeyRecord?] = []
      for key in keys { records.append(try machine.keyspace.range(RangeQuery(.single(key))).records.first) }
      return records
    }
  }

  func entries(_ names: [EntryName], _ layout: StoreLayout, _ completion: @escaping Completion<[StoredEntry]>) {
    get(names.flatMap { [layout.record($0), layout.marker($0)] }) { [self] result in
      completion(
        result.map { records in
          names.enumerated().compactMap { place, name in
            do {
              return try StoredEntry(name, record: records[2 * place], marker: records[2 * place + 1])
            } catch {
              world.oracle.violate("the entry \(name.path) cannot be read: \(error)")
              return nil
            }
          }
        })
    }
  }

  /// Independent guarded changes in one entry of the log: the revision of each, nil for one whose guard failed.
  func commit(_ commands: [Command], _ completion: @escaping Completion<[Int64?]>) {
    propose(commands) { [self] result in
      completion(
        result.map { results in
          results.map { result in
            switch result {
            case .transaction(let outcome, let revision): return outcome.succeeded ? revision : nil
            case .refused(.leaseExists), .refused(.leaseNotFound): return nil
            default:
              world.oracle.violate("a sidecar's change comes to \(result)")
              return nil
            }
          }
        })
    }
  }

  /// The granted TTL in ms; 0 when the lease is gone.
  func renew(_ lease: LeaseID, _ completion: @escaping Completion<Int64>) {
    propose([.leaseRenew(ids: [lease])]) { result in
      completion(
        result.map { results in
          if case .leasesRenewed(let ttls, _)? = results.first { ttls[0] } else { 0 }
        })
    }
  }

  func propose(_ commands: [Command], _ completion: @escaping Completion<[CommandResult]>) {
    let bytes = commands.reduce(0) { $0 + $1.approximateBytes }
    ask(.commands(completion)) { .proposal(commands, bytes: bytes, ticket: $0) }
  }
}

// As `Transition` makes them.

extension Command {
  static func guarded(
    _ comparisons: [Comparison], _ grants: [EntryLease], _ operations: [Operation], revokes: [LeaseID]
  ) -> Command {
    let request = TransactionRequest(comparisons: comparisons, success: operations)
    if grants.isEmpty, revokes.isEmpty { return .transaction(request) }
    return .grantAndTransact(
      grants: grants.map { LeaseGrant(id: $0.id, ttlMilliseconds: $0.ttlMilliseconds) }, request: request,
      revokes: revokes)
  }

  init(_ change: EntryChange) {
    self = .guarded(change.comparisons, change.grants, change.operations, revokes: change.revokes)
  }

  init(_ append: JournalPlanner.Append) {
    self = .guarded(append.comparisons, append.grants, append.operations, revokes: [])
  }
}
