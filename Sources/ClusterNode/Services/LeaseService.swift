import EtcdAPI
import Leases
import Primitives
import StateMachine
import Wire

/// etcdserverpb.Lease. Times on etcd's wire are whole seconds.
struct LeaseService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>

  init(_ context: ServiceContext<Node>) { self.context = context }

  func register(into registry: inout GRPCRegistry) {
    registry.serve("/etcdserverpb.Lease/LeaseGrant", context, access: .open, grant)
    registry.serve("/etcdserverpb.Lease/LeaseRevoke", context, access: .user, revoke)
    registry.serve("/etcdserverpb.Lease/LeaseTimeToLive", context, access: .user, timeToLive)
    registry.serve("/etcdserverpb.Lease/LeaseLeases", context, access: .open, leases)
    let renewals = LeaseRenewalBatches(context)
    registry.register("/etcdserverpb.Lease/LeaseKeepAlive", kind: .bidiStream) { call in
      LeaseKeepAliveStream(call, context, renewals.batch(on: call.eventLoop))
    }
  }

  /// A TTL below the minimum is raised without a word, also a negative one.
  @Sendable
  private func grant(_ request: EtcdLeaseGrantRequest, _ reply: UnaryReply<EtcdLeaseGrantResponse>) {
    guard request.ttl <= Limits.maxLeaseTTLSeconds else {
      reply.fail(EtcdErrors.leaseTTLTooLarge)
      return
    }
    let ttlSeconds = max(request.ttl, context.settings.minLeaseTTLSeconds)
    let id = request.id == 0 ? context.node.pickLeaseID() : request.id
    context.propose(.leaseGrant(id: id, ttlMilliseconds: ttlSeconds * 1_000), reply) { result in
      guard case .leaseGranted(let id, let ttlMilliseconds, let revision) = result else {
        preconditionFailure("a grant came to \(result)")
      }
      context.metrics.leasesGranted.add()
      var response = EtcdLeaseGrantResponse()
      response.header = context.header(revision: revision)
      response.id = id
      response.ttl = ttlMilliseconds / 1_000
      return response
    }
  }

  @Sendable
  private func revoke(_ request: EtcdLeaseRevokeRequest, _ reply: UnaryReply<EtcdLeaseRevokeResponse>) {
    context.propose(.leaseRevoke(id: request.id), reply) { result in
      guard case .leaseRevoked(let revision) = result else { preconditionFailure("a revoke came to \(result)") }
      context.metrics.leasesRevoked.add()
      var response = EtcdLeaseRevokeResponse()
      response.header = context.header(revision: revision)
      return response
    }
  }

  /// A lease that is not there is no error: its TTL is -1.
  @Sendable
  private func timeToLive(_ request: EtcdLeaseTimeToLiveRequest, _ reply: UnaryReply<EtcdLeaseTimeToLiveResponse>) {
    context.afterBarrier(reply, access: .user) { () throws(GRPCStatus) in
      if request.keys {
        try context.authorize(
          reply.call.caller,
          state: { (machine, caller) throws(AuthError) in
            try machine.checkKeys(of: request.id, .read, by: caller)
          })
      }
      let clock = context.node.leaseClock
      var response = EtcdLeaseTimeToLiveResponse()
      response.id = request.id
      response.ttl = -1
      var keys: [Bytes] = []
      let revision = context.node.read { state in
        if let remaining = state.remainingMilliseconds(of: request.id, at: clock) {
          response.ttl = remaining / 1_000
          response.grantedTtl = (state.leases.grantedTTLMilliseconds(of: request.id) ?? 0) / 1_000
          if request.keys { keys = state.keys(of: request.id) }
        }
        return state.keyspace.revision
      }
      response.keys = keys.map(\.data)
      response.header = context.header(revision: revision)
      if request.keys { try context.confirm(reply.call.caller) }
      return response
    }
  }

  /// The leases in the order in which they run out, as etcd lists them; only for somebody who may read every key on
  /// them.
  @Sendable
  private func leases(_ request: EtcdLeaseLeasesRequest, _ reply: UnaryReply<EtcdLeaseLeasesResponse>) {
    context.afterBarrier(reply) { () throws(GRPCStatus) in
      try checkLeases(for: reply.call.caller)
      var response = EtcdLeaseLeasesResponse()
      response.header = context.headerNow()
      response.leases = leasesByDeadline().map { id in
        var status = EtcdLeaseStatus()
        status.id = id
        return status
      }
      try context.confirm(reply.call.caller)
      return response
    }
  }

  private func checkLeases(for caller: Caller) throws(GRPCStatus) {
    guard context.node.auth.isEnabled else { return }
    try context.authorize(caller, .user)
    if context.node.auth.state.isRoot(try context.stamp(of: caller)) { return }
    let ids = context.node.read { $0.leases.ids }
    for start in stride(from: 0, to: ids.count, by: Self.pageLeases) {
      try context.authorize(
        caller,
        state: { (machine, stamp) throws(AuthError) in
          for id in ids[start..<min(start + Self.pageLeases, ids.count)] {
            try machine.checkKeys(of: id, .read, by: stamp)
          }
        })
    }
  }

  private static var pageLeases: Int { 10_000 }

  /// Deadlines are read in pages; a lease that went away meanwhile is left out.
  private func leasesByDeadline() -> [LeaseID] {
    let ids = context.node.read { $0.leases.ids }
    var dated: [(deadline: LeaseClock, id: LeaseID)] = []
    dated.reserveCapacity(ids.count)
    var next = 0
    while next < ids.count {
      let page = ids[next..<min(next + Self.pageLeases, ids.count)]
      context.node.read { state in
        for id in page {
          if let deadline = state.leases.deadline(of: id) { dated.append((deadline, id)) }
        }
      }
      next = page.endIndex
    }
    dated.sort { ($0.deadline, $0.id) < ($1.deadline, $1.id) }
    return dated.map(\.id)
  }
}
