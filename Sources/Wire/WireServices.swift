/// What a listener serves: the same services may stand behind several listeners.
package struct WireServices: Sendable {
  /// Nil on a listener that speaks plain HTTP only (metrics, the sidecar's socket).
  package var grpc: GRPCRegistry?
  package var http: HTTPRouter
  package var observer: (any GRPCObserver)?
  package var limits: WireLimits

  package init(
    grpc: GRPCRegistry? = nil, http: HTTPRouter = HTTPRouter(), observer: (any GRPCObserver)? = nil,
    limits: WireLimits = WireLimits()
  ) {
    self.grpc = grpc
    self.http = http
    self.observer = observer
    self.limits = limits
  }
}
