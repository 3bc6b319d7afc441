import EtcdAPI
import Keyspace
import Primitives
import Wire

/// etcdserverpb.Maintenance.
struct MaintenanceService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>

  init(_ context: ServiceContext<Node>) { self.context = context }

  func register(into registry: inout GRPCRegistry) {
    registry.serve("/etcdserverpb.Maintenance/Status", context, status)
    registry.serve("/etcdserverpb.Maintenance/Alarm", context, alarm)
    registry.serve("/etcdserverpb.Maintenance/Hash", context, hash)
    registry.serve("/etcdserverpb.Maintenance/HashKV", context, hashKV)
    registry.serve("/etcdserverpb.Maintenance/Defragment", context, defragment)
    registry.serve("/etcdserverpb.Maintenance/MoveLeader", context, moveLeader)
  }

  @Sendable
  private func status(_ request: EtcdStatusRequest, _ reply: UnaryReply<EtcdStatusResponse>) {
    let status = context.node.status
    var response = EtcdStatusResponse()
    response.header = context.headerNow()
    response.version = context.settings.serverVersion
    response.dbSize = status.databaseSizeBytes
    response.dbSizeInUse = status.databaseInUseBytes
    response.leader = status.leaderID
    response.raftIndex = status.raftIndex
    response.raftTerm = status.term
    response.raftAppliedIndex = status.appliedIndex
    if status.leaderID == 0 { response.errors = [EtcdErrors.noLeader.message] }
    reply.succeed(response)
  }

  /// No alarm exists yet: there is none to list, and none to disarm.
  @Sendable
  private func alarm(_ request: EtcdAlarmRequest, _ reply: UnaryReply<EtcdAlarmResponse>) {
    if request.action == .activate {
      reply.fail(GRPCStatus(.unimplemented, "etcdserver: alarms cannot be raised by hand"))
      return
    }
    var response = EtcdAlarmResponse()
    response.header = context.headerNow()
    reply.succeed(response)
  }

  @Sendable
  private func hash(_ request: EtcdHashRequest, _ reply: UnaryReply<EtcdHashResponse>) {
    reply.answer { () throws(GRPCStatus) in
      let hashed = try keyspaceHash(at: 0)
      var response = EtcdHashResponse()
      response.header = context.header(revision: hashed.revision)
      response.hash = hashed.hash
      return response
    }
  }

  @Sendable
  private func hashKV(_ request: EtcdHashKVRequest, _ reply: UnaryReply<EtcdHashKVResponse>) {
    reply.answer { () throws(GRPCStatus) in
      let hashed = try keyspaceHash(at: max(request.revision, 0))
      var response = EtcdHashKVResponse()
      response.header = context.header(revision: hashed.revision)
      response.hash = hashed.hash
      response.compactRevision = hashed.compactRevision
      return response
    }
  }

  private struct KeyspaceHash {
    var hash: UInt32
    var revision: Int64
    var compactRevision: Int64
  }

  /// Of a copy, so that nobody waits for it. Revision 0: the current one.
  private func keyspaceHash(at revision: Int64) throws(GRPCStatus) -> KeyspaceHash {
    let snapshot = context.node.read { $0.keyspace }
    do throws(KeyspaceError) {
      return KeyspaceHash(
        hash: try snapshot.hash(at: revision == 0 ? snapshot.revision : revision), revision: snapshot.revision,
        compactRevision: snapshot.compactRevision)
    } catch {
      throw EtcdErrors.status(for: error)
    }
  }

  /// Nothing of ours fragments in a way that a caller could mend: done at once. As etcd's, the answer has no header.
  @Sendable
  private func defragment(_ request: EtcdDefragmentRequest, _ reply: UnaryReply<EtcdDefragmentResponse>) {
    reply.succeed(EtcdDefragmentResponse())
  }

  /// With one member the leader can only stay where it is.
  @Sendable
  private func moveLeader(_ request: EtcdMoveLeaderRequest, _ reply: UnaryReply<EtcdMoveLeaderResponse>) {
    let status = context.node.status
    if status.leaderID != status.memberID {
      reply.fail(EtcdErrors.notLeader)
    } else if request.targetID != status.memberID {
      reply.fail(EtcdErrors.badLeaderTransferee)
    } else {
      reply.succeed(EtcdMoveLeaderResponse())
    }
  }
}
