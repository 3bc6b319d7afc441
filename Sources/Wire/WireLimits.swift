import NIOCore

/// What a server grants its peers. The defaults are the product's; tests pass smaller ones.
package struct WireLimits: Sendable {
  // HTTP/2
  /// Streams that one connection may have open.
  package var maxConcurrentStreams: UInt32 = 1_000
  /// Flow-control windows for request bytes.
  package var streamWindowBytes: Int32 = 1 << 20
  package var connectionWindowBytes: Int32 = 16 << 20
  /// Bytes of unfinished requests that one connection may have us hold; the stream that goes beyond is refused.
  package var maxBufferedRequestBytes = 64 << 20
  /// Silence after which the server sends a PING (etcd's `--grpc-keepalive-interval`; nil: never), and how long its
  /// answer may take (`--grpc-keepalive-timeout`).
  package var keepaliveInterval: TimeAmount? = .hours(2)
  package var keepaliveTimeout: TimeAmount = .seconds(20)
  /// The least time between two PINGs of a client that has calls open (`--grpc-keepalive-min-time`; 0: none).
  package var keepaliveMinimum: TimeAmount = .seconds(5)

  // gRPC
  /// The largest message received: etcd's request limit and its envelope.
  package var maxMessageBytes = 1_572_864 + Self.grpcOverheadBytes
  /// etcd lets a message exceed the largest request by this much.
  package static let grpcOverheadBytes = 512 * 1024

  // HTTP
  /// Names and values of one request's headers.
  package var maxHeaderBytes = 16 * 1024
  package var maxBodyBytes = 8 * 1024 * 1024
  /// The largest message of an answer that the JSON gateway converts, which it does as a whole.
  package var maxGatewayAnswerBytes = 64 * 1024 * 1024
  /// What all its large answers may take at once, until their clients have them.
  package var maxGatewayBacklogBytes = 512 * 1024 * 1024
  /// From the opening of a connection to the end of its first request's headers.
  package var headerTimeout: TimeAmount = .seconds(10)
  /// From one answer to the end of the next request's headers.
  package var idleTimeout: TimeAmount = .seconds(120)
  /// Silence within a request body, and the time for the whole of it.
  package var bodyIdleTimeout: TimeAmount = .seconds(30)
  package var bodyTimeout: TimeAmount = .minutes(5)

  /// Connections that a server keeps open, on all its listeners together; those beyond are closed at once.
  package var maxConnections = Int.max

  // Back-pressure
  /// A stream that has gone above the high mark is told when it has fallen below the low one.
  package var streamHighWaterBytes = 512 * 1024
  package var streamLowWaterBytes = 128 * 1024
  /// Bytes handed to one socket beyond which nothing more is taken from the streams.
  package var socketHighWaterBytes = 256 * 1024
  package var socketLowWaterBytes = 64 * 1024

  /// What is made of large messages in one turn of an event loop, for each connection.
  package var madeBytesPerTurn = 256 * 1024
  /// A stream whose peer takes nothing of a large message for this long is reset.
  package var largeMessageStallTimeout: TimeAmount = .seconds(60)
  /// Bytes that the kernel takes of one TCP connection before it has sent them. Without this limit it gathers some
  /// megabytes for each peer that does not read.
  package var socketUnsentBytes: Int32 = 128 * 1024

  // TLS
  package var handshakeTimeout: TimeAmount = .seconds(10)

  package init() {}
}
