import ClusterNode
import EtcdAPI
import Gateway
import NIOCore
import Primitives
import Testing
import Wire

/// Whatever arrives as JSON on whatever path, it is answered with JSON and the process lives on.
@Suite("JSON requests of random bytes")
struct GatewayFuzzTests {
  /// Good requests to start from, so that mutations reach deep.
  private static let samples: [(path: String, body: String)] = [
    (
      "/kv/range",
      #"{"key":"YQ==","range_end":"eg==","limit":"10","sort_order":"DESCEND","sort_target":"VALUE","max_mod_revision":9}"#
    ),
    ("/kv/put", #"{"key":"a2V5","value":"dmFsdWU=","lease":"300","prev_kv":true}"#),
    ("/kv/deleterange", #"{"key":"YQ==","rangeEnd":"eg==","prevKv":false}"#),
    (
      "/kv/txn",
      #"{"compare":[{"key":"YQ==","target":"CREATE","result":"GREATER","create_revision":"3"},{"value":"AA=="}],"#
        + #""success":[{"request_put":{"key":"YQ=="}},{"request_txn":{"failure":[{"requestRange":{"key":"Yg=="}}]}}]}"#
    ),
    ("/kv/compaction", #"{"revision":"2","physical":true}"#),
    ("/watch", #"{"create_request":{"key":"YQ==","filters":["NOPUT",1],"watch_id":"5","fragment":true}}{}"#),
    ("/watch", #"{"create_request":{"start_revision":1}}{"progress_request":{}}{"cancel_request":{"watch_id":"0"}}"#),
    ("/lease/grant", #"{"TTL":"300","ID":9}"#),
    ("/lease/keepalive", #"{"ID":"9"} {"ID":10}"#),
    ("/kv/lease/timetolive", #"{"ID":"9","keys":true}"#),
    ("/cluster/member/add", #"{"peerURLs":["http://a:1","http://b:2"],"isLearner":true}"#),
    ("/cluster/member/list", #"{"linearizable":true}"#),
    ("/maintenance/alarm", #"{"action":"GET","memberID":"7","alarm":"NOSPACE"}"#),
    ("/maintenance/downgrade", #"{"action":"VALIDATE","version":"3.4.0"}"#),
    ("/lock/lock", #"{"name":"bG9jaw==","lease":"9"}"#),
    ("/election/campaign", #"{"name":"ZQ==","value":"dg==","lease":"9"}"#),
    ("/election/proclaim", #"{"leader":{"name":"ZQ==","key":"ZS85","rev":"3","lease":"9"},"value":"dg=="}"#),
    ("/election/observe", #"{"name":"ZQ=="}"#),
  ]

  /// Pieces that JSON is made of.
  private static let pieces = [
    "{", "}", "[", "]", "\"", ":", ",", "null", "true", "1e999", "-", "\\", "\\u0000", "\\ud800", "{}", "[]", "\u{0}",
    "\"key\":", "99999999999999999999", "-1", "0.5", "//", "AA==", "=", "é",
  ]

  private static func mutated(_ text: String, _ random: inout SeededGenerator) -> [UInt8] {
    var bytes = Array(text.utf8)
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let place = Int.random(in: 0...bytes.count, using: &random)
      switch Int.random(in: 0..<5, using: &random) {
      case 0 where place < bytes.count: bytes[place] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
      case 1 where place < bytes.count: bytes.remove(at: place)
      case 2: bytes.insert(contentsOf: pieces.randomElement(using: &random)!.utf8, at: place)
      case 3: bytes.removeLast(Int.random(in: 0...min(6, bytes.count), using: &random))
      default:
        let end = min(bytes.count, place + Int.random(in: 0...20, using: &random))
        bytes.insert(contentsOf: bytes[place..<end], at: place)
      }
    }
    return bytes
  }

  @Test("Mutated requests never crash; each is answered, or goes on as a stream, and leaves nothing behind")
  func mutations() {
    var random = SeededGenerator(seed: 11)
    let gateway = GatewayClient()
    var statuses: [Int: Int] = [:]
    for round in 0..<8_000 {
      let sample = Self.samples[round % Self.samples.count]
      let peer = HTTPPeer(gateway.client.loop)
      let body = ByteBuffer(bytes: Self.mutated(sample.body, &random))
      gateway.router.dispatch(HTTPRequest(method: "POST", path: "/v3" + sample.path, body: body), peer)
      gateway.client.loop.run()
      statuses[peer.status ?? 0, default: 0] += 1
      if let status = peer.status, status != 200 { #expect(peer.text.hasPrefix(#"{"error":"#), "\(peer.text)") }
      if !peer.isEnded {
        if peer.status == nil { peer.onAbandon?() } else { peer.onClose?() }
        gateway.client.loop.run()
      }
    }
    #expect(statuses[200, default: 0] > 1_000 && statuses[400, default: 0] > 1_000, "\(statuses)")
    #expect(gateway.client.metrics.watchers.value == 0 && gateway.client.metrics.watchStreams.value == 0)
  }
}
