import ClusterNode
import Keyspace
import NIOCore
import Primitives
import SidecarCore
import StateMachine

/// The node in this process as the sidecar's store.
package final class EmbeddedStore: SidecarStore {
  private let node: any NodeHandle
  private let eventLoop: any EventLoop

  /// `eventLoop` carries the read barriers' answers and the watches.
  package init(node: any NodeHandle, eventLoop: any EventLoop) {
    self.node = node
    self.eventLoop = eventLoop
  }

  package func range(_ query: RangeQuery) async throws(SidecarStoreError) -> RangeResult {
    try await barrier()
    let result: Result<RangeResult, KeyspaceError> = node.read { machine in
      do throws(KeyspaceError) { return .success(try machine.keyspace.range(query)) } catch { return .failure(error) }
    }
    do { return try result.get() } catch { throw .refused("range: \(error)") }
  }

  package func get(_ keys: [Bytes]) async throws(SidecarStoreError) -> [KeyRecord?] {
    try await barrier()
    let result: Result<[KeyRecord?], KeyspaceError> = node.read { machine in
      var records: [KeyRecord?] = []
      records.reserveCapacity(keys.count)
      do throws(KeyspaceError) {
        for key in keys { records.append(try machine.keyspace.range(RangeQuery(.single(key))).records.first) }
        return .success(records)
      } catch {
        return .failure(error)
      }
    }
    do { return try result.get() } catch { throw .refused("get: \(error)") }
  }

  package func commit(_ transitions: [Transition]) async throws(SidecarStoreError) -> [TransitionOutcome] {
    var outcomes: [TransitionOutcome] = []
    outcomes.reserveCapacity(transitions.count)
    var rest = transitions[...]
    while !rest.isEmpty {
      let part = Self.proposal(of: rest)
      rest = rest.dropFirst(part.count)
      let results = try await propose(part.map(\.command))
      var refusal: SidecarStoreError?
      for result in results {
        switch Self.outcome(of: result) {
        case .success(let outcome): outcomes.append(outcome)
        case .failure(let error): refusal = error
        }
      }
      if let refusal { throw refusal }
    }
    return outcomes
  }

  package func renew(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [Int64] {
    guard !leases.isEmpty else { return [] }
    guard case .leasesRenewed(let granted, _)? = try await propose([.leaseRenew(ids: leases)]).first else {
      throw .refused("a renewal was refused")
    }
    return granted
  }

  package func timeToLive(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [LeaseTime?] {
    try await barrier()
    let now = node.leaseClock
    return node.read { machine in
      leases.map { lease in
        guard let remaining = machine.remainingMilliseconds(of: lease, at: now),
          let granted = machine.leases.grantedTTLMilliseconds(of: lease)
        else { return nil }
        return LeaseTime(remainingMilliseconds: remaining, grantedMilliseconds: granted)
      }
    }
  }

  package func watch(prefix: Bytes, from revision: Int64) -> AsyncThrowingStream<WatchBatch, any Error> {
    let subscription = WatchSubscription(
      node: node, eventLoop: eventLoop, range: .prefix(prefix), startRevision: revision)
    return AsyncThrowingStream { try await subscription.feed.next() }
  }

  // MARK: Proposals

  private func barrier() async throws(SidecarStoreError) {
    let result = await withCheckedContinuation { continuation in
      node.readBarrier(on: eventLoop) { continuation.resume(returning: $0) }
    }
    do { try result.get() } catch { throw SidecarStoreError(error) }
  }

  private func propose(_ commands: [Command]) async throws(SidecarStoreError) -> [CommandResult] {
    let result = await withCheckedContinuation { continuation in
      node.propose(own(commands)) { continuation.resume(returning: $0) }
    }
    do { return try result.get() } catch { throw SidecarStoreError(error) }
  }

  /// The sidecar is a part of the member: what users may do does not bind it.
  private func own(_ commands: [Command]) -> [Command] {
    node.auth.isEnabled ? commands.map { .authored(.member, $0) } : commands
  }

  private static func proposal(of transitions: ArraySlice<Transition>) -> ArraySlice<Transition> {
    var bytes = 0
    var count = 0
    for transition in transitions {
      bytes += transition.approximateBytes
      if bytes > Transition.maxCommitBytes, count > 0 { break }
      count += 1
    }
    return transitions.prefix(count)
  }

  private static func outcome(of result: CommandResult) -> Result<TransitionOutcome, SidecarStoreError> {
    switch result {
    case .transaction(let result, let revision):
      .success(result.succeeded ? .done(results: result.results, revision: revision) : .conflict)
    // A lease ID that is taken, or a lease that has ended meanwhile: plan anew.
    case .refused(.leaseExists), .refused(.leaseNotFound): .success(.conflict)
    case .refused(.noSpace): .failure(.spaceExceeded)
    // Users began to count while it was on its way.
    case .refused(.auth(.userEmpty)): .failure(.unavailable("users have just begun to count"))
    case .refused(let error): .failure(.refused("\(error)"))
    default: .failure(.refused("an unexpected answer to a transition"))
    }
  }
}

extension SidecarStoreError {
  init(_ error: ProposalError) {
    switch error {
    case .requestTooLarge: self = .refused("the request is too large")
    case .noSpace: self = .spaceExceeded
    case .noLeader: self = .unavailable("no leader")
    case .notLeader: self = .unavailable("not the leader")
    case .tooManyRequests: self = .unavailable("too many requests")
    case .stopped: self = .unavailable("the node is stopping")
    case .timedOut, .timedOutByLeaderFailure: self = .unavailable("timed out")
    case .corrupt: self = .unavailable("the member's state is corrupt")
    case .badLeaderTransferee, .membership: self = .refused("\(error)")
    }
  }
}

extension Transition {
  var command: Command {
    let request = TransactionRequest(comparisons: comparisons, success: operations)
    if grants.isEmpty, revokes.isEmpty { return .transaction(request) }
    return .grantAndTransact(grants: grants, request: request, revokes: revokes)
  }

  var approximateBytes: Int {
    var bytes = 64 + grants.count * 16 + revokes.count * 9
    for comparison in comparisons {
      bytes += 64
      if case .single(let key) = comparison.range { bytes += key.count }
      if case .value(let value) = comparison.target { bytes += value.count }
    }
    for operation in operations {
      bytes += 64
      if case .put(let put) = operation { bytes += put.key.count + put.value.count }
    }
    return bytes
  }
}
