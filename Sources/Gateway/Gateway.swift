import NIOCore
import Wire

/// etcd's JSON gateway: HTTP paths whose requests and answers are the gRPC methods' messages as JSON. Each request becomes
/// a call of the registry's method, so that checks, limits and counters are those of gRPC.
package struct Gateway: Sendable {
  /// All of etcd's releases at once.
  private static let versions = ["/v3", "/v3beta", "/v3alpha"]

  private let grpc: GRPCRegistry
  private let observer: (any GRPCObserver)?
  private let limits: WireLimits
  private let budget: AnswerBudget

  /// - Parameter limits: Those of the listener, whose HTTP requests come here.
  package init(grpc: GRPCRegistry, observer: (any GRPCObserver)? = nil, limits: WireLimits) {
    self.grpc = grpc
    self.observer = observer
    self.limits = limits
    budget = AnswerBudget(limit: limits.maxGatewayBacklogBytes)
  }

  /// The methods behind the paths, for the reader of a list.
  package static var paths: [String: String] { GatewayTable.methods.mapValues(\.rpc) }

  package func register(into router: inout HTTPRouter) {
    for version in Self.versions {
      for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        router.onPrefix(method, version + "/") { request, responder in
          let path = request.path.dropFirst(version.count)
          handle(request, GatewayTable.methods[String(path)], responder)
        }
      }
    }
  }

  private func handle(_ request: HTTPRequest, _ method: GatewayMethod?, _ responder: any HTTPResponder) {
    guard let method else { return responder.respond(.gatewayRefusal(404, GRPCStatus(.notFound, "Not Found"))) }
    if request.method == "GET", request.header("upgrade")?.lowercased() == "websocket" {
      return openSocket(request, method, responder)
    }
    guard request.method == "POST" else {
      var refusal = HTTPResponse.gatewayRefusal(405, GRPCStatus(.unimplemented, "Method Not Allowed"))
      refusal.headers.append(("allow", "POST"))
      return responder.respond(refusal)
    }
    let output = HTTPOutput(
      responder, isPatient: method.isStream || method.shape == .patient, stallTimeout: limits.largeMessageStallTimeout)
    guard let call = caller(request, method, output) else { return }
    if method.isStream {
      let exchange = StreamExchange(method, output, makeCall: call)
      exchange.receive(request.body)
      exchange.endOfRequests()
    } else {
      UnaryExchange(method, output, budget, makeCall: call).start(request.body)
    }
  }

  /// Each message is a request, or several; the token comes as a subprotocol, because browsers let a page set no other
  /// header here.
  private func openSocket(_ request: HTTPRequest, _ method: GatewayMethod, _ responder: any HTTPResponder) {
    let token = GatewayMetadata.token(ofSubprotocol: request.header("sec-websocket-protocol"))
    var request = request
    if let token { request.headers.insert(("authorization", token), at: 0) }
    responder.openWebSocket(request, subprotocol: token == nil ? nil : "Bearer") { [request] socket in
      let output = SocketOutput(socket)
      guard let call = caller(request, method, output) else { return }
      if method.isStream {
        let exchange = StreamExchange(method, output, makeCall: call)
        socket.onMessage = { exchange.receive($0) }
      } else {
        let exchange = UnaryExchange(method, output, budget, makeCall: call)
        socket.onMessage = { exchange.start($0) }
      }
    }
  }

  /// What makes the request's call; nil when its headers have been refused.
  private func caller(
    _ request: HTTPRequest, _ method: GatewayMethod, _ output: any GatewayOutput
  ) -> ((any LocalCaller) -> LocalCall)? {
    var timeout: TimeAmount?
    if let text = request.header("grpc-timeout") {
      timeout = Array(text.utf8).withUnsafeBytes { grpcTimeout($0) }
      guard timeout != nil else {
        output.refuse(.invalidArgument, "invalid grpc-timeout: \(text)")
        return nil
      }
    }
    // Without the certificate's name: as in etcd, that is a user only by gRPC.
    var context = LocalCall.Context(metadata: GatewayMetadata.metadata(of: request), observer: observer)
    context.maxMessageBytes = limits.maxMessageBytes
    context.maxAnswerBytes = limits.maxGatewayAnswerBytes
    let (rpc, grpc, loop) = (method.rpc, grpc, output.eventLoop)
    return { [context] caller in LocalCall(rpc, of: grpc, context, on: loop, timeout: timeout, caller: caller) }
  }
}

extension HTTPResponse {
  fileprivate static func gatewayRefusal(_ httpStatus: Int, _ status: GRPCStatus) -> HTTPResponse {
    HTTPResponse(status: httpStatus, contentType: "application/json", body: GatewayErrors.body(status))
  }
}
