/// Why a listener could not be opened or its TLS material not be used. Each reads as one line.
package enum WireError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Another process listens there ("127.0.0.1:2379", or a socket's path).
  case addressInUse(String)
  case cannotListen(String, reason: String)
  /// A file that is not a socket lies where a socket should be.
  case notASocket(String)
  case socketPathTooLong(String, maxBytes: Int)
  case tls(String)
  case stopped
  /// More than the server may have open.
  case tooManyConnections(Int)

  package var description: String {
    switch self {
    case .addressInUse(let address): "cannot listen on \(address): the address is already in use"
    case .cannotListen(let address, let reason): "cannot listen on \(address): \(reason)"
    case .notASocket(let path): "cannot listen on \(path): there is a file that is not a socket"
    case .socketPathTooLong(let path, let maxBytes):
      "cannot listen on \(path): the path of a Unix socket has at most \(maxBytes) bytes"
    case .tls(let reason): "TLS: \(reason)"
    case .stopped: "the server has been stopped"
    case .tooManyConnections(let limit): "there are \(limit) connections already, as many as there may be"
    }
  }
}
