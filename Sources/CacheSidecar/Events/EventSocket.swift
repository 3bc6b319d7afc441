import NIOCore
import Wire

/// The event socket: HTTP and lines on one Unix socket, told apart by the first bytes.
package enum EventSocket {
  package static let defaultName = "events.sock"

  /// Who may open the file may subscribe: owner and group (mode 0660) unless said otherwise.
  @discardableResult
  package static func listen(
    _ hub: EventHub, on server: WireServer, path: String, mode: UInt16 = 0o660
  ) async throws -> WireServer.Listener {
    var router = HTTPRouter()
    EventHTTP.register(hub, on: &router)
    return try await server.listenUnix(path: path, mode: mode, services: WireServices(http: router)) { channel in
      try installLines(hub, on: channel)
    }
  }

  /// The line form alone, at the end of a channel's pipeline, on its event loop.
  package static func installLines(_ hub: EventHub, on channel: any Channel) throws {
    // Lines are read as fast as they are worked off.
    try channel.syncOptions?.setOption(ChannelOptions.autoRead, value: false)
    try channel.pipeline.syncOperations.addHandler(EventLineHandler(hub: hub))
  }
}
