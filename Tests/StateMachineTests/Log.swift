import Keyspace
import Primitives
import StateMachine

/// A state machine that is fed entries one after another, as a log would, so that tests read like a story.
struct Log {
  var machine = StateMachine()
  var events: [KeyspaceEvent] = []

  /// Applies one entry of these commands, stamped so many milliseconds, and forgets the events of earlier ones.
  @discardableResult
  mutating func at(_ milliseconds: Int64, _ commands: Command...) -> [CommandResult] {
    apply(CommandBatch(clock: LeaseClock(milliseconds: milliseconds), commands: commands))
  }

  @discardableResult
  mutating func apply(_ batch: CommandBatch) -> [CommandResult] {
    var results: [CommandResult] = []
    events = []
    machine.apply(batch, index: machine.appliedIndex + 1, term: 1, results: &results, events: &events)
    return results
  }

  /// The events of the last entry: `put key`, `expired key`, `revoked key`, `deleted key`, each with its revision.
  var story: [String] {
    events.map { event in
      let verb =
        switch event.kind {
        case .put: "put"
        case .delete(.deleted): "deleted"
        case .delete(.leaseExpired): "expired"
        case .delete(.leaseRevoked): "revoked"
        }
      return "\(event.record.modRevision) \(verb) \(event.record.key)"
    }
  }

  func keys(of lease: LeaseID) -> [String] { machine.keys(of: lease).map(\.description) }

  func remaining(_ lease: LeaseID, at milliseconds: Int64) -> Int64? {
    machine.remainingMilliseconds(of: lease, at: LeaseClock(milliseconds: milliseconds))
  }

  func due(at milliseconds: Int64) -> [LeaseID] { machine.expiryBatch(at: LeaseClock(milliseconds: milliseconds)).ids }
}

extension Command {
  static func put(_ key: Bytes, lease: LeaseID = 0) -> Command { .put(PutRequest(key, "value", lease: lease)) }
  static func delete(_ key: Bytes) -> Command { .delete(DeleteRequest(.single(key))) }
  static func grant(_ id: LeaseID, _ ttlMilliseconds: Int64) -> Command {
    .leaseGrant(id: id, ttlMilliseconds: ttlMilliseconds)
  }
}

extension CommandResult {
  var refusal: CommandError? {
    if case .refused(let error) = self { error } else { nil }
  }
}
