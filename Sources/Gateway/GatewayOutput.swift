import NIOCore
import Wire

/// Where the answer to a request in JSON goes. Event-loop bound.
protocol GatewayOutput: AnyObject {
  var eventLoop: any EventLoop { get }
  /// The whole answer.
  func answer(_ status: Int, _ json: ByteBuffer)
  /// The whole answer of a success, when it is large: handed on as the client takes it. `done` is called when it has, or
  /// is gone.
  func answerLarge(_ json: ByteBuffer, done: @escaping () -> Void)
  /// One line of an answer that goes on.
  func add(_ line: ByteBuffer)
  /// Behind the last line.
  func end()
  /// Bytes that the client has not yet taken.
  var pendingBytes: Int { get }
  func notifyWhenDrained()
  /// The client has gone. Not called after `answer` or `end`.
  var onLeave: (() -> Void)? { get set }
  var onWritable: (() -> Void)? { get set }
}

/// An HTTP answer: it begins when its first line is there, so that a call which fails at once still has its status.
final class HTTPOutput: GatewayOutput {
  private enum State {
    case unanswered
    case streaming(any HTTPStream)
    case over
  }

  /// How long a client may take nothing of a large answer.
  private let stallTimeout: TimeAmount
  private let responder: any HTTPResponder
  private var state = State.unanswered
  var onLeave: (() -> Void)?
  var onWritable: (() -> Void)?

  /// - Parameter isPatient: The call may take long, so that its client may leave before it is answered.
  init(_ responder: any HTTPResponder, isPatient: Bool, stallTimeout: TimeAmount) {
    self.responder = responder
    self.stallTimeout = stallTimeout
    if isPatient { responder.onAbandon = { self.left() } }
  }

  var eventLoop: any EventLoop { responder.eventLoop }

  private func left() {
    let onLeave = onLeave
    self.onLeave = nil
    onWritable = nil
    onLeave?()
  }

  func answer(_ status: Int, _ json: ByteBuffer) {
    guard case .unanswered = state else { return }
    close()
    responder.respond(HTTPResponse(status: status, contentType: "application/json", body: json))
  }

  func answerLarge(_ json: ByteBuffer, done: @escaping () -> Void) {
    guard case .unanswered = state else { return done() }
    close()
    let stream = responder.startStream(status: 200, headers: [("content-type", "application/json")])
    LargeAnswer(stream, json, stallTimeout: stallTimeout, done: done).start()
  }

  func add(_ line: ByteBuffer) {
    switch state {
    case .over: return
    case .streaming(let stream): stream.write(line)
    case .unanswered:
      let stream = responder.startStream(status: 200, headers: [("content-type", "application/json")])
      state = .streaming(stream)
      stream.onClose = {
        self.state = .over
        self.left()
      }
      stream.onWritable = { self.onWritable?() }
      stream.write(line)
    }
  }

  func end() {
    switch state {
    case .over: return
    case .unanswered: answer(200, ByteBuffer())
    case .streaming(let stream):
      close()
      stream.end()
    }
  }

  private func close() {
    state = .over
    onLeave = nil
    onWritable = nil
    responder.onAbandon = nil
  }

  var pendingBytes: Int {
    if case .streaming(let stream) = state { stream.pendingBytes } else { 0 }
  }

  func notifyWhenDrained() {
    if case .streaming(let stream) = state { stream.notifyWhenDrained() }
  }
}

/// A WebSocket: each line is a message, and the end of the answer is the end of the connection.
final class SocketOutput: GatewayOutput {
  private let socket: WebSocket
  var onLeave: (() -> Void)?
  var onWritable: (() -> Void)?

  init(_ socket: WebSocket) {
    self.socket = socket
    socket.onClose = { self.left() }
    socket.onWritable = { self.onWritable?() }
  }

  var eventLoop: any EventLoop { socket.eventLoop }

  private func left() {
    let onLeave = onLeave
    self.onLeave = nil
    onWritable = nil
    onLeave?()
  }

  func answer(_ status: Int, _ json: ByteBuffer) {
    add(json)
    end()
  }

  /// A message is one piece, and nothing slows its sender down.
  private static let maxMessageBytes = 1024 * 1024

  func answerLarge(_ json: ByteBuffer, done: @escaping () -> Void) {
    if json.readableBytes <= Self.maxMessageBytes {
      answer(200, json)
    } else {
      refuse(.resourceExhausted, "the answer is too large for a WebSocket: ask for it by HTTP")
    }
    done()
  }

  /// Without the line's end: a message has its own.
  func add(_ line: ByteBuffer) {
    var text = line
    if text.readableBytesView.last == UInt8(ascii: "\n") { text.moveWriterIndex(to: text.writerIndex - 1) }
    if text.readableBytes > 0 { socket.send(text) }
  }

  func end() {
    onLeave = nil
    onWritable = nil
    socket.close()
  }

  var pendingBytes: Int { socket.pendingBytes }
  func notifyWhenDrained() { socket.notifyWhenDrained() }
}
