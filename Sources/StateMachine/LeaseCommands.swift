import Keyspace
import Leases
import Primitives

extension StateMachine {
  /// etcd's refusals in etcd's order. The minimum TTL is the proposer's matter, which raises it silently.
  mutating func grant(_ grant: LeaseGrant) throws(CommandError) -> CommandResult {
    try check(grant)
    establish(grant)
    return .leaseGranted(id: grant.id, ttlMilliseconds: grant.ttlMilliseconds, revision: keyspace.revision)
  }

  private func check(_ grant: LeaseGrant) throws(CommandError) {
    guard grant.id != 0 else { throw .leaseNotFound }
    guard (1...Limits.maxLeaseTTLSeconds * 1_000).contains(grant.ttlMilliseconds) else { throw .leaseTTLTooLarge }
    guard !leases.contains(grant.id) else { throw .leaseExists }
  }

  private mutating func establish(_ grant: LeaseGrant) {
    let isNew = leases.grant(grant.id, ttlMilliseconds: grant.ttlMilliseconds, at: clock)
    precondition(isNew, "lease \(grant.id) granted twice")
    hash.mix(grant.id)
    hash.mix(clock.advanced(byMilliseconds: grant.ttlMilliseconds).milliseconds)
    if recordsChanges, let slot = leases.slot(of: grant.id) { recordLease(grant.id, at: slot) }
  }

  /// All keys of the lease vanish at one revision; without keys the revision stays.
  mutating func revoke(_ id: LeaseID, _ events: inout [KeyspaceEvent]) throws(CommandError) -> CommandResult {
    guard let slot = leases.slot(of: id) else { throw .leaseNotFound }
    end(id, at: slot, cause: .leaseRevoked, &events)
    return .leaseRevoked(revision: keyspace.revision)
  }

  /// Deadlines become one whole TTL from `clock`. A lease that is not there is no error but a TTL of 0.
  mutating func renew(_ ids: [LeaseID]) -> CommandResult {
    var ttls: [Int64] = []
    ttls.reserveCapacity(ids.count)
    for id in ids {
      guard let slot = leases.slot(of: id) else {
        ttls.append(0)
        continue
      }
      if leases.renew(at: slot, at: clock) {
        hash.mix(id)
        hash.mix(leases.deadline(at: slot).milliseconds)
        recordLease(id, at: slot)
      }
      ttls.append(leases.grantedTTLMilliseconds(at: slot))
    }
    return .leasesRenewed(ttls, revision: keyspace.revision)
  }

  /// Ends those of the leases that are due at `clock`; one that was renewed by an entry before stays. Each lease with
  /// keys has a revision of its own, in the order of the command.
  mutating func expire(_ ids: [LeaseID], _ events: inout [KeyspaceEvent]) -> CommandResult {
    var count = 0
    for id in ids {
      guard let slot = leases.slot(of: id), leases.deadline(at: slot) <= clock else { continue }
      end(id, at: slot, cause: .leaseExpired, &events)
      count += 1
    }
    return .leasesExpired(count: count, revision: keyspace.revision)
  }

  private mutating func end(
    _ id: LeaseID, at slot: Int, cause: DeletionCause, _ events: inout [KeyspaceEvent]
  ) {
    let keys = attachments.detachAll(at: slot)
    leases.remove(at: slot)
    hash.mix(id)
    recordEnd(of: id)
    if !keys.isEmpty { keyspace.delete(keys: keys, cause: cause, events: &events) }
  }

  /// The leases come to be exactly when the request's comparisons hold and nothing is refused. A failure branch runs
  /// as in any transaction, but may not name a new lease: that is refused whatever the comparisons say.
  mutating func grantAndTransact(
    _ grants: [LeaseGrant], _ request: TransactionRequest, _ revokes: [LeaseID], _ events: inout [KeyspaceEvent]
  ) throws(CommandError) -> CommandResult {
    for (position, grant) in grants.enumerated() {
      try check(grant)
      guard !grants[..<position].contains(where: { $0.id == grant.id }) else { throw .leaseExists }
      guard !request.failure.contains(where: { $0.puts(on: grant.id) }) else { throw .leaseNotFound }
    }
    let firstEvent = events.count
    let result = try Self.transact(request, in: &keyspace, leases, granting: grants, &events)
    if result.succeeded {
      for grant in grants { establish(grant) }
    }
    follow(events, from: firstEvent)
    let revision = keyspace.revision
    if result.succeeded {
      for id in revokes {
        if let slot = leases.slot(of: id) { end(id, at: slot, cause: .leaseRevoked, &events) }
      }
    }
    return .transaction(result, revision: revision)
  }
}

extension Operation {
  fileprivate func puts(on lease: LeaseID) -> Bool {
    switch self {
    case .range, .delete: false
    case .put(let request): request.lease == lease && !request.ignoresLease
    case .transaction(let request): (request.success + request.failure).contains { $0.puts(on: lease) }
    }
  }
}

// MARK: - Reading leases

extension StateMachine {
  /// Keys attached to a lease, sorted.
  package func keys(of lease: LeaseID) -> [Bytes] {
    leases.slot(of: lease).map { attachments.keys(at: $0).sorted } ?? []
  }

  /// Milliseconds left at `clock` (never below 0), nil when unknown.
  package func remainingMilliseconds(of lease: LeaseID, at clock: LeaseClock) -> Int64? {
    guard let deadline = leases.deadline(of: lease), deadline > clock else {
      return leases.contains(lease) ? 0 : nil
    }
    let (rest, overflow) = deadline.milliseconds.subtractingReportingOverflow(clock.milliseconds)
    return overflow ? .max : rest
  }

  /// Up to the limits of one expiry command: leases due at `clock`, counted with their keys. At least one when any is
  /// due, even if its keys alone exceed the limit. `isCut`: the limits may have left some for the next command.
  package func expiryBatch(at clock: LeaseClock) -> (ids: [LeaseID], isCut: Bool) {
    var due = leases.due(at: clock, limit: Limits.maxExpiriesPerCommand)
    var keys = 0
    for (position, id) in due.enumerated() {
      keys += leases.slot(of: id).map { attachments.keys(at: $0).count } ?? 0
      if keys > Limits.maxExpiredKeysPerCommand, position > 0 {
        due.removeLast(due.count - position)
        return (due, true)
      }
    }
    return (due, due.count == Limits.maxExpiriesPerCommand)
  }

  /// Lets the deadline wheel turn without an entry: no replicated state changes. Spares an idle leader that asks
  /// `expiryBatch` ten times a second looks at leases it has seen.
  package mutating func turnWheel(to clock: LeaseClock) { leases.advance(to: clock) }

  /// Gives back a bounded part of what a compaction has made superfluous. No replicated state changes.
  @discardableResult
  package mutating func advanceCompaction(maxKeys: Int) -> Bool { keyspace.compactStep(maxKeys: maxKeys) }
}
