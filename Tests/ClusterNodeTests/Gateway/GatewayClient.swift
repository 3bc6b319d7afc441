import ClusterNode
import EtcdAPI
import Foundation
import Gateway
import NIOCore
import NIOEmbedded
import Wire

/// One HTTP request, with what it was answered: whole, or line by line.
final class HTTPPeer: HTTPResponder, HTTPStream {
  let eventLoop: any EventLoop
  private(set) var status: Int?
  private(set) var headers: [(name: String, value: String)] = []
  private(set) var text = ""
  private(set) var isEnded = false
  var onAbandon: (() -> Void)?
  var onClose: (() -> Void)?
  var onWritable: (() -> Void)?
  /// What the client has not read, as the test says.
  var pendingBytes = 0
  private(set) var drainRequests = 0

  init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

  func respond(_ response: HTTPResponse) {
    precondition(status == nil, "answered twice")
    status = response.status
    headers = response.headers
    text = String(buffer: response.body)
    isEnded = true
  }

  func startStream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream {
    precondition(self.status == nil, "answered twice")
    self.status = status
    self.headers = headers
    return self
  }

  func write(_ bytes: ByteBuffer) { text += String(buffer: bytes) }
  func end() { isEnded = true }
  func notifyWhenDrained() { drainRequests += 1 }

  /// What has come since the last time, by lines.
  func takeLines() -> [String] {
    defer { text = "" }
    return text.split(separator: "\n").map(String.init)
  }
}

/// A client that speaks JSON to the services of a fake node, in one thread with them.
struct GatewayClient {
  let client: Client
  let router: HTTPRouter

  init(_ settings: EtcdSettings = EtcdSettings(), observer: (any GRPCObserver)? = nil) {
    client = Client(settings)
    var router = HTTPRouter()
    var limits = WireLimits()
    limits.maxMessageBytes = 1 << 16
    limits.maxGatewayAnswerBytes = 100_000
    Gateway(grpc: client.registry, observer: observer, limits: limits).register(into: &router)
    self.router = router
  }

  /// Sends a request and lets the node work until nothing is left to do.
  func open(
    _ path: String, _ body: String, method: String = "POST", headers: [(name: String, value: String)] = []
  ) -> HTTPPeer {
    let peer = HTTPPeer(client.loop)
    router.dispatch(HTTPRequest(method: method, path: path, headers: headers, body: ByteBuffer(string: body)), peer)
    client.loop.run()
    return peer
  }

  func post(_ path: String, _ body: String, headers: [(name: String, value: String)] = []) -> (Int, String) {
    let peer = open(path, body, headers: headers)
    return (peer.status ?? 0, peer.text)
  }
}

func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
