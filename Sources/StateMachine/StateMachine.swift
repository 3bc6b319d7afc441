import Keyspace
import Leases
import Primitives

/// The replicated state: what every member computes from the same log. A value: copying it is how a hot snapshot is
/// taken.
///
/// Time comes from the log alone. Every entry carries the leader's lease clock; `clock` is the highest stamp seen, and
/// all grants, renewals and expiries of an entry happen at that moment, on every member alike.
package struct StateMachine: Sendable {
  package internal(set) var keyspace = Keyspace()
  package internal(set) var leases = LeaseTable()
  /// The highest stamp applied so far. Never runs back.
  package internal(set) var clock = LeaseClock.zero
  package internal(set) var appliedIndex: UInt64 = 0
  package internal(set) var appliedTerm: UInt64 = 0
  /// Active alarms of all members, sorted.
  package internal(set) var alarms: [Alarm] = []
  package internal(set) var cluster = ClusterState()
  package internal(set) var hash = StateHash()
  package internal(set) var auth = AuthState()
  var attachments = LeaseAttachments()

  /// What has happened to leases since the last cut; noted only for those who cut (`recordChanges`).
  var leaseChanges = ChunkedArray<LeaseChange>()
  package internal(set) var recordsChanges = false

  package init() {}

  /// Applies one log entry: its commands in order, one result each. Events of all commands are appended in order
  /// (revisions rise). An index at or below `appliedIndex` is a programmer error.
  package mutating func apply(
    _ batch: CommandBatch, index: UInt64, term: UInt64, results: inout [CommandResult], events: inout [KeyspaceEvent]
  ) {
    advance(to: index, term: term)
    clock = max(clock, batch.clock)
    let firstEvent = events.count
    for command in batch.commands { results.append(apply(command, events: &events)) }
    leases.advance(to: clock)
    hash.mix(events, from: firstEvent)
    seal()
  }

  /// An entry without commands (the empty entry of a new term, a membership change).
  package mutating func skip(index: UInt64, term: UInt64) {
    advance(to: index, term: term)
    seal()
  }

  private mutating func seal() {
    hash.seal(index: appliedIndex, term: appliedTerm, clock: clock, revision: keyspace.revision)
  }

  private mutating func advance(to index: UInt64, term: UInt64) {
    precondition(index > appliedIndex, "entry \(index) applied after entry \(appliedIndex)")
    precondition(term >= appliedTerm, "an entry of term \(term) applied after one of term \(appliedTerm)")
    appliedIndex = index
    appliedTerm = term
  }

  private mutating func apply(_ command: Command, events: inout [KeyspaceEvent]) -> CommandResult {
    if auth.isEnabled, let refusal = refusalByUsers(of: command) { return .refused(.auth(refusal)) }
    return perform(command, events: &events)
  }

  /// As if users did not count.
  private mutating func perform(_ command: Command, events: inout [KeyspaceEvent]) -> CommandResult {
    do throws(CommandError) {
      if let refusal = refusal(of: command) { throw refusal }
      switch command {
      case .put(let request): return try put(request, &events)
      case .delete(let request): return delete(request, &events)
      case .transaction(let request): return try transact(request, &events)
      case .compact(let revision): return try compact(to: revision)
      case .leaseGrant(let id, let ttl): return try grant(LeaseGrant(id: id, ttlMilliseconds: ttl))
      case .leaseRevoke(let id): return try revoke(id, &events)
      case .leaseRenew(let ids): return renew(ids)
      case .leaseExpire(let ids): return expire(ids, &events)
      case .grantAndTransact(let grants, let request, let revokes):
        return try grantAndTransact(grants, request, revokes, &events)
      case .alarm(let action, let alarm): return self.alarm(action, alarm)
      case .member(let change): return try self.change(change)
      case .clusterVersion(let version): return raiseVersion(to: version)
      case .auth(let command): return try change(command)
      case .authored(_, let inner): return perform(inner, events: &events)
      case .tick: return .ticked
      }
    } catch {
      return .refused(error)
    }
  }

  // MARK: Keys

  private mutating func put(
    _ request: PutRequest, _ events: inout [KeyspaceEvent]
  ) throws(CommandError) -> CommandResult {
    let firstEvent = events.count
    let previous = try Self.put(request, in: &keyspace, leases, &events)
    follow(events, from: firstEvent)
    return .put(previous: previous, revision: keyspace.revision)
  }

  private mutating func delete(_ request: DeleteRequest, _ events: inout [KeyspaceEvent]) -> CommandResult {
    let firstEvent = events.count
    let result = keyspace.delete(request, events: &events)
    follow(events, from: firstEvent)
    return .delete(result, revision: keyspace.revision)
  }

  private mutating func transact(
    _ request: TransactionRequest, _ events: inout [KeyspaceEvent]
  ) throws(CommandError) -> CommandResult {
    let firstEvent = events.count
    let result = try Self.transact(request, in: &keyspace, leases, granting: [], &events)
    follow(events, from: firstEvent)
    return .transaction(result, revision: keyspace.revision)
  }

  private mutating func compact(to revision: Int64) throws(CommandError) -> CommandResult {
    do { try keyspace.compact(to: revision) } catch { throw CommandError(error) }
    hash.mix(keyspace.compactRevision)
    return .compacted(revision: keyspace.revision)
  }

  mutating func follow(_ events: [KeyspaceEvent], from first: Int) {
    for index in first..<events.count { attachments.follow(events[index], in: leases) }
  }

  // Static, with the two halves apart, so that the keyspace can change while it asks the leases, without a copy.

  private static func put(
    _ request: PutRequest, in keyspace: inout Keyspace, _ leases: LeaseTable, _ events: inout [KeyspaceEvent]
  ) throws(CommandError) -> KeyRecord? {
    do { return try keyspace.put(request, leaseExists: { leases.contains($0) }, events: &events) } catch {
      throw CommandError(error)
    }
  }

  static func transact(
    _ request: TransactionRequest, in keyspace: inout Keyspace, _ leases: LeaseTable, granting: [LeaseGrant],
    _ events: inout [KeyspaceEvent]
  ) throws(CommandError) -> TransactionResult {
    do {
      return try keyspace.transact(
        request, leaseExists: { id in leases.contains(id) || granting.contains { $0.id == id } }, events: &events)
    } catch { throw CommandError(error) }
  }
}

extension CommandError {
  /// A lease that is not there is the same refusal, whoever noticed.
  init(_ error: KeyspaceError) {
    self = error == .leaseNotFound ? .leaseNotFound : .keyspace(error)
  }
}
