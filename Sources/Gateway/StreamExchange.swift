import NIOCore
import Wire

/// Requests in JSON to a method that answers with a stream, one line each: `{"result":…}`, and `{"error":…}` at the end of
/// one that fails. Holds itself while its call goes on.
final class StreamExchange: LocalCaller {
  /// Requests wait while the client leaves this much of the answers unread: more than what stops a WebSocket from being
  /// read, so that few of them wait here.
  private static let maxUnreadBytes = 1024 * 1024

  private let method: GatewayMethod
  private let output: any GatewayOutput
  private let makeCall: (any LocalCaller) -> LocalCall
  private var call: LocalCall?
  /// Bodies that have arrived and whose values have not all been sent on.
  private var waiting: [JSONValues] = []
  private var hasRequest = false
  private var hasAnswered = false
  private var clientIsDone = false
  private var isOver = false
  private var isFeeding = false

  init(
    _ method: GatewayMethod, _ output: any GatewayOutput, makeCall: @escaping (any LocalCaller) -> LocalCall
  ) {
    self.method = method
    self.output = output
    self.makeCall = makeCall
    output.onLeave = { self.leave() }
    output.onWritable = { self.drained() }
  }

  // MARK: Requests

  func receive(_ body: ByteBuffer) {
    guard !clientIsDone else { return }
    waiting.append(JSONValues(Array(body.readableBytesView)))
    feed()
  }

  /// No further body follows.
  func endOfRequests() {
    clientIsDone = true
    feed()
  }

  /// Sends on what waits, as far as the client reads the answers.
  private func feed() {
    guard !isFeeding else { return }
    isFeeding = true
    defer { isFeeding = false }
    while !isOver, !waiting.isEmpty {
      guard output.pendingBytes < Self.maxUnreadBytes else { return output.notifyWhenDrained() }
      do {
        guard let value = try waiting[0].next() else {
          waiting.removeFirst()
          continue
        }
        let request = try method.encodeRequest(value)
        hasRequest = true
        startCall().send(request: request)
        if method.shape == .serverStream { stopReading() }
      } catch {
        fail(error)
      }
    }
    guard !isOver, clientIsDone, waiting.isEmpty else { return }
    finishRequests()
  }

  private func stopReading() {
    waiting = []
    clientIsDone = true
  }

  /// A stream of answers to one request begins with that, be it empty.
  private func finishRequests() {
    if !hasRequest, method.shape == .serverStream {
      hasRequest = true
      do { startCall().send(request: try method.encodeRequest([])) } catch { return fail(error) }
    }
    startCall().end()
  }

  /// What cannot be read ends the requests. As the very first thing it is an error; later the answers to what could be
  /// read go on (both as etcd's gateway does, and with its codes).
  private func fail(_ refusal: GatewayRefusal) {
    stopReading()
    guard !hasRequest else { return }
    isOver = true
    call?.cancel()
    call = nil
    output.refuse(method.shape == .serverStream ? .invalidArgument : .unknown, refusal.text)
  }

  private func startCall() -> LocalCall {
    if let call { return call }
    let call = makeCall(self)
    if !isOver { self.call = call }
    return call
  }

  private func leave() {
    isOver = true
    waiting = []
    call?.cancel()
    call = nil
    if !hasAnswered { output.refuse(.cancelled, "context canceled") }
  }

  private func drained() {
    call?.drained()
    feed()
  }

  // MARK: Answers

  var pendingBytes: Int { output.pendingBytes }

  func notifyWhenDrained() { output.notifyWhenDrained() }

  func received(_ message: ByteBuffer) {
    guard !isOver, let json = method.answerJSON(message) else { return }
    hasAnswered = true
    var line = ByteBufferAllocator().buffer(capacity: json.count + 12)
    line.writeStaticString("{\"result\":")
    line.writeBytes(json)
    line.writeStaticString("}\n")
    output.add(line)
  }

  func finished(_ status: GRPCStatus) {
    guard !isOver else { return }
    isOver = true
    call = nil
    waiting = []
    if status == .ok { return output.end() }
    guard hasAnswered else { return output.answer(status.code.httpStatus, GatewayErrors.line(status)) }
    output.add(GatewayErrors.line(status))
    output.end()
  }
}
