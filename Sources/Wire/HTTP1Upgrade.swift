import NIOCore
import NIOHTTP1
import NIOWebSocket

extension HTTP1Handler {
  /// Answers 101 and puts a WebSocket's handlers in the place of HTTP's. The decoder has stopped behind the request; it
  /// hands what has come since to its successor.
  func upgrade(
    _ exchange: HTTP1Exchange, _ request: HTTPRequest, subprotocol: String?, _ ready: @escaping (WebSocket) -> Void
  ) {
    guard let context else { return }
    // Computes the handshake's answer; its own way of changing the handlers is not ours.
    let handshake = NIOWebSocketServerUpgrader(
      shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture([:]) },
      upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() })
    handshake.buildUpgradeResponse(
      channel: context.channel, upgradeRequest: Self.head(of: request), initialResponseHeaders: [:]
    ).assumeIsolatedUnsafeUnchecked().whenComplete { [self] outcome in
      guard let context = self.context else { return }
      switch outcome {
      case .failure: exchange.respond(.problem(400, "not a WebSocket's handshake"))
      case .success(var headers):
        headers.add(name: "connection", value: "upgrade")
        headers.add(name: "upgrade", value: "websocket")
        if let subprotocol { headers.add(name: "sec-websocket-protocol", value: headerSafe(subprotocol)) }
        exchange.leaveToWebSocket()
        do {
          ready(try change(context, headers))
        } catch {
          context.close(promise: nil)
        }
      }
    }
  }

  private static func head(of request: HTTPRequest) -> HTTPRequestHead {
    HTTPRequestHead(
      version: .http1_1, method: HTTPMethod(rawValue: request.method), uri: request.path,
      headers: HTTPHeaders(request.headers.map { ($0.name, $0.value) }))
  }

  private func change(_ context: ChannelHandlerContext, _ headers: HTTPHeaders) throws -> WebSocket {
    let pipeline = context.pipeline.syncOperations
    let decoder = try pipeline.context(handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self)
    let queue = try pipeline.context(handlerType: HTTPServerPipelineHandler.self)
    let encoder = try pipeline.context(handlerType: HTTPResponseEncoder.self)
    let head = HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers)
    context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
    leave()
    let socket = WebSocket(limits: services.limits, eventLoop: context.eventLoop)
    try pipeline.addHandlers([
      WebSocketFrameEncoder(),
      ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: services.limits.maxBodyBytes)),
      socket,
    ])
    pipeline.removeHandler(context: encoder, promise: nil)
    pipeline.removeHandler(context: queue, promise: nil)
    pipeline.removeHandler(context: context, promise: nil)
    pipeline.removeHandler(context: decoder, promise: nil)
    return socket
  }
}
