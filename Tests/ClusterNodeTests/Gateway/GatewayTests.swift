import ClusterNode
import EtcdAPI
import Foundation
import Gateway
import NIOCore
import NIOEmbedded
import Synchronization
import Testing
import Wire

/// What etcd's releases 3.4.23 and 3.5.1 answer to the same requests; where they differ, 3.5.
@Suite("The JSON gateway: unary methods")
struct GatewayTests {
  let gateway = GatewayClient()

  private static let header = #""header":{"cluster_id":"42","member_id":"7","revision":"2","raft_term":"3"}"#

  private func refusal(_ text: String, _ code: Int) -> String {
    #"{"error":"\#(text)","code":\#(code),"message":"\#(text)"}"#
  }

  @Test("Names as in the .proto files, 64-bit integers as strings, bytes in base64, nothing that is zero")
  func conversion() {
    #expect(gateway.post("/v3/kv/put", #"{"key":"Zm9v","value":"YmFy"}"#) == (200, "{\(Self.header)}"))
    let found =
      #","kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}"#
    for version in ["/v3", "/v3beta", "/v3alpha"] {
      #expect(gateway.post("\(version)/kv/range", #"{"key":"Zm9v"}"#) == (200, "{" + Self.header + found))
    }
  }

  @Test("Fields are read by both names, numbers as strings too, enumerations by name and number; others are skipped")
  func reading() {
    _ = gateway.post("/v3/kv/put", #"{"key":"YQ=="}"#)
    _ = gateway.post("/v3/kv/put", #"{"key":"Yg=="}"#)
    for range in [
      #""range_end":"AA==""#, #""rangeEnd":"AA==""#, #""range_end":"AA==","limit":2"#,
      #""range_end":"AA==","limit":"2""#, #""range_end":"AA==","sort_order":"DESCEND","sort_target":"KEY""#,
      #""range_end":"AA==","sort_order":2"#, #""range_end":"AA==","none":{"a":[1,"x",null]}"#,
      #""range_end":"AA==","limit":null"#,
    ] {
      let (status, body) = gateway.post("/v3/kv/range", #"{"key":"YQ==",\#(range)}"#)
      #expect(status == 200 && body.contains(#""count":"2""#), "\(range): \(body)")
    }
    let (_, descending) = gateway.post("/v3/kv/range", #"{"key":"YQ==","range_end":"AA==","sort_order":"DESCEND"}"#)
    #expect(descending.contains(#""kvs":[{"key":"Yg==""#))
  }

  @Test("The first value of the body is the request; nothing, and null, is a request without fields")
  func bodies() {
    _ = gateway.post("/v3/kv/put", #"{"key":"Zm9v"}"#)
    for body in [
      #"{"key":"Zm9v"}trailing"#, #"{"key":"Zm9v"}{"key":"x"}"#, #"  {"key" : "Zm9v" } "#, #"{"key":"Zm9v"} null"#,
    ] {
      #expect(gateway.post("/v3/kv/range", body).1.contains(#""count":"1""#), "\(body)")
    }
    for body in ["", "  \n", "null", "{}", #"{"key":null}"#] {
      #expect(gateway.post("/v3/kv/range", body) == (400, refusal("etcdserver: key is not provided", 3)), "\(body)")
    }
  }

  @Test(
    "What is not the JSON that it should be is refused",
    arguments: [
      "{", "[]", "[1", #""x""#, "12", "true", "nonsense", #"{"key":12}"#, #"{"key":"!!!"}"#, #"{"key":}"#,
      #"{"key":"Zm9v","limit":1.5}"#, #"{"key":"Zm9v","limit":"x"}"#, #"{"key":"Zm9v","limit":true}"#,
      #"{"key":"Zm9v","limit":99999999999999999999}"#, #"{"key":"Zm9v","sort_order":"BAD"}"#,
      #"{"key":"Zm9v","serializable":"true"}"#, #"{"key":"Zm9v""#, #"{"key":"\"#, #"{"key":"Zm9v",}"#,
      "{\"key\":\"Zm9v\",\"x\":" + String(repeating: "[", count: 100_000),
    ])
  func malformed(body: String) throws {
    let (status, answer) = gateway.post("/v3/kv/range", body)
    let fields = try #require(JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any])
    #expect(status == 400 && fields["code"] as? Int == 3, "\(answer)")
    #expect(fields["error"] as? String == fields["message"] as? String)
    #expect((fields["error"] as? String)?.isEmpty == false)
  }

  @Test("However deeply it is nested, the process lives on")
  func nesting() {
    let depth = 20_000
    let arrays = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    #expect(gateway.post("/v3/kv/range", "{\"key\":\"Zm9v\",\"x\":\(arrays)}").0 == 200)
    let objects = String(repeating: "{\"x\":", count: depth) + "1" + String(repeating: "}", count: depth)
    #expect(gateway.post("/v3/kv/range", "{\"key\":\"Zm9v\",\"x\":\(objects)}").0 == 400)
    let inner = String(repeating: #"{"success":[{"request_txn":"#, count: 3_000)
    #expect(gateway.post("/v3/kv/txn", inner + "{}" + String(repeating: "}]}", count: 3_000)).0 == 400)
  }

  @Test("Refusals have their gRPC code in the body and its HTTP status")
  func refusals() {
    _ = gateway.post("/v3/kv/put", #"{"key":"Zm9v"}"#)
    _ = gateway.post("/v3/lease/grant", #"{"TTL":"100","ID":"5"}"#)
    #expect(
      gateway.post("/v3/kv/range", #"{"key":"Zm9v","revision":"100"}"#)
        == (400, refusal("etcdserver: mvcc: required revision is a future revision", 11)))
    #expect(
      gateway.post("/v3/lease/grant", #"{"TTL":"100","ID":"5"}"#)
        == (400, refusal("etcdserver: lease already exists", 9)))
    for path in ["/v3/lease/revoke", "/v3/kv/lease/revoke"] {
      #expect(gateway.post(path, #"{"ID":"77"}"#) == (404, refusal("etcdserver: requested lease not found", 5)))
    }
    gateway.client.node.change { $0.outage = .noLeader }
    #expect(gateway.post("/v3/kv/put", #"{"key":"Zm9v"}"#) == (503, refusal("etcdserver: no leader", 14)))
  }

  @Test("A request larger than a message of gRPC may be is refused with its words")
  func size() {
    let value = Data(repeating: 1, count: 70_000).base64EncodedString()
    #expect(
      gateway.post("/v3/kv/put", #"{"key":"Zm9v","value":"\#(value)"}"#)
        == (429, refusal("grpc: received message larger than max (70009 vs. 65536)", 8)))
  }

  @Test("An answer larger than the gateway converts is refused with what to do")
  func largeAnswer() throws {
    for number in 0..<30 {
      _ = try gateway.client.put {
        $0.key = bytes("k\(number)")
        $0.value = Data(repeating: UInt8(number), count: 4_000)
      }
    }
    let (status, body) = gateway.post("/v3/kv/range", #"{"key":"aw==","range_end":"bA=="}"#)
    #expect(status == 429 && body.contains("more than 100000: ask for less"), "\(status) \(body.prefix(200))")
    let part = gateway.post("/v3/kv/range", #"{"key":"aw==","range_end":"bA==","limit":"10"}"#).1
    #expect(part.contains(#""more":true,"count":"30"}"#))
  }

  @Test("A path that is not there, and a method that is not POST")
  func routes() {
    for path in ["/v3/kv/nope", "/v3/nope", "/v3/", "/v3/kv/range/", "/v3//kv/range", "/v3beta/x"] {
      #expect(gateway.post(path, "{}") == (404, refusal("Not Found", 5)), "\(path)")
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
      let peer = gateway.open("/v3/kv/range", "", method: method)
      #expect(peer.status == 405 && peer.headers.contains { $0 == ("allow", "POST") }, "\(method)")
    }
    #expect(gateway.post("/v4/kv/range", "{}").0 == 404)
  }

  @Test("Transactions with both names of a request's kind")
  func transaction() {
    let body =
      #"{"compare":[{"key":"YQ==","target":"VERSION","result":"EQUAL","version":"0"}],"#
      + #""success":[{"request_put":{"key":"YQ==","value":"MQ=="}},{"requestRange":{"key":"YQ=="}}],"#
      + #""failure":[{"request_delete_range":{"key":"YQ==","prev_kv":true}}]}"#
    let (status, first) = gateway.post("/v3/kv/txn", body)
    #expect(status == 200 && first.contains(#""succeeded":true,"responses":[{"response_put":{"header":"#))
    let (_, second) = gateway.post("/v3/kv/txn", body)
    #expect(second.contains(#""response_delete_range":{"header":{"revision":"3"},"deleted":"1","prev_kvs":[{"#))
  }

  @Test("Every path leads to a method, all of etcd's are there, and each takes an empty request")
  func paths() {
    let registered = Set(gateway.client.registry.methods.map(\.path))
    let unserved = Set(Gateway.paths.values).subtracting(registered)
    #expect(unserved.allSatisfy { $0.hasPrefix("/etcdserverpb.Auth/") }, "\(unserved)")
    #expect(Gateway.paths.count == 51)
    // These wait for something, or are made by other threads.
    let others: Set = ["/watch", "/election/observe", "/election/campaign", "/lock/lock", "/maintenance/snapshot"]
    for (path, rpc) in Gateway.paths where !others.contains(path) {
      let (status, body) = gateway.post("/v3" + path, "{}")
      #expect(status != 0 && status != 404 || body.contains("etcdserver: "), "\(path) → \(rpc): \(status) \(body)")
    }
  }

  @Test("A token, other metadata and a time-out come with headers")
  func metadata() {
    let seen = Mutex<[String?]>([])
    var registry = GRPCRegistry()
    registry.unary("/etcdserverpb.KV/Range") { _, call in
      seen.withLock { $0 += [call.metadata("token"), call.metadata("hasleader")] }
      if call.metadata("slow") == nil { call.reply(EtcdRangeResponse().wireBuffer) }
    }
    var router = HTTPRouter()
    Gateway(grpc: registry, limits: WireLimits()).register(into: &router)
    let loop = EmbeddedEventLoop()
    let ask = { (headers: [(name: String, value: String)]) in
      let peer = HTTPPeer(loop)
      router.dispatch(HTTPRequest(method: "POST", path: "/v3/kv/range", headers: headers), peer)
      loop.advanceTime(by: .seconds(2))
      return (peer.status ?? 0, peer.text)
    }
    #expect(ask([("Authorization", "abc.1"), ("Grpc-Metadata-HasLeader", "true")]) == (200, "{}"))
    #expect(ask([("authorization", "Bearer abc.2")]) == (200, "{}"))
    #expect(ask([("authorization", "abc.3"), ("grpc-metadata-token", "abc.4")]) == (200, "{}"))
    #expect(ask([]) == (200, "{}"))
    #expect(seen.withLock { $0 } == ["abc.1", "true", "abc.2", nil, "abc.4", nil, nil, nil])
    #expect(
      ask([("Grpc-Timeout", "1S"), ("Grpc-Metadata-Slow", "1")]) == (504, refusal("context deadline exceeded", 4)))
    #expect(ask([("Grpc-Timeout", "soon")]) == (400, refusal("invalid grpc-timeout: soon", 3)))
  }

  @Test("A call counts once, under its method, with its messages")
  func counting() throws {
    let client = Client()
    let metrics = client.metrics
    let observer = GRPCServerMetrics(methods: client.registry.methods, metrics: metrics)
    let gateway = GatewayClient(observer: observer)
    _ = gateway.post("/v3/lock/lock", #"{"name":"bA=="}"#)
    _ = gateway.post("/v3/lease/keepalive", #"{"ID":"5"}{"ID":"6"}"#)
    let text = metrics.registry.exposition()
    let lock = #"grpc_type="unary",grpc_service="v3lockpb.Lock",grpc_method="Lock""#
    #expect(text.contains("grpc_server_started_total{\(lock)} 1"))
    #expect(text.contains(#"grpc_service="etcdserverpb.KV",grpc_method="Txn"} 0"#))
    let keepalive = #"grpc_type="bidi_stream",grpc_service="etcdserverpb.Lease",grpc_method="LeaseKeepAlive""#
    #expect(text.contains("grpc_server_msg_received_total{\(keepalive)} 2"))
    #expect(text.contains("grpc_server_handled_total{grpc_code=\"OK\",\(keepalive)} 1"))
  }
}
