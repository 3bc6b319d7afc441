import NIOCore
import Primitives
import SidecarCore
import Synchronization
import Wire

/// The HTTP form of the event stream.
///
/// `GET /v1/events?name=N[&cache=C&inflight=N&batch=N&ackwait=60s&from=now]` streams NDJSON; with `limit` and `wait` it
/// answers once: 200 with what there is, or 204 when nothing came within `wait`. `POST /v1/ack?name=N` takes lines of
/// ack, nak, wip, keep, term, kick and stat and answers each with one line.
package enum EventHTTP {
  private static let limitRange = 1...10_000
  private static let maxWaitMilliseconds: Int64 = 300_000
  private static let ndjson = "application/x-ndjson"

  package static func register(_ hub: EventHub, on router: inout HTTPRouter) {
    router.on("GET", "/v1/events") { request, responder in events(hub, request, responder) }
    router.on("POST", "/v1/ack") { request, responder in acknowledge(hub, request, responder) }
  }

  // MARK: GET /v1/events

  private static func events(_ hub: EventHub, _ request: HTTPRequest, _ responder: any HTTPResponder) {
    let subscription: Subscription
    let poll: (limit: Int, waitMilliseconds: Int64)?
    do throws(OpFailure) {
      var builder = SubscriptionBuilder(name: request.parameter("name") ?? "", code: .badjson)
      for field in SubscriptionBuilder.fields {
        if let value = request.parameter(field) { try builder.set(field, value) }
      }
      subscription = try builder.build()
      poll = try pollArguments(request)
    } catch {
      responder.respond(.problem(400, error.message))
      return
    }
    let loop = responder.eventLoop
    let bound = NIOLoopBound(responder, eventLoop: loop)
    Task {
      do throws(OpFailure) {
        let service = try await hub.service(for: subscription)
        if let poll {
          await startPoll(hub, service, subscription, poll, bound, loop)
        } else {
          loop.execute { startStream(hub, service, subscription, bound.value) }
        }
      } catch {
        let status = error.code == .unavailable ? 503 : 409
        loop.execute { bound.value.respond(.problem(status, error.message)) }
      }
    }
  }

  private static func pollArguments(_ request: HTTPRequest) throws(OpFailure) -> (Int, Int64)? {
    let limitText = request.parameter("limit")
    let waitText = request.parameter("wait")
    guard limitText != nil || waitText != nil else { return nil }
    guard let limit = Int(limitText ?? "100"), limitRange.contains(limit) else {
      throw OpFailure(.badjson, "limit: no number from \(limitRange.lowerBound) to \(limitRange.upperBound)")
    }
    guard let wait = DurationText.milliseconds(waitText ?? "0s"), wait <= maxWaitMilliseconds else {
      throw OpFailure(.badjson, "wait: no duration up to 5m")
    }
    return (limit, wait)
  }

  private static func startStream(
    _ hub: EventHub, _ service: SubscriberService, _ subscription: Subscription, _ responder: any HTTPResponder
  ) {
    let connection = hub.newConnection()
    let loop = responder.eventLoop
    let stream = responder.startStream(status: 200, headers: [("content-type", ndjson), ("cache-control", "no-store")])
    let outlet = StreamOutlet(
      ResponseTransport(stream), on: loop, timing: hub.timing,
      onWritable: { Task { await service.writable(connection) } },
      onHeartbeat: { Task { await service.heartbeat(connection) } })
    stream.onWritable = { outlet.measure() }
    let bound = NIOLoopBound(stream, eventLoop: loop)
    Task {
      await service.attach(connection, subscription, .stream, outlet)
      // Only now: a peer that has left meanwhile is detached behind the attachment, not before it.
      loop.execute {
        bound.value.onClose = {
          outlet.transportClosed()
          Task { await service.detach(connection) }
        }
      }
    }
  }

  private static func startPoll(
    _ hub: EventHub, _ service: SubscriberService, _ subscription: Subscription,
    _ poll: (limit: Int, waitMilliseconds: Int64), _ responder: NIOLoopBound<any HTTPResponder>, _ loop: any EventLoop
  ) async {
    let connection = hub.newConnection()
    let sink = PollSink { outcome in
      loop.execute { responder.value.respond(response(outcome)) }
      Task { await service.detach(connection) }
    }
    await service.attach(connection, subscription, .poll(limit: poll.limit), sink)
    // What is there already comes within the store's answer time, even when the caller does not want to wait.
    let wait = max(poll.waitMilliseconds, minPollMilliseconds)
    loop.scheduleTask(in: .milliseconds(wait)) { sink.complete(.nothing) }
  }

  /// The least time of a poll: reading the journal and checking what is due takes a moment.
  private static let minPollMilliseconds: Int64 = 250

  private static func response(_ outcome: PollSink.Outcome) -> HTTPResponse {
    switch outcome {
    case .events(let bytes): HTTPResponse(status: 200, contentType: ndjson, body: ByteBuffer(bytes: bytes))
    case .nothing: HTTPResponse(status: 204, contentType: ndjson, body: ByteBuffer())
    case .closed(let bytes): HTTPResponse(status: 409, contentType: ndjson, body: ByteBuffer(bytes: bytes))
    }
  }

  // MARK: POST /v1/ack

  private static func acknowledge(_ hub: EventHub, _ request: HTTPRequest, _ responder: any HTTPResponder) {
    guard let name = request.parameter("name"), Subscription.isValidName(name) else {
      responder.respond(.problem(400, "name a subscriber: /v1/ack?name=NAME", field: "name"))
      return
    }
    guard let service = hub.serviceIfKnown(name) else {
      responder.respond(.problem(404, "nobody has subscribed as \(name)", field: "name"))
      return
    }
    let lines = parse(Array(request.body.readableBytesView))
    let loop = responder.eventLoop
    let bound = NIOLoopBound(responder, eventLoop: loop)
    let answers = AnswerSheet(count: lines.count) { bytes in
      loop.execute {
        bound.value.respond(HTTPResponse(status: 200, contentType: ndjson, body: ByteBuffer(bytes: bytes)))
      }
    }
    Task {
      for (index, line) in lines.enumerated() {
        switch line {
        case .success(let op): await service.perform(op, connection: nil) { answers.fill(index, $0) }
        case .failure(let failure): answers.fill(index, .refused(failure.code, failure.message))
        }
      }
    }
  }

  private static func parse(_ body: [UInt8]) -> [Result<SubscriberOp, OpFailure>] {
    body.split(separator: UInt8(ascii: "\n")).compactMap { line in
      guard line.count <= Limits.maxEventLineBytes else {
        return .failure(OpFailure(.toolong, "a line is longer than \(Limits.maxEventLineBytes) bytes"))
      }
      do throws(OpFailure) {
        guard let op = try SubscriberOp(parsingLine: line) else { return nil }
        switch op {
        case .acknowledge, .nak, .working, .keep, .terminate, .kick, .stat: return .success(op)
        case .subscribe, .pause, .resume, .unsubscribe:
          return .failure(OpFailure(.unknownOp, "only ack, nak, wip, keep, term, kick and stat are taken here"))
        }
      } catch {
        return .failure(error)
      }
    }
  }
}

