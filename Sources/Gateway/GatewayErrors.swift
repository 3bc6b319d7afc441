import NIOCore
import Wire

/// Errors as bodies that the clients of both generations of grpc-gateway read.
enum GatewayErrors {
  /// `error` is where the first generation's clients look, `message` the second's; `code` is gRPC's number.
  static func body(_ status: GRPCStatus) -> ByteBuffer {
    let text = jsonQuoted(status.message)
    return ByteBuffer(string: "{\"error\":\(text),\"code\":\(status.code.rawValue),\"message\":\(text)}")
  }

  /// The last line of a stream that has failed.
  static func line(_ status: GRPCStatus) -> ByteBuffer {
    var text = "{\"error\":{\"grpc_code\":\(status.code.rawValue),\"http_code\":\(status.code.httpStatus)"
    text += ",\"message\":\(jsonQuoted(status.message))"
    text += ",\"http_status\":\(jsonQuoted(httpReason(status.code.httpStatus)))}}\n"
    return ByteBuffer(string: text)
  }
}

extension GatewayOutput {
  func refuse(_ status: GRPCStatus) { answer(status.code.httpStatus, GatewayErrors.body(status)) }

  func refuse(_ code: GRPCCode, _ text: String) { refuse(GRPCStatus(code, text)) }
}
