import NIOCore
import NIOHTTP1

/// Which handlers make up a connection. All functions run on the channel's event loop.
package enum WirePipeline {
  /// HTTP/2 or HTTP/1.1, decided by the first bytes.
  package static func installHTTP(on channel: any Channel, services: WireServices, peerCommonName: String? = nil) throws
  {
    let sniffer = ProtocolSniffer(acceptsLines: false, timeout: services.limits.headerTimeout) { channel, verdict in
      try install(verdict, on: channel, services: services, peerCommonName: peerCommonName)
    }
    try channel.pipeline.syncOperations.addHandler(sniffer)
  }

  /// HTTP, or the line protocol whose handlers `lines` adds, decided by the first bytes, however late they come.
  package static func installHTTPOrLines(
    on channel: any Channel, services: WireServices, lines: @escaping @Sendable (any Channel) throws -> Void
  ) throws {
    let sniffer = ProtocolSniffer(acceptsLines: true, timeout: nil) { channel, verdict in
      guard verdict != .lines else { return try lines(channel) }
      try install(verdict, on: channel, services: services, peerCommonName: nil)
    }
    try channel.pipeline.syncOperations.addHandler(sniffer)
  }

  static func install(
    _ verdict: ProtocolSniffer.Verdict, on channel: any Channel, services: WireServices, peerCommonName: String?
  ) throws {
    switch verdict {
    case .http2: try installHTTP2(on: channel, services: services, peerCommonName: peerCommonName)
    case .http1, .lines: try installHTTP1(on: channel, services: services, peerCommonName: peerCommonName)
    }
  }

  static func installHTTP2(on channel: any Channel, services: WireServices, peerCommonName: String?) throws {
    try channel.pipeline.syncOperations.addHandler(
      HTTP2Connection(eventLoop: channel.eventLoop, services: services, peerCommonName: peerCommonName))
  }

  static func installHTTP1(on channel: any Channel, services: WireServices, peerCommonName: String?) throws {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = services.limits.maxHeaderBytes
    limits.maxHeaderListSize = services.limits.maxHeaderBytes
    let decoder = HTTPRequestDecoder(
      leftOverBytesStrategy: .forwardBytes, informationalResponseStrategy: .drop, limitConfiguration: limits)
    try channel.pipeline.syncOperations.addHandlers(
      HTTPResponseEncoder(), ByteToMessageHandler(decoder), HTTPServerPipelineHandler(),
      HTTP1Handler(services: services, peerCommonName: peerCommonName))
  }
}
