import ArgumentParser
import NIOCore
import NIOHTTP1
import NIOPosix
import Settings

/// Where the sidecar's HTTP API is, for the commands an operator types.
struct APIOptions: ParsableArguments {
  @Option(help: "The sidecar's HTTP API: host:port or unix:/path.")
  var api: String = "127.0.0.1:7379"

  func client() throws -> SidecarClient { SidecarClient(address: try NodeSettings.Sidecar.api(api)) }
}

/// One HTTP/1.1 request per connection: all that a command needs.
struct SidecarClient {
  struct Answer: Sendable {
    var status: Int
    var body: String
  }

  let address: NodeSettings.Sidecar.API

  /// Sends one request and waits for the whole answer. Throws `CommandFailure` when nobody listens.
  func send(_ method: HTTPMethod, _ path: String, body: String = "") async throws -> Answer {
    let promise = MultiThreadedEventLoopGroup.singleton.any().makePromise(of: Answer.self)
    let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHTTPClientHandlers()
        try channel.pipeline.syncOperations.addHandler(AnswerHandler(promise))
      }
    }
    let channel: any Channel
    do {
      channel =
        switch address {
        case .tcp(let host, let port): try await bootstrap.connect(host: host, port: port).get()
        case .unix(let path): try await bootstrap.connect(unixDomainSocketPath: path).get()
        }
    } catch {
      let failure = CommandFailure("no sidecar answers at \(shown): is it running, and is --api right?")
      promise.fail(failure)
      throw failure
    }
    var head = HTTPRequestHead(version: .http1_1, method: method, uri: path)
    head.headers.add(name: "host", value: "leasehold")
    head.headers.add(name: "connection", value: "close")
    head.headers.add(name: "content-length", value: String(body.utf8.count))
    channel.write(HTTPClientRequestPart.head(head), promise: nil)
    if !body.isEmpty {
      channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(string: body))), promise: nil)
    }
    channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
    return try await promise.futureResult.get()
  }

  /// As `send`, but an answer of 400 and above is the command's failure.
  func succeed(_ method: HTTPMethod, _ path: String, body: String = "") async throws -> Answer {
    let answer = try await send(method, path, body: body)
    guard answer.status < 400 else {
      throw CommandFailure("the sidecar answers \(answer.status): \(answer.body.trimmingSuffix())")
    }
    return answer
  }

  private var shown: String {
    switch address {
    case .tcp(let host, let port): "\(host):\(port)"
    case .unix(let path): "unix:\(path)"
    }
  }

  private final class AnswerHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private var status = 0
    private var body = ByteBuffer()
    private var promise: EventLoopPromise<Answer>?

    init(_ promise: EventLoopPromise<Answer>) { self.promise = promise }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head): status = Int(head.status.code)
      case .body(var part): body.writeBuffer(&part)
      case .end:
        promise?.succeed(Answer(status: status, body: String(buffer: body)))
        promise = nil
        context.close(promise: nil)
      }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      promise?.fail(error)
      promise = nil
      context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
      promise?.fail(CommandFailure("the sidecar closed the connection before it had answered"))
      promise = nil
    }
  }
}

extension String {
  fileprivate func trimmingSuffix() -> String {
    var text = self[...]
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }

  /// Percent-encoded for a path: everything but RFC 3986's unreserved characters and the slash.
  var percentEncodedPath: String {
    var encoded = ""
    for byte in utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"), UInt8(ascii: "/"):
        encoded.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        encoded += "%" + (digits.count == 1 ? "0" : "") + digits
      }
    }
    return encoded
  }
}
