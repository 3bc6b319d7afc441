import Keyspace
import Leases
import Primitives

/// CONTRACT SKETCH: signatures that others build on; the bodies are the author's.
/// The replicated state: what every member computes from the same log. A value: copying it is how a hot snapshot is
/// taken.
package struct StateMachine: Sendable {
  package private(set) var keyspace = Keyspace()
  package private(set) var leases = LeaseTable()
  /// The highest stamp applied so far. Never runs back.
  package private(set) var clock = LeaseClock.zero
  package private(set) var appliedIndex: UInt64 = 0
  package private(set) var appliedTerm: UInt64 = 0

  package init() {}

  /// Applies one log entry: its commands in order, one result each. Events of all commands are appended in order
  /// (revisions rise). An index at or below `appliedIndex` is a programmer error.
  package mutating func apply(
    _ batch: CommandBatch, index: UInt64, term: UInt64, results: inout [CommandResult], events: inout [KeyspaceEvent]
  ) { fatalError() }

  /// An entry without commands (the empty entry of a new term, a membership change).
  package mutating func skip(index: UInt64, term: UInt64) { fatalError() }

  /// Keys attached to a lease, sorted.
  package func keys(of lease: LeaseID) -> [Bytes] { fatalError() }

  /// Milliseconds left at `clock` (never below 0), nil when unknown.
  package func remainingMilliseconds(of lease: LeaseID, at clock: LeaseClock) -> Int64? { fatalError() }

  /// Up to the limits of one expiry command: leases due at `clock`, counted with their keys.
  package func dueLeases(at clock: LeaseClock) -> [LeaseID] { fatalError() }

  package func encoded() -> [UInt8] { fatalError() }
  package init(decoding bytes: [UInt8]) throws(DecodingFailure) { fatalError() }
}

extension CommandBatch {
  package func encoded() -> [UInt8] { fatalError() }
  package init(decoding bytes: ArraySlice<UInt8>) throws(DecodingFailure) { fatalError() }
}
