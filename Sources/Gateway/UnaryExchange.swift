import NIOCore
import Wire

/// One request in JSON to a method with one answer. Holds itself while its call goes on.
final class UnaryExchange: LocalCaller {
  private let method: GatewayMethod
  private let output: any GatewayOutput
  private let budget: AnswerBudget
  private let makeCall: (any LocalCaller) -> LocalCall
  private var call: LocalCall?
  private var message: ByteBuffer?
  private var isStarted = false
  /// What of the budget the answer has taken.
  private var cost = 0

  init(
    _ method: GatewayMethod, _ output: any GatewayOutput, _ budget: AnswerBudget,
    makeCall: @escaping (any LocalCaller) -> LocalCall
  ) {
    self.budget = budget
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
    giveBack()
    output.refuse(.cancelled, "context canceled")
  }

  func admits(bytes: Int) -> Bool {
    guard let taken = budget.take(bytes) else { return false }
    cost += taken
    return true
  }

  private func giveBack() {
    budget.give(back: cost)
    cost = 0
  }

  func received(_ message: ByteBuffer) { self.message = message }

  func finished(_ status: GRPCStatus) {
    call = nil
    guard status == .ok, let message else {
      giveBack()
      return output.refuse(status == .ok ? GRPCStatus(.internal, "the method has sent no answer") : status)
    }
    self.message = nil
    if cost == 0, message.readableBytes > LargeAnswer.minBytes, !admits(bytes: message.readableBytes) {
      return output.refuse(LocalCall.noRoom)
    }
    let method = method
    GatewayWork.run(bytes: message.readableBytes, on: output.eventLoop) {
      method.answerJSON(message).map { ByteBuffer(bytes: $0) }
    } then: {
      self.answer($0)
    }
  }

  private func answer(_ json: ByteBuffer?) {
    guard let json else {
      giveBack()
      return output.refuse(.internal, "the answer cannot be decoded")
    }
    guard json.readableBytes > LargeAnswer.minBytes else {
      giveBack()
      return output.answer(200, json)
    }
    output.answerLarge(json) { self.giveBack() }
  }
}
