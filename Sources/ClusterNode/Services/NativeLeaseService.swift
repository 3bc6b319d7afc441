import EtcdAPI
import Keyspace
import Leases
import Primitives
import StateMachine
import Wire

/// leaseholdpb.Leases: leases by the thousand, times in milliseconds. A request is one log entry, so an answer means
/// that all of it is durable.
struct NativeLeaseService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>

  init(_ context: ServiceContext<Node>) { self.context = context }

  func register(into registry: inout GRPCRegistry) {
    registry.serve("/leaseholdpb.Leases/Grant", context, access: .open, grant)
    registry.serve("/leaseholdpb.Leases/GrantAndPut", context, access: .open, grantAndPut)
    registry.serve("/leaseholdpb.Leases/Renew", context, access: .open, renew)
    registry.serve("/leaseholdpb.Leases/TimeToLive", context, access: .user, timeToLive)
  }

  // MARK: Grants

  @Sendable
  private func grant(_ request: NativeGrantRequest, _ reply: UnaryReply<NativeGrantResponse>) {
    let grants: [LeaseGrant]
    do throws(GRPCStatus) {
      try NativeLeaseErrors.check(count: request.leases.count, limit: Limits.maxLeasesPerNativeRequest)
      try context.checkSize(requestBytes: reply.call.requestBytes)
      grants = try self.grants(request.leases.lazy.map { ($0.id, $0.ttlMs) })
    } catch {
      reply.fail(error)
      return
    }
    propose(grants.map { .leaseGrant(id: $0.id, ttlMilliseconds: $0.ttlMilliseconds) }, reply) {
      results throws(GRPCStatus) in
      var response = NativeGrantResponse()
      response.ids = grants.map(\.id)
      response.ttlsMs.reserveCapacity(results.count)
      for result in results {
        switch result {
        case .leaseGranted(_, let ttlMilliseconds, let revision):
          response.header = context.nativeHeader(revision: revision)
          response.ttlsMs.append(ttlMilliseconds)
        case .refused(.leaseExists): response.ttlsMs.append(0)
        case .refused(let error): throw EtcdErrors.status(for: error)
        default: preconditionFailure("a grant came to \(result)")
        }
      }
      context.metrics.leasesGranted.add(response.ttlsMs.count { $0 > 0 })
      if !response.hasHeader { response.header = context.nativeHeader(revision: context.revision) }
      return response
    }
  }

  @Sendable
  private func grantAndPut(_ request: NativeGrantAndPutRequest, _ reply: UnaryReply<NativeGrantAndPutResponse>) {
    let grants: [LeaseGrant]
    let transaction: TransactionRequest
    do throws(GRPCStatus) {
      try NativeLeaseErrors.check(count: request.items.count, limit: Limits.maxPutsPerNativeRequest)
      try context.checkSize(requestBytes: reply.call.requestBytes)
      grants = try self.grants(request.items.lazy.map { ($0.lease, $0.ttlMs) })
      transaction = try Self.puts(request.items, on: grants)
    } catch {
      reply.fail(error)
      return
    }
    propose([.grantAndTransact(grants: grants, request: transaction)], reply) { results throws(GRPCStatus) in
      switch results.first {
      case .transaction(_, let revision):
        context.metrics.leasesGranted.add(grants.count)
        context.metrics.puts.add(grants.count)
        var response = NativeGrantAndPutResponse()
        response.header = context.nativeHeader(revision: revision)
        response.leases = grants.map(\.id)
        response.ttlsMs = grants.map(\.ttlMilliseconds)
        return response
      case .refused(let error): throw EtcdErrors.status(for: error)
      default: preconditionFailure("grants with puts came to \(results)")
      }
    }
  }

  private static func puts(
    _ items: [NativeGrantAndPutRequest.Item], on grants: [LeaseGrant]
  ) throws(GRPCStatus) -> TransactionRequest {
    var transaction = TransactionRequest()
    transaction.success.reserveCapacity(items.count)
    var keys = Set<Bytes>(minimumCapacity: items.count)
    var leases = Set<LeaseID>(minimumCapacity: items.count)
    for (place, item) in items.enumerated() {
      let key = Bytes(item.key)
      if key.isEmpty { throw NativeLeaseErrors.item(place, "key is not provided") }
      guard keys.insert(key).inserted else { throw NativeLeaseErrors.item(place, "its key stands twice") }
      guard leases.insert(grants[place].id).inserted else {
        throw NativeLeaseErrors.item(place, "its lease stands twice")
      }
      transaction.success.append(.put(PutRequest(key, Bytes(item.value), lease: grants[place].id)))
    }
    return transaction
  }

  /// What to grant: an ID where none is given, the node's minimum where the TTL is shorter.
  private func grants(
    _ wanted: some Collection<(id: LeaseID, ttlMilliseconds: Int64)>
  ) throws(GRPCStatus) -> [LeaseGrant] {
    let least = context.settings.minLeaseTTLSeconds * 1_000
    var grants: [LeaseGrant] = []
    grants.reserveCapacity(wanted.count)
    for (id, ttlMilliseconds) in wanted {
      if ttlMilliseconds > Limits.maxLeaseTTLSeconds * 1_000 {
        throw NativeLeaseErrors.item(grants.count, "too large lease TTL", .outOfRange)
      }
      grants.append(LeaseGrant(id: id, ttlMilliseconds: max(ttlMilliseconds, least)))
    }
    let picks = grants.indices.filter { grants[$0].id == 0 }
    if !picks.isEmpty { pickIDs(at: picks, of: &grants) }
    return grants
  }

  /// One random number from the system begins each request's own sequence; so a thousand picks cost one such call and
  /// one look at the leases. A pick that is taken meanwhile is refused like any other.
  private func pickIDs(at places: [Int], of grants: inout [LeaseGrant]) {
    var random = SeededGenerator(seed: .random(in: .min ... .max))
    for place in places { grants[place].id = .random(in: 1...LeaseID.max, using: &random) }
    let picked = grants
    let taken = context.node.read { state in places.filter { state.leases.contains(picked[$0].id) } }
    for place in taken { grants[place].id = context.node.pickLeaseID() }
  }

  // MARK: Renewals and reads

  @Sendable
  private func renew(_ request: NativeRenewRequest, _ reply: UnaryReply<NativeRenewResponse>) {
    do throws(GRPCStatus) {
      try NativeLeaseErrors.check(count: request.ids.count, limit: Limits.maxLeasesPerNativeRequest)
    } catch {
      reply.fail(error)
      return
    }
    propose([.leaseRenew(ids: request.ids)], reply) { results throws(GRPCStatus) in
      if case .refused(let error)? = results.first { throw EtcdErrors.status(for: error) }
      guard case .leasesRenewed(let ttls, let revision)? = results.first else {
        preconditionFailure("a renewal came to \(results)")
      }
      context.metrics.leasesRenewed.add(ttls.count { $0 > 0 })
      var response = NativeRenewResponse()
      response.header = context.nativeHeader(revision: revision)
      response.ttlsMs = ttls
      return response
    }
  }

  @Sendable
  private func timeToLive(_ request: NativeTimeToLiveRequest, _ reply: UnaryReply<NativeTimeToLiveResponse>) {
    do throws(GRPCStatus) {
      try NativeLeaseErrors.check(count: request.ids.count, limit: Limits.maxLeasesPerNativeRequest)
    } catch {
      reply.fail(error)
      return
    }
    context.afterBarrier(reply, access: .user) { () throws(GRPCStatus) in
      let clock = context.node.leaseClock
      var response = NativeTimeToLiveResponse()
      response.remainingMs.reserveCapacity(request.ids.count)
      response.grantedMs.reserveCapacity(request.ids.count)
      let revision = context.node.read { state in
        for id in request.ids {
          response.remainingMs.append(state.remainingMilliseconds(of: id, at: clock) ?? -1)
          response.grantedMs.append(state.leases.grantedTTLMilliseconds(of: id) ?? 0)
        }
        return state.keyspace.revision
      }
      response.header = context.nativeHeader(revision: revision)
      return response
    }
  }

  /// Proposes commands as one entry's and answers with what `respond` makes of their results.
  private func propose<Response>(
    _ commands: [Command], _ reply: UnaryReply<Response>,
    _ respond: @escaping @Sendable ([CommandResult]) throws(GRPCStatus) -> Response
  ) {
    context.authored(commands, reply.call) { commands in
      context.node.propose(commands, on: reply.call.eventLoop) { outcome in
        reply.answer { () throws(GRPCStatus) in
          switch outcome {
          case .failure(let error):
            context.metrics.proposalsFailed.add()
            throw EtcdErrors.status(for: error)
          case .success(let results): return try respond(results)
          }
        }
      }
    }
  }
}

/// Refusals of what etcd's API has no words for.
package enum NativeLeaseErrors {
  package static let empty = GRPCStatus(.invalidArgument, "leasehold: the request names no lease")

  package static func tooMany(_ count: Int, limit: Int) -> GRPCStatus {
    GRPCStatus(.invalidArgument, "leasehold: \(count) leases in one request; the limit is \(limit)")
  }

  /// `place` counts from 0.
  package static func item(_ place: Int, _ reason: String, _ code: GRPCCode = .invalidArgument) -> GRPCStatus {
    GRPCStatus(code, "leasehold: item \(place): \(reason)")
  }

  static func check(count: Int, limit: Int) throws(GRPCStatus) {
    if count == 0 { throw empty }
    if count > limit { throw tooMany(count, limit: limit) }
  }
}

extension ServiceContext {
  fileprivate func nativeHeader(revision: Int64) -> NativeHeader {
    let (clusterID, memberID, term) = node.header
    var header = NativeHeader()
    header.clusterID = clusterID
    header.memberID = memberID
    header.raftTerm = term
    header.revision = revision
    return header
  }
}
