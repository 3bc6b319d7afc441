import EtcdAPI
import NIOCore
import Wire

/// grpc.health.v1.Health. As etcd's: the server as a whole (the empty name) serves for as long as it runs, other names
/// are unknown.
enum HealthService {
  static func register(into registry: inout GRPCRegistry) {
    registry.unary("/grpc.health.v1.Health/Check") { message, call in
      do {
        guard let status = status(of: try HealthHealthCheckRequest(wire: message)) else {
          call.finish(GRPCStatus(.notFound, "unknown service"))
          return
        }
        call.reply(response(status).wireBuffer)
      } catch {
        call.finish(EtcdErrors.undecodable(error, streaming: false))
      }
    }
    registry.register("/grpc.health.v1.Health/Watch", kind: .serverStream) { call in HealthWatch(call) }
  }

  /// Tells the status, which never changes, and stays open until the client leaves.
  private final class HealthWatch: GRPCHandler {
    private let call: any GRPCCall

    init(_ call: any GRPCCall) { self.call = call }

    func receive(_ message: ByteBuffer) {
      do {
        let request = try HealthHealthCheckRequest(wire: message)
        call.send(response(status(of: request) ?? .serviceUnknown).wireBuffer)
      } catch {
        call.finish(EtcdErrors.undecodable(error, streaming: true))
      }
    }

    func halfClosed() {}
    func cancelled() {}
  }

  private static func status(of request: HealthHealthCheckRequest) -> HealthHealthCheckResponse.ServingStatus? {
    request.service.isEmpty ? .serving : nil
  }

  private static func response(_ status: HealthHealthCheckResponse.ServingStatus) -> HealthHealthCheckResponse {
    var response = HealthHealthCheckResponse()
    response.status = status
    return response
  }
}
