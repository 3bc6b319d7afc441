import NIOCore

extension GRPCRegistry {
  /// What handles a call outside of a server (tests, a gateway that makes calls of its own); nil when the path is not
  /// registered.
  package func handler(for call: any GRPCCall) -> (any GRPCHandler)? {
    switch route(call.path)?.implementation {
    case .streaming(let make): make(call)
    case .unary(let answer): UnaryHandler(call, answer)
    case nil: nil
    }
  }
}

/// Hands the one message of a unary call to its method.
private final class UnaryHandler: GRPCHandler {
  private let call: any GRPCCall
  private let answer: GRPCRegistry.UnaryAnswer
  private var received = false

  init(_ call: any GRPCCall, _ answer: @escaping GRPCRegistry.UnaryAnswer) {
    self.call = call
    self.answer = answer
  }

  func receive(_ message: ByteBuffer) {
    guard !received else { return }
    received = true
    answer(message, call)
  }

  func halfClosed() {
    if !received { call.finish(GRPCStatus(.internal, "the call ended without a request")) }
  }

  func cancelled() {}
}

extension GRPCCallSummary {
  /// Of a call that moved nothing yet.
  package init(_ code: GRPCCode, durationNanoseconds: Int64) {
    self.init(
      code: code, receivedMessages: 0, receivedBytes: 0, sentMessages: 0, sentBytes: 0,
      durationNanoseconds: durationNanoseconds)
  }
}
