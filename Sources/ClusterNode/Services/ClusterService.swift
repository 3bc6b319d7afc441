import EtcdAPI
import FoundationEssentials
import Primitives
import StateMachine
import Wire

/// etcdserverpb.Cluster.
struct ClusterService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>

  init(_ context: ServiceContext<Node>) { self.context = context }

  func register(into registry: inout GRPCRegistry) {
    registry.serve("/etcdserverpb.Cluster/MemberList", context, access: .user, list)
    registry.serve("/etcdserverpb.Cluster/MemberAdd", context, access: .open, add)
    registry.serve("/etcdserverpb.Cluster/MemberRemove", context, access: .root, remove)
    registry.serve("/etcdserverpb.Cluster/MemberUpdate", context, access: .root, update)
    registry.serve("/etcdserverpb.Cluster/MemberPromote", context, access: .root, promote)
  }

  /// Membership is not of the keyspace: no revision.
  private var header: EtcdResponseHeader { context.header(revision: 0) }

  @Sendable
  private func list(_ request: EtcdMemberListRequest, _ reply: UnaryReply<EtcdMemberListResponse>) {
    let answer: @Sendable () throws(GRPCStatus) -> EtcdMemberListResponse = { () throws(GRPCStatus) in
      var response = EtcdMemberListResponse()
      response.header = header
      response.members = context.node.members.map(\.etcdMember)
      return response
    }
    if request.linearizable {
      context.afterBarrier(reply, access: .user, answer)
    } else {
      reply.answer(answer)
    }
  }

  /// The new member's ID depends on the time, as etcd's does: one that comes back under the same URLs is somebody else.
  @Sendable
  private func add(_ request: EtcdMemberAddRequest, _ reply: UnaryReply<EtcdMemberAddResponse>) {
    guard let urls = PeerURL.list(request.peerUrls) else { return reply.fail(EtcdErrors.badMemberURLs) }
    let id = InitialCluster.memberID(
      peerURLs: urls, token: String(context.node.header.clusterID, radix: 16),
      addedAtSeconds: Int64(Date().timeIntervalSince1970))
    let member = ClusterMember(id: id, peerURLs: urls, isLearner: request.isLearner)
    change(.add(member), reply) { members in
      var response = EtcdMemberAddResponse()
      response.header = header
      response.member = member.etcdMember
      response.members = members
      return response
    }
  }

  @Sendable
  private func remove(_ request: EtcdMemberRemoveRequest, _ reply: UnaryReply<EtcdMemberRemoveResponse>) {
    change(.remove(id: request.id), reply) { members in
      var response = EtcdMemberRemoveResponse()
      response.header = header
      response.members = members
      return response
    }
  }

  /// etcd takes whatever it is given here; nobody could reach such a member.
  @Sendable
  private func update(_ request: EtcdMemberUpdateRequest, _ reply: UnaryReply<EtcdMemberUpdateResponse>) {
    guard let urls = PeerURL.list(request.peerUrls) else { return reply.fail(EtcdErrors.badMemberURLs) }
    change(.update(id: request.id, peerURLs: urls), reply) { members in
      var response = EtcdMemberUpdateResponse()
      response.header = header
      response.members = members
      return response
    }
  }

  @Sendable
  private func promote(_ request: EtcdMemberPromoteRequest, _ reply: UnaryReply<EtcdMemberPromoteResponse>) {
    change(.promote(id: request.id), reply) { members in
      var response = EtcdMemberPromoteResponse()
      response.header = header
      response.members = members
      return response
    }
  }

  private func change<Response>(
    _ change: MemberChange, _ reply: UnaryReply<Response>, _ respond: @escaping @Sendable ([EtcdMember]) -> Response
  ) {
    context.afterRootCheck(reply.call) { _ in
      context.node.changeMembership(change, on: reply.call.eventLoop) { outcome in
        switch outcome {
        case .success(let members): reply.succeed(respond(members.map(\.etcdMember)))
        case .failure(let error): reply.fail(EtcdErrors.status(for: error))
        }
      }
    }
  }
}

extension ClusterMember {
  var etcdMember: EtcdMember {
    var member = EtcdMember()
    member.id = id
    member.name = name
    member.peerUrls = peerURLs
    member.clientUrls = clientURLs
    member.isLearner = isLearner
    return member
  }
}
