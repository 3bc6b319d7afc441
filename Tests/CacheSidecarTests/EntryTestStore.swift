import CacheSidecar
import Keyspace
import Primitives
import SidecarCore
import StateMachine
import Synchronization

/// A store on a real state machine, in this process, with a clock that tests turn and crashes at any transition.
final class EntryTestStore: SidecarStore {
  struct State {
    var machine = StateMachine()
    var nowMilliseconds: Int64 = 1_000
    var history: [KeyspaceEvent] = []
    var watchers: [(prefix: Bytes, continuation: AsyncThrowingStream<WatchBatch, any Error>.Continuation)] = []
    /// Transitions that are still applied before the store goes down; nil: it stays up.
    var transitionsUntilCrash: Int?
    var isDown = false
    var renewedLeases = 0
    var committedTransitions = 0
  }

  private let state: Mutex<State>

  init() { state = Mutex(State()) }

  /// The same data in a new life of the process.
  init(restarting other: EntryTestStore) {
    var copy = other.state.withLock { $0 }
    copy.watchers = []
    copy.transitionsUntilCrash = nil
    copy.isDown = false
    state = Mutex(copy)
  }

  var clock: SidecarClock {
    SidecarClock(monotonicMilliseconds: { [self] in now }, wallMilliseconds: { [self] in now })
  }

  var now: Int64 { state.withLock { $0.nowMilliseconds } }
  var renewedLeases: Int { state.withLock { $0.renewedLeases } }
  var committedTransitions: Int { state.withLock { $0.committedTransitions } }
  var leaseCount: Int { state.withLock { $0.machine.leases.count } }

  func crash(afterTransitions count: Int) { state.withLock { $0.transitionsUntilCrash = count } }

  /// Moves the clock and expires what is due, lease by lease.
  func advance(milliseconds: Int64) {
    state.withLock { state in
      state.nowMilliseconds += milliseconds
      while true {
        let due = state.machine.expiryBatch(at: LeaseClock(milliseconds: state.nowMilliseconds)).ids
        if due.isEmpty { break }
        _ = Self.apply([.leaseExpire(ids: due)], to: &state)
      }
    }
  }

  /// Ends every watch, as a compaction does.
  func breakWatches() {
    let watchers = state.withLock { state in
      defer { state.watchers = [] }
      return state.watchers
    }
    for watcher in watchers { watcher.continuation.finish(throwing: SidecarStoreError.unavailable("compacted")) }
  }

  func delete(_ key: Bytes) {
    state.withLock { _ = Self.apply([.delete(DeleteRequest(.single(key)))], to: &$0) }
  }

  private static func apply(_ commands: [Command], to state: inout State) -> [CommandResult] {
    var results: [CommandResult] = []
    var events: [KeyspaceEvent] = []
    state.machine.apply(
      CommandBatch(clock: LeaseClock(milliseconds: state.nowMilliseconds), commands: commands),
      index: state.machine.appliedIndex + 1, term: 1, results: &results, events: &events)
    state.history += events
    for watcher in state.watchers {
      let seen = events.filter { $0.record.key.hasPrefix(watcher.prefix) }
      if !seen.isEmpty {
        watcher.continuation.yield(WatchBatch(events: seen, revision: state.machine.keyspace.revision))
      }
    }
    return results
  }

  private func checked<T>(
    _ body: (inout State) throws(SidecarStoreError) -> T
  ) throws(SidecarStoreError) -> T {
    try state.withLock { state throws(SidecarStoreError) in
      if state.isDown { throw .unavailable("down") }
      return try body(&state)
    }
  }

  func range(_ query: RangeQuery) async throws(SidecarStoreError) -> RangeResult {
    try checked { state throws(SidecarStoreError) in
      do { return try state.machine.keyspace.range(query) } catch { throw .refused("\(error)") }
    }
  }

  func get(_ keys: [Bytes]) async throws(SidecarStoreError) -> [KeyRecord?] {
    try checked { state throws(SidecarStoreError) in
      var records: [KeyRecord?] = []
      for key in keys {
        do { records.append(try state.machine.keyspace.range(RangeQuery(.single(key))).records.first) } catch {
          throw .refused("\(error)")
        }
      }
      return records
    }
  }

  func commit(_ transitions: [Transition]) async throws(SidecarStoreError) -> [TransitionOutcome] {
    try checked { state throws(SidecarStoreError) in
      var outcomes: [TransitionOutcome] = []
      for transition in transitions {
        if let left = state.transitionsUntilCrash {
          if left == 0 {
            state.isDown = true
            throw .unavailable("crashed")
          }
          state.transitionsUntilCrash = left - 1
        }
        outcomes.append(try Self.commit(transition, to: &state))
      }
      return outcomes
    }
  }

  private static func commit(
    _ transition: Transition, to state: inout State
  ) throws(SidecarStoreError) -> TransitionOutcome {
    let request = TransactionRequest(comparisons: transition.comparisons, success: transition.operations)
    let command: Command =
      transition.grants.isEmpty && transition.revokes.isEmpty
      ? .transaction(request)
      : .grantAndTransact(grants: transition.grants, request: request, revokes: transition.revokes)
    switch apply([command], to: &state)[0] {
    case .transaction(let result, let revision):
      guard result.succeeded else { return .conflict }
      state.committedTransitions += 1
      return .done(results: result.results, revision: revision)
    case let other: throw .refused("\(other)")
    }
  }

  func renew(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [Int64] {
    try checked { state in
      guard case .leasesRenewed(let granted, _) = Self.apply([.leaseRenew(ids: leases)], to: &state)[0] else {
        preconditionFailure("a renewal has another answer")
      }
      state.renewedLeases += granted.count { $0 > 0 }
      return granted
    }
  }

  func timeToLive(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [LeaseTime?] {
    try checked { state in
      leases.map { lease in
        guard
          let remaining = state.machine.remainingMilliseconds(
            of: lease, at: LeaseClock(milliseconds: state.nowMilliseconds)),
          let granted = state.machine.leases.grantedTTLMilliseconds(of: lease)
        else { return nil }
        return LeaseTime(remainingMilliseconds: remaining, grantedMilliseconds: granted)
      }
    }
  }

  func watch(prefix: Bytes, from revision: Int64) -> AsyncThrowingStream<WatchBatch, any Error> {
    let (stream, continuation) = AsyncThrowingStream<WatchBatch, any Error>.makeStream()
    state.withLock { state in
      let past = state.history.filter { $0.record.modRevision >= revision && $0.record.key.hasPrefix(prefix) }
      if !past.isEmpty {
        continuation.yield(WatchBatch(events: past, revision: state.machine.keyspace.revision))
      }
      state.watchers.append((prefix, continuation))
    }
    return stream
  }
}
