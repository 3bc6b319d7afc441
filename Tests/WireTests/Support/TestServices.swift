import NIOConcurrencyHelpers
import NIOCore
import Wire

/// What the test services saw, across threads.
final class Journal: Sendable {
  private let lines = NIOLockedValueBox<[String]>([])
  func note(_ line: String) { lines.withLockedValue { $0.append(line) } }
  var all: [String] { lines.withLockedValue { $0 } }
}

/// Answers each message with itself; ends when the client does.
final class ChatHandler: GRPCHandler {
  private let call: any GRPCCall
  private let journal: Journal
  init(_ call: any GRPCCall, _ journal: Journal) {
    self.call = call
    self.journal = journal
  }
  func receive(_ message: ByteBuffer) { call.send(message) }
  func halfClosed() { call.finish(.ok) }
  func cancelled() { journal.note("cancelled") }
  func writable() { journal.note("writable, \(call.pendingBytes) pending") }
}

/// Sends without end, up to a bound, whatever the peer takes.
final class FloodHandler: GRPCHandler {
  private let call: any GRPCCall
  private let journal: Journal
  init(_ call: any GRPCCall, _ journal: Journal) {
    self.call = call
    self.journal = journal
  }
  func receive(_ message: ByteBuffer) {
    for _ in 0..<64 { call.send(ByteBuffer(repeating: 7, count: 16 * 1024)) }
    journal.note("pending \(call.pendingBytes)")
  }
  func halfClosed() { call.finish(.ok) }
  func cancelled() { journal.note("cancelled") }
  func writable() { journal.note("writable") }
}

struct CountingObserver: GRPCObserver {
  let journal: Journal
  func callStarted(_ method: GRPCMethod) { journal.note("started \(method.path)") }
  func callFinished(_ method: GRPCMethod, _ summary: GRPCCallSummary) {
    journal.note(
      "finished \(method.path) \(summary.code.name) in \(summary.receivedBytes) out \(summary.sentBytes)")
  }
}

func testServices(_ journal: Journal = Journal(), limits: WireLimits = WireLimits()) -> WireServices {
  var grpc = GRPCRegistry()
  grpc.unary("/test.Echo/Say") { message, call in call.reply(message) }
  grpc.unary("/test.Echo/Fail") { _, call in
    call.finish(GRPCStatus(.failedPrecondition, "etcdserver: 100% naïve"))
  }
  grpc.unary("/test.Echo/Hold") { _, _ in }
  grpc.unary("/test.Echo/Metadata") { _, call in
    call.reply(ByteBuffer(string: call.metadata("token") ?? "none"))
  }
  grpc.register("/test.Echo/Chat") { ChatHandler($0, journal) }
  grpc.register("/test.Echo/Flood", kind: .serverStream) { FloodHandler($0, journal) }

  var http = HTTPRouter()
  http.on("GET", "/hello") { _, responder in responder.respond(.text("hello\n")) }
  http.on("POST", "/echo") { request, responder in
    responder.respond(HTTPResponse(status: 200, contentType: "application/octet-stream", body: request.body))
  }
  http.on("GET", "/who") { request, responder in responder.respond(.text(request.peerCommonName ?? "nobody")) }
  http.on("GET", "/later") { _, responder in
    let responder = NIOLoopBound(responder, eventLoop: responder.eventLoop)
    responder.value.eventLoop.execute { responder.value.respond(.text("later\n")) }
  }
  http.on("GET", "/count") { request, responder in
    let stream = responder.startStream(status: 200, headers: [("content-type", "application/x-ndjson")])
    let count = request.parameter("to").flatMap { Int($0) } ?? 3
    for number in 0..<count { stream.write(ByteBuffer(string: "{\"n\":\(number)}\n")) }
    stream.end()
  }
  http.on("GET", "/forever") { _, responder in
    let stream = responder.startStream(status: 200, headers: [("content-type", "application/x-ndjson")])
    stream.onClose = { journal.note("stream closed") }
    stream.onWritable = { journal.note("stream writable") }
    stream.write(ByteBuffer(string: "{\"first\":true}\n"))
    journal.note("stream open")
  }
  http.on("GET", "/given-up") { _, responder in
    let stream = responder.startStream(status: 200, headers: [])
    stream.onClose = { journal.note("stream closed") }
    stream.write(ByteBuffer(string: "begun"))
    let bound = NIOLoopBound(stream, eventLoop: responder.eventLoop)
    responder.eventLoop.execute { bound.value.abort() }
  }
  http.on("GET", "/patient") { _, responder in responder.onAbandon = { journal.note("abandoned") } }
  http.on("GET", "/flood") { _, responder in
    let stream = responder.startStream(status: 200, headers: [])
    stream.onWritable = { journal.note("stream writable") }
    for _ in 0..<64 { stream.write(ByteBuffer(repeating: 7, count: 16 * 1024)) }
    journal.note("pending \(stream.pendingBytes)")
  }
  http.onPrefix("GET", "/v1/", { request, responder in responder.respond(.text(request.path)) })
  return WireServices(grpc: grpc, http: http, observer: CountingObserver(journal: journal), limits: limits)
}
