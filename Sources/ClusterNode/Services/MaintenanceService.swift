import EtcdAPI
import Keyspace
import Primitives
import StateMachine
import Wire

/// etcdserverpb.Maintenance.
struct MaintenanceService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>

  init(_ context: ServiceContext<Node>) { self.context = context }

  func register(into registry: inout GRPCRegistry) {
    registry.serve("/etcdserverpb.Maintenance/Status", context, onLearners: true, access: .user, status)
    registry.serve("/etcdserverpb.Maintenance/Alarm", context, access: .user, alarm)
    registry.serve("/etcdserverpb.Maintenance/Hash", context, access: .root, hash)
    registry.serve("/etcdserverpb.Maintenance/HashKV", context, access: .root, hashKV)
    registry.serve("/etcdserverpb.Maintenance/Defragment", context, access: .root, defragment)
    registry.serve("/etcdserverpb.Maintenance/MoveLeader", context, access: .root, moveLeader)
    registry.serve("/etcdserverpb.Maintenance/Downgrade", context, access: .user, downgrade)
    let context = context
    registry.register("/etcdserverpb.Maintenance/Snapshot", kind: .serverStream) { call in
      SnapshotDownload(call, context)
    }
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
    response.isLearner = context.node.isLearner
    if status.leaderID == 0 { response.errors = [EtcdErrors.noLeader.message] }
    response.errors += status.alarms.map(\.etcdText)
    reply.succeed(response)
  }

  /// Listing reads what stands; raising and disarming go through the log, and answer with the alarm that they concern.
  @Sendable
  private func alarm(_ request: EtcdAlarmRequest, _ reply: UnaryReply<EtcdAlarmResponse>) {
    let action: AlarmAction
    switch request.action {
    case .activate: action = .activate
    case .deactivate: action = .deactivate
    case .get, .UNRECOGNIZED: return listAlarms(request, reply)
    }
    let kind: Alarm.Kind
    switch request.alarm {
    case .nospace: kind = .noSpace
    case .corrupt: kind = .corrupt
    // No alarm is of no kind: nothing to raise, nothing to disarm.
    case .none, .UNRECOGNIZED: return reply.succeed(answer([], revision: context.revision))
    }
    context.afterRootCheck(reply.call) { call in
      context.propose(
        .alarm(action, Alarm(memberID: request.memberID, kind: kind)), UnaryReply<EtcdAlarmResponse>(call: call)
      ) { result in
        guard case .alarms(let alarms, let revision) = result else { preconditionFailure("an alarm came to \(result)") }
        return answer(alarms, revision: revision)
      }
    }
  }

  private func listAlarms(_ request: EtcdAlarmRequest, _ reply: UnaryReply<EtcdAlarmResponse>) {
    context.afterBarrier(reply, access: .user) { () throws(GRPCStatus) in
      let (alarms, revision) = context.node.read { ($0.alarms, $0.keyspace.revision) }
      return answer(
        alarms.filter { request.alarm == .none || $0.kind.etcdType == request.alarm }, revision: revision)
    }
  }

  private func answer(_ alarms: [Alarm], revision: Int64) -> EtcdAlarmResponse {
    var response = EtcdAlarmResponse()
    response.header = context.header(revision: revision)
    response.alarms = alarms.map { alarm in
      var member = EtcdAlarmMember()
      member.memberID = alarm.memberID
      member.alarm = alarm.kind.etcdType
      return member
    }
    return response
  }

  @Sendable
  private func hash(_ request: EtcdHashRequest, _ reply: UnaryReply<EtcdHashResponse>) {
    keyspaceHash(at: 0, reply) { hashed in
      var response = EtcdHashResponse()
      response.header = context.header(revision: hashed.revision)
      response.hash = hashed.hash
      return response
    }
  }

  @Sendable
  private func hashKV(_ request: EtcdHashKVRequest, _ reply: UnaryReply<EtcdHashKVResponse>) {
    keyspaceHash(at: max(request.revision, 0), reply) { hashed in
      var response = EtcdHashKVResponse()
      response.header = context.header(revision: hashed.revision)
      response.hash = hashed.hash
      response.compactRevision = hashed.compactRevision
      return response
    }
  }

  private struct KeyspaceHash: Sendable {
    var hash: UInt32
    var revision: Int64
    /// -1 before the first compaction, as etcd's answer has it.
    var compactRevision: Int64
  }

  /// Of a copy, so that nobody waits for it, and away from the event loop unless it is small. Revision 0: the current one.
  private func keyspaceHash<Response>(
    at revision: Int64, _ reply: UnaryReply<Response>, _ respond: @escaping @Sendable (KeyspaceHash) -> Response
  ) {
    let snapshot = context.node.read { $0.keyspace }
    let body: @Sendable () throws(GRPCStatus) -> Response = { () throws(GRPCStatus) in
      do throws(KeyspaceError) {
        return respond(
          KeyspaceHash(
            hash: try snapshot.hash(at: revision == 0 ? snapshot.revision : revision), revision: snapshot.revision,
            compactRevision: snapshot.compactedRevision))
      } catch {
        throw EtcdErrors.status(for: error)
      }
    }
    if snapshot.sizeInBytes <= Self.maxBytesHashedHere {
      reply.answer(body)
    } else {
      context.answerFromPool(reply, body)
    }
  }

  /// A hop would take longer.
  private static var maxBytesHashedHere: Int { 64 * 1024 }

  /// Answered when it is done. As etcd's, the answer has no header.
  @Sendable
  private func defragment(_ request: EtcdDefragmentRequest, _ reply: UnaryReply<EtcdDefragmentResponse>) {
    context.node.defragment(on: reply.call.eventLoop) { outcome in
      switch outcome {
      case .success: reply.succeed(EtcdDefragmentResponse())
      case .failure(let error): reply.fail(GRPCStatus(.unknown, "\(error)"))
      }
    }
  }

  /// The leader is asked to give way, as in etcd; to give way to itself is done already.
  @Sendable
  private func moveLeader(_ request: EtcdMoveLeaderRequest, _ reply: UnaryReply<EtcdMoveLeaderResponse>) {
    let status = context.node.status
    guard status.leaderID == status.memberID else { return reply.fail(EtcdErrors.notLeader) }
    guard context.node.members.contains(where: { $0.id == request.targetID && !$0.isLearner }) else {
      return reply.fail(EtcdErrors.badLeaderTransferee)
    }
    guard request.targetID != status.memberID else { return reply.succeed(EtcdMoveLeaderResponse()) }
    context.node.transferLeadership(to: request.targetID, on: reply.call.eventLoop) { outcome in
      switch outcome {
      case .success: reply.succeed(EtcdMoveLeaderResponse())
      case .failure(let error): reply.fail(EtcdErrors.status(for: error))
      }
    }
  }

  /// Answers whether the cluster could go to another version by etcd's rule: to the minor version before its own. To do so
  /// is refused: no other release reads our data.
  @Sendable
  private func downgrade(_ request: EtcdDowngradeRequest, _ reply: UnaryReply<EtcdDowngradeResponse>) {
    switch request.action {
    case .cancel: return reply.fail(EtcdErrors.noDowngrade)
    case .UNRECOGNIZED: return reply.fail(EtcdErrors.unknownMethod)
    case .validate, .enable: break
    }
    context.afterBarrier(reply) { () throws(GRPCStatus) in
      guard let target = MinorVersion(request.version) else { throw EtcdErrors.downgradeVersionFormat }
      let cluster = MinorVersion(context.settings.clusterVersion)!
      guard target.major == cluster.major, target.minor == cluster.minor - 1 else {
        throw EtcdErrors.downgradeTarget
      }
      guard request.action == .validate else { throw EtcdErrors.downgradeNotOffered }
      var response = EtcdDowngradeResponse()
      response.header = context.headerNow()
      response.version = context.settings.clusterVersion
      return response
    }
  }
}

/// "3.4", "3.4.7" or "3.4.0-rc.1": what of a version counts between members.
private struct MinorVersion {
  let major: Int
  let minor: Int

  init?(_ text: String) {
    let numbers = text.prefix { $0 != "-" && $0 != "+" }.split(separator: ".", omittingEmptySubsequences: false)
    guard numbers.count == 2 || numbers.count == 3 else { return nil }
    var parsed: [Int] = []
    for number in numbers {
      guard number.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let value = Int(number) else { return nil }
      parsed.append(value)
    }
    (major, minor) = (parsed[0], parsed[1])
  }
}

extension Alarm {
  /// As etcd prints one among a member's errors.
  var etcdText: String { "memberID:\(memberID) alarm:\(kind.etcdName) " }
}

extension Alarm.Kind {
  var etcdType: EtcdAlarmType {
    switch self {
    case .noSpace: .nospace
    case .corrupt: .corrupt
    }
  }

  var etcdName: String {
    switch self {
    case .noSpace: "NOSPACE"
    case .corrupt: "CORRUPT"
    }
  }
}
