import ClusterNode
import NIOCore
import NIOEmbedded
import StateMachine
import Testing
import Wire

@Suite("Health, version and metrics over HTTP")
struct HTTPEndpointTests {
  final class Responder: HTTPResponder {
    let eventLoop: any EventLoop
    private(set) var response: HTTPResponse?

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func respond(_ response: HTTPResponse) { self.response = response }

    func startStream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream {
      fatalError("no endpoint here streams")
    }
  }

  let node = FakeNode()
  let metrics = EtcdMetrics()
  let loop = EmbeddedEventLoop()
  let router: HTTPRouter

  init() {
    var router = HTTPRouter()
    EtcdHTTP.register(into: &router, node: node, settings: EtcdSettings(), metrics: metrics)
    self.router = router
  }

  func get(_ path: String, query: String = "", method: String = "GET") throws -> (status: Int, body: String) {
    let responder = Responder(loop)
    router.dispatch(HTTPRequest(method: method, path: path, query: query), responder)
    loop.run()
    let response = try #require(responder.response)
    return (response.status, String(buffer: response.body))
  }

  @Test("A member with a leader is healthy")
  func healthy() throws {
    #expect(try get("/health") == (200, #"{"health":"true","reason":""}"#))
    #expect(try get("/livez") == (200, "ok\n"))
    #expect(try get("/readyz") == (200, "ok\n"))
    #expect(try get("/readyz/linearizable_read", query: "verbose") == (200, "[+]linearizable_read ok\nok\n"))
  }

  @Test("An alarm makes it unhealthy unless it is excluded; a corrupt member is not ready")
  func alarms() throws {
    node.propose([.alarm(.activate, Alarm(memberID: 7, kind: .noSpace))]) { _ in }
    #expect(try get("/health") == (503, #"{"health":"false","reason":"ALARM NOSPACE"}"#))
    #expect(try get("/health", query: "exclude=NOSPACE").status == 200)
    #expect(try get("/readyz").status == 200)
    node.propose([.alarm(.activate, Alarm(memberID: 8, kind: .corrupt))]) { _ in }
    #expect(try get("/health", query: "exclude=NOSPACE").body.contains("ALARM CORRUPT"))
    #expect(try get("/health", query: "exclude=NOSPACE&exclude=CORRUPT").status == 200)
    let ready = try get("/readyz")
    #expect(ready.status == 503 && ready.body.contains("[-]data_corruption failed: alarm activated: CORRUPT"))
  }

  @Test("Without a leader, or when a read fails, it says why; its own state can still be read")
  func unhealthy() throws {
    node.change { $0.outage = .timedOut }
    #expect(try get("/health") == (503, #"{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}"#))
    let ready = try get("/readyz")
    #expect(ready.status == 503 && ready.body.contains("[-]linearizable_read failed: etcdserver: request timed out"))
    node.change { $0.leaderID = 0 }
    #expect(try get("/health") == (503, #"{"health":"false","reason":"RAFT NO LEADER"}"#))
    #expect(try get("/health", query: "serializable=true").status == 200)
    #expect(try get("/livez").status == 200)
  }

  @Test("Each check stands by itself, can be left out, and is listed on demand")
  func checks() throws {
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    #expect(try get("/readyz", query: "verbose") == (200, all))
    #expect(try get("/livez", query: "verbose=") == (200, "[+]serializable_read ok\nok\n"))
    for check in ["data_corruption", "serializable_read", "linearizable_read", "non_learner"] {
      #expect(try get("/readyz/\(check)") == (200, "ok\n"))
    }
    #expect(try get("/livez/serializable_read").status == 200)
    #expect(try get("/livez/linearizable_read").status == 404)
    node.change { $0.outage = .timedOut }
    let failed = "[-]linearizable_read failed: etcdserver: request timed out\n"
    #expect(try get("/readyz/linearizable_read") == (503, failed))
    #expect(try get("/readyz", query: "exclude=linearizable_read&exclude=none") == (200, "ok\n"))
  }

  @Test("A learner lives but is not ready")
  func learner() throws {
    node.change { $0.reportsLearner = true }
    #expect(try get("/livez").status == 200)
    let ready = try get("/readyz")
    #expect(ready.status == 503 && ready.body.contains("[-]non_learner failed: not supported for learner\n"))
  }

  @Test("The version, and methods that are not served")
  func version() throws {
    #expect(try get("/version") == (200, #"{"etcdserver":"3.5.21","etcdcluster":"3.5.0"}"#))
    #expect(try get("/health", method: "POST").status == 405)
  }

  @Test("Metrics stand under etcd's names, each family once")
  func exposition() throws {
    metrics.walFsync.observe(0.003)
    metrics.puts.add(5)
    let body = try get("/metrics").body
    for line in [
      "etcd_server_has_leader 1", "etcd_server_is_leader 1", "etcd_mvcc_put_total 5",
      "etcd_debugging_mvcc_current_revision 1",
      "etcd_server_version{server_version=\"3.5.21\"} 1", "etcd_disk_wal_fsync_duration_seconds_count 1",
      "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 0",
      "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"} 1",
      "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 1",
    ] {
      #expect(body.contains("\n\(line)\n"), "\(line)")
    }
    #expect(body.contains("process_resident_memory_bytes "))
    let families = body.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
    #expect(Set(families).count == families.count)
  }

  @Test("Calls are counted by method and code, from zero on")
  func calls() throws {
    var registry = GRPCRegistry()
    EtcdServices.register(into: &registry, node: node, settings: EtcdSettings(), metrics: metrics)
    let observer = GRPCServerMetrics(methods: registry.methods, metrics: metrics)
    let put = try #require(registry.methods.first { $0.path == "/etcdserverpb.KV/Put" })
    observer.callStarted(put)
    observer.callFinished(put, GRPCCallSummary(.resourceExhausted, durationNanoseconds: 2_000_000))
    observer.transferred(receivedBytes: 10, sentBytes: 4)
    let labels = #"grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put""#
    let body = try get("/metrics").body
    #expect(body.contains("\ngrpc_server_started_total{\(labels)} 1\n"))
    #expect(body.contains("\ngrpc_server_handled_total{grpc_code=\"ResourceExhausted\",\(labels)} 1\n"))
    #expect(body.contains("\ngrpc_server_handled_total{grpc_code=\"OK\",\(labels)} 0\n"))
    #expect(body.contains("\ngrpc_server_handling_seconds_bucket{\(labels),le=\"0.005\"} 1\n"))
    #expect(body.contains("\netcd_network_client_grpc_received_bytes_total 10\n"))
  }
}
