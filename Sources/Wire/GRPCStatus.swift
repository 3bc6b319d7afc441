/// gRPC status codes by their numbers on the wire.
package enum GRPCCode: Int, Sendable, CaseIterable {
  case ok = 0, cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists, permissionDenied
  case resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented, `internal`, unavailable, dataLoss
  case unauthenticated

  /// The name that grpc-go prints and that Prometheus labels (`grpc_code`) carry.
  package var name: String {
    switch self {
    case .ok: "OK"
    case .cancelled: "Canceled"
    case .unknown: "Unknown"
    case .invalidArgument: "InvalidArgument"
    case .deadlineExceeded: "DeadlineExceeded"
    case .notFound: "NotFound"
    case .alreadyExists: "AlreadyExists"
    case .permissionDenied: "PermissionDenied"
    case .resourceExhausted: "ResourceExhausted"
    case .failedPrecondition: "FailedPrecondition"
    case .aborted: "Aborted"
    case .outOfRange: "OutOfRange"
    case .unimplemented: "Unimplemented"
    case .internal: "Internal"
    case .unavailable: "Unavailable"
    case .dataLoss: "DataLoss"
    case .unauthenticated: "Unauthenticated"
    }
  }

  /// What an HTTP/JSON gateway answers for this code (the mapping of grpc-gateway).
  package var httpStatus: Int {
    switch self {
    case .ok: 200
    case .cancelled: 499
    case .invalidArgument, .failedPrecondition, .outOfRange: 400
    case .deadlineExceeded: 504
    case .notFound: 404
    case .alreadyExists, .aborted: 409
    case .permissionDenied: 403
    case .unauthenticated: 401
    case .resourceExhausted: 429
    case .unimplemented: 501
    case .unavailable: 503
    case .unknown, .internal, .dataLoss: 500
    }
  }
}

/// How a call ends: the code, and the text that clients match literally.
package struct GRPCStatus: Error, Hashable, Sendable {
  package var code: GRPCCode
  package var message: String

  package init(_ code: GRPCCode, _ message: String) {
    self.code = code
    self.message = message
  }

  package static let ok = GRPCStatus(.ok, "")
}

extension GRPCStatus {
  /// The message as the `grpc-message` trailer carries it: UTF-8 with everything but printable ASCII, and the percent
  /// sign itself, percent-encoded (gRPC over HTTP/2, "Responses").
  package var encodedMessage: [UInt8] {
    let hex: StaticString = "0123456789ABCDEF"
    var encoded: [UInt8] = []
    encoded.reserveCapacity(message.utf8.count)
    for byte in message.utf8 {
      if byte >= 0x20, byte <= 0x7e, byte != UInt8(ascii: "%") {
        encoded.append(byte)
      } else {
        encoded.append(UInt8(ascii: "%"))
        encoded.append(hex.utf8Start[Int(byte >> 4)])
        encoded.append(hex.utf8Start[Int(byte & 15)])
      }
    }
    return encoded
  }
}
