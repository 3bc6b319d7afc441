import NIOCore
import Wire

/// One request in JSON to a method with one answer. Holds itself while its call goes on.
final class UnaryExchange: LocalCaller {
  private let method: GatewayMethod
  private let output: any GatewayOutput
  private let makeCall: (any LocalCaller) -> LocalCall
  private var call: LocalCall?
  private var message: ByteBuffer?
  private var isStarted = false

  init(
    _ method: GatewayMethod, _ output: any GatewayOutput, makeCall: @escaping (any LocalCaller) -> LocalCall
  ) {
    self.method = method
    self.output = output
    self.makeCall = makeCall
  }

  /// The first value of the body is the request; what follows it is nobody's.
  func start(_ body: ByteBuffer) {
    guard !isStarted else { return }
    isStarted = true
    let method = method
    GatewayWork.run(bytes: body.readableBytes, on: output.eventLoop) {
      Result { () throws(GatewayRefusal) in
        var values = JSONValues(Array(body.readableBytesView))
        return try method.encodeRequest(try values.next() ?? [])
      }
    } then: {
      self.send($0)
    }
  }

  private func send(_ request: Result<ByteBuffer, GatewayRefusal>) {
    switch request {
    case .failure(let refusal): output.refuse(.invalidArgument, refusal.text)
    case .success(let message):
      let call = makeCall(self)
      self.call = call
      output.onLeave = { self.leave() }
      call.send(request: message)
      call.end()
    }
  }

  /// The answer is still due, to whoever has closed only one side.
  private func leave() {
    call?.cancel()
    call = nil
    output.refuse(.cancelled, "context canceled")
  }

  func received(_ message: ByteBuffer) { self.message = message }

  func finished(_ status: GRPCStatus) {
    call = nil
    guard status == .ok, let message else {
      return output.refuse(status == .ok ? GRPCStatus(.internal, "the method has sent no answer") : status)
    }
    self.message = nil
    let method = method
    GatewayWork.run(bytes: message.readableBytes, on: output.eventLoop) {
      method.answerJSON(message).map { ByteBuffer(bytes: $0) }
    } then: { json in
      guard let json else { return self.output.refuse(.internal, "the answer cannot be decoded") }
      self.output.answer(200, json)
    }
  }
}
