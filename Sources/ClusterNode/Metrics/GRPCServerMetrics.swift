import Wire

/// `grpc_server_*` under the names of go-grpc-prometheus, one set of instruments per method, all there from the start.
package final class GRPCServerMetrics: GRPCObserver {
  private struct Method: Sendable {
    let started: MetricCounter
    /// By `GRPCCode.rawValue`.
    let handled: [MetricCounter]
    let receivedMessages: MetricCounter
    let sentMessages: MetricCounter
    let handlingSeconds: MetricHistogram
  }

  /// By `GRPCMethod.index`.
  private let methods: [Method]
  private let metrics: EtcdMetrics

  /// `methods` as `GRPCRegistry.methods` lists them, when all are registered.
  package init(methods: [GRPCMethod], metrics: EtcdMetrics) {
    self.metrics = metrics
    self.methods = methods.map { Self.instruments(of: $0, in: metrics.registry) }
  }

  package func callStarted(_ method: GRPCMethod) { methods[method.index].started.add() }

  package func callFinished(_ method: GRPCMethod, _ summary: GRPCCallSummary) {
    let instruments = methods[method.index]
    instruments.handled[summary.code.rawValue].add()
    instruments.receivedMessages.add(summary.receivedMessages)
    instruments.sentMessages.add(summary.sentMessages)
    instruments.handlingSeconds.observe(nanoseconds: summary.durationNanoseconds)
  }

  package func transferred(receivedBytes: Int, sentBytes: Int) {
    metrics.clientReceivedBytes.add(receivedBytes)
    metrics.clientSentBytes.add(sentBytes)
  }

  private static func instruments(of method: GRPCMethod, in registry: MetricsRegistry) -> Method {
    let parts = method.path.split(separator: "/")
    let labels: MetricsRegistry.Labels = [
      ("grpc_type", method.kind.rawValue), ("grpc_service", String(parts[0])), ("grpc_method", String(parts[1])),
    ]
    return Method(
      started: registry.counter("grpc_server_started_total", "Calls started.", labels: labels),
      handled: GRPCCode.allCases.map { code in
        registry.counter(
          "grpc_server_handled_total", "Calls finished, by code.", labels: [("grpc_code", code.name)] + labels)
      },
      receivedMessages: registry.counter("grpc_server_msg_received_total", "Messages received.", labels: labels),
      sentMessages: registry.counter("grpc_server_msg_sent_total", "Messages sent.", labels: labels),
      handlingSeconds: registry.histogram(
        "grpc_server_handling_seconds", "Seconds from a call's headers to its end.", labels: labels))
  }
}