/// The stream of one HTTP answer.
private final class ResponseTransport: EventTransport {
  private let stream: any HTTPStream

  init(_ stream: any HTTPStream) { self.stream = stream }

  func write(_ bytes: ByteBuffer) { stream.write(bytes) }
  var pendingBytes: Int { stream.pendingBytes }
  func close() { stream.end() }
}

/// Answers that come in any order and leave in the order of their questions.
private final class AnswerSheet: Sendable {
  private struct State {
    var answers: [EventMessage?]
    var missing: Int
  }

  private let state: Mutex<State>
  private let complete: @Sendable ([UInt8]) -> Void

  init(count: Int, complete: @escaping @Sendable ([UInt8]) -> Void) {
    state = Mutex(State(answers: Array(repeating: nil, count: count), missing: count))
    self.complete = complete
    if count == 0 { complete([]) }
  }

  func fill(_ index: Int, _ answer: EventMessage) {
    let finished: [EventMessage?]? = state.withLock { state in
      guard state.answers[index] == nil else { return nil }
      state.answers[index] = answer
      state.missing -= 1
      return state.missing == 0 ? state.answers : nil
    }
    guard let finished else { return }
    var bytes: [UInt8] = []
    for answer in finished { answer?.encodeLines(into: &bytes) }
    complete(bytes)
  }
}
