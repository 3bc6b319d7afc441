import EtcdAPI
import Wire

/// etcdserverpb.Cluster for a cluster of one member: it can be listed, and every change that names a member gets the
/// answer that it would get from etcd. Adding members needs a cluster; the wire says so (`unknown method`).
struct ClusterService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>

  init(_ context: ServiceContext<Node>) { self.context = context }

  func register(into registry: inout GRPCRegistry) {
    registry.serve("/etcdserverpb.Cluster/MemberList", context, list)
    registry.serve("/etcdserverpb.Cluster/MemberRemove", context, remove)
    registry.serve("/etcdserverpb.Cluster/MemberPromote", context, promote)
  }

  @Sendable
  private func list(_ request: EtcdMemberListRequest, _ reply: UnaryReply<EtcdMemberListResponse>) {
    let answer: @Sendable () throws(GRPCStatus) -> EtcdMemberListResponse = { () throws(GRPCStatus) in
      let status = context.node.status
      var member = EtcdMember()
      member.id = status.memberID
      member.name = status.name
      member.peerUrls = status.peerURLs
      member.clientUrls = status.clientURLs
      var response = EtcdMemberListResponse()
      // Membership is not of the keyspace: no revision.
      response.header = context.header(revision: 0)
      response.members = [member]
      return response
    }
    if request.linearizable {
      context.afterBarrier(reply, answer)
    } else {
      reply.answer(answer)
    }
  }

  /// The only member cannot be removed: nobody would be left to agree.
  @Sendable
  private func remove(_ request: EtcdMemberRemoveRequest, _ reply: UnaryReply<EtcdMemberRemoveResponse>) {
    let isMember = request.id == context.node.status.memberID
    reply.fail(isMember ? EtcdErrors.notEnoughStartedMembers : EtcdErrors.memberNotFound)
  }

  @Sendable
  private func promote(_ request: EtcdMemberPromoteRequest, _ reply: UnaryReply<EtcdMemberPromoteResponse>) {
    let isMember = request.id == context.node.status.memberID
    reply.fail(isMember ? EtcdErrors.memberNotLearner : EtcdErrors.memberNotFound)
  }
}
