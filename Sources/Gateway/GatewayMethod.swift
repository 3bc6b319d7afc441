import EtcdAPI
import NIOCore
import SwiftProtobuf
import Wire

/// A path of the gateway and the method behind it.
struct GatewayMethod: Sendable {
  enum Shape {
    /// One request, one answer.
    case unary
    /// As unary, but the answer may take as long as it likes: the call ends when its client leaves.
    case patient
    /// One request, a stream of answers.
    case serverStream
    /// Streams both ways.
    case bidirectional
  }

  /// Below the version ("/kv/range").
  let path: String
  let rpc: String
  let shape: Shape
  /// One request as JSON, encoded for the method.
  let encodeRequest: @Sendable (ArraySlice<UInt8>) throws(GatewayRefusal) -> ByteBuffer
  /// One message of the answer as JSON; nil when it is not the message it should be.
  let answerJSON: @Sendable (ByteBuffer) -> [UInt8]?

  init<Request: Message, Response: Message>(
    _ path: String, _ rpc: String, _ request: Request.Type, _ response: Response.Type, _ shape: Shape = .unary
  ) {
    self.path = path
    self.rpc = rpc
    self.shape = shape
    encodeRequest = { json throws(GatewayRefusal) in try GatewayJSON.decode(json, as: Request.self).wireBuffer }
    answerJSON = { message in GatewayJSON.encode(message, of: Response.self) }
  }

  var isStream: Bool {
    switch shape {
    case .unary, .patient: false
    case .serverStream, .bidirectional: true
    }
  }
}
