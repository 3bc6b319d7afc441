import EtcdAPI
import NIOCore
import Primitives
import Wire

/// What etcd's flags say to its services.
package struct EtcdSettings: Sendable {
  /// `--max-request-bytes`.
  package var maxRequestBytes = Limits.maxRequestBytes
  /// `--max-txn-ops`.
  package var maxTxnOperations = Limits.maxTxnOperations
  /// Shorter leases are granted this many seconds (`NodeConfiguration.minLeaseTTLSeconds`).
  package var minLeaseTTLSeconds: Int64 = 2
  /// How often streams whose clients need a leader are looked after.
  package var electionTimeoutMilliseconds: Int64 = 1_000
  /// How often a watch with `progress_notify` hears from us when nothing happens; up to a tenth is added at random.
  package var watchProgressInterval = TimeAmount.minutes(10)
  /// Plain numbers: clients parse them, and compare them with the versions that brought a feature.
  package var serverVersion = "3.5.21"
  package var clusterVersion = "3.5.0"
  package var auth = AuthSettings()

  package init() {}
}

/// etcd's gRPC API on a node's in-process one.
package enum EtcdServices {
  /// As the generic one. A call from another module would run the services unspecialized, with a witness call for
  /// whatever they ask of the node; here they are compiled for the one that serves.
  package static func register(
    into registry: inout GRPCRegistry, node: Node, settings: EtcdSettings, metrics: EtcdMetrics
  ) {
    registerAll(into: &registry, ServiceContext(node: node, settings: settings, metrics: metrics))
  }

  /// Registers KV, Watch, Lease, Cluster, Maintenance, Auth, v3lock, v3election, grpc.health.v1 and our own lease service.
  package static func register(
    into registry: inout GRPCRegistry, node: some NodeHandle, settings: EtcdSettings, metrics: EtcdMetrics
  ) {
    registerAll(into: &registry, ServiceContext(node: node, settings: settings, metrics: metrics))
  }

  private static func registerAll(into registry: inout GRPCRegistry, _ context: ServiceContext<some NodeHandle>) {
    KVService(context).register(into: &registry)
    LeaseService(context).register(into: &registry)
    NativeLeaseService(context).register(into: &registry)
    registerWatch(into: &registry, context)
    ClusterService(context).register(into: &registry)
    MaintenanceService(context).register(into: &registry)
    AuthService(context).register(into: &registry)
    // These call the methods above.
    LockService.register(into: &registry, context)
    ElectionService(context, inner: registry).register(into: &registry)
    HealthService.register(into: &registry)
  }
}

/// What every service needs. A class: each call's closures take it along, which then costs one retain.
final class ServiceContext<Node: NodeHandle>: Sendable {
  let node: Node
  let settings: EtcdSettings
  let metrics: EtcdMetrics
  let supervisors = StreamSupervisors<Node>()

  init(node: Node, settings: EtcdSettings, metrics: EtcdMetrics) {
    self.node = node
    self.settings = settings
    self.metrics = metrics
  }

  func header(revision: Int64) -> EtcdResponseHeader {
    let (clusterID, memberID, term) = node.header
    var header = EtcdResponseHeader()
    header.clusterID = clusterID
    header.memberID = memberID
    header.raftTerm = term
    header.revision = revision
    return header
  }

  /// As `header`, for the answers on the hot path.
  func answerHeader(revision: Int64) -> AnswerHeader {
    let (clusterID, memberID, term) = node.header
    return AnswerHeader(clusterID: clusterID, memberID: memberID, revision: revision, term: term)
  }

  var revision: Int64 { node.read { $0.keyspace.revision } }

  /// For answers that are not tied to a revision of their own.
  func headerNow() -> EtcdResponseHeader { header(revision: revision) }

  /// A learner serves little (etcd's interceptors), and so does a member whose state is not the cluster's. A client may
  /// ask, by metadata, not to be served by a member without a leader.
  func refusal(of call: any GRPCCall, onLearners: Bool = false) -> GRPCStatus? {
    if !onLearners, node.isCorrupt { return EtcdErrors.corrupt }
    if !onLearners, node.isLearner { return EtcdErrors.notSupportedForLearner }
    guard call.hasMetadata("hasleader", "true"), node.status.leaderID == 0 else { return nil }
    return EtcdErrors.noLeader
  }

  /// etcd measures the log entry that a request makes: the request and about this much of an envelope around it.
  private static var entryEnvelopeBytes: Int { 18 }

  func checkSize(requestBytes: Int) throws(GRPCStatus) {
    if requestBytes + Self.entryEnvelopeBytes > settings.maxRequestBytes { throw EtcdErrors.requestTooLarge }
  }
}
