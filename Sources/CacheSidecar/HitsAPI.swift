import NIOCore
import Primitives
import SidecarCore
import Wire

/// The two calls that report hits. A coalesced hit is answered in the event-loop turn in which it came.
struct HitsAPI: Sendable {
  let sidecar: Sidecar

  // MARK: One

  func hit(_ cache: SidecarCache, _ key: Bytes, _ responder: any HTTPResponder) {
    let isCoalesced = sidecar.hit(cache, key) {
      let bound = NIOLoopBound(responder, eventLoop: responder.eventLoop)
      let eventLoop = responder.eventLoop
      return { [sidecar] result in
        sidecar.count([result], cache: cache, hook: .http)
        let response = Self.response(to: result, key, cache)
        eventLoop.execute { bound.value.respond(response) }
      }
    }
    if isCoalesced { responder.respond(.noContent) }
  }

  private static func response(to result: EntryResult, _ key: Bytes, _ cache: SidecarCache) -> HTTPResponse {
    switch result {
    case .success(.coalesced), .success(.renewed), .success(.revived), .success(.updated): return .noContent
    case .success(.registered): return .json("{\"outcome\":\"registered\"}\n".utf8, status: 201)
    case .success(.unknown):
      return .problem(
        404,
        "the cache \(cache.name) has no entry \(key); register it by PUT \(EntriesAPI.root)\(cache.name)/entries/…, "
          + "or set register: on-hit in its policy", field: "key")
    case .success(.evicting), .success(.evictionStarted):
      return .problem(410, "the entry \(key) is being evicted, and a subscriber has deleted it already", field: "key")
    case .failure(let error): return .storeProblem(error)
    }
  }

  // MARK: Many

  private struct BatchProblem: Error {
    var status = 400
    var line: Int
    var detail: String
  }

  /// One key a line as it is (UTF-8, not percent-encoded), or a JSON object a line: a line that begins with `{` is one.
  func hits(_ cache: SidecarCache, _ request: HTTPRequest, _ responder: any HTTPResponder) {
    let requests: [(key: Bytes, request: EntryRequest)]
    do throws(BatchProblem) {
      requests = try Self.requests(in: Array(request.body.readableBytesView), cache)
    } catch {
      responder.respond(.problem(error.status, "line \(error.line): \(error.detail)", field: "body"))
      return
    }
    let bound = NIOLoopBound(responder, eventLoop: responder.eventLoop)
    let eventLoop = responder.eventLoop
    sidecar.pipeline.perform(requests, in: cache) { [sidecar] results in
      sidecar.count(results, cache: cache, hook: .batch)
      let response = Self.response(to: requests, results)
      if eventLoop.inEventLoop {
        bound.value.respond(response)
      } else {
        eventLoop.execute { bound.value.respond(response) }
      }
    }
  }

  private static func requests(
    in body: [UInt8], _ cache: SidecarCache
  ) throws(BatchProblem) -> [(key: Bytes, request: EntryRequest)] {
    var requests: [(key: Bytes, request: EntryRequest)] = []
    var number = 0
    var start = 0
    while start < body.count {
      var end = start
      while end < body.count, body[end] != UInt8(ascii: "\n") { end += 1 }
      number += 1
      var line = body[start..<end]
      start = end + 1
      if line.last == UInt8(ascii: "\r") { line = line.dropLast() }
      if line.isEmpty { continue }
      guard requests.count < Limits.maxBatchHitLines else {
        throw BatchProblem(
          status: 413, line: number, detail: "at most \(Limits.maxBatchHitLines) hits go in one request")
      }
      requests.append(try request(in: line, number, cache))
    }
    return requests
  }

  private static func request(
    in line: ArraySlice<UInt8>, _ number: Int, _ cache: SidecarCache
  ) throws(BatchProblem) -> (key: Bytes, request: EntryRequest) {
    do throws(KeyEncoding.Problem) {
      guard line.first == UInt8(ascii: "{") else {
        let key = try KeyEncoding.checked(Bytes(Array(line)))
        guard KeyEncoding.isUTF8(key) else { throw .notUTF8 }
        return (key, .hit)
      }
    } catch {
      throw BatchProblem(status: error == .tooLong ? 414 : 400, line: number, detail: error.description)
    }
    return try jsonRequest(in: line, number, cache)
  }

  private static func jsonRequest(
    in line: ArraySlice<UInt8>, _ number: Int, _ cache: SidecarCache
  ) throws(BatchProblem) -> (key: Bytes, request: EntryRequest) {
    let value: JSONValue
    do { value = try JSONValue(parsing: line, maxBytes: Limits.maxHTTPBodyBytes) } catch {
      throw BatchProblem(line: number, detail: "no JSON: \(error.description)")
    }
    let key: Bytes
    do throws(KeyEncoding.Problem) {
      switch (value["key"], value["key64"]) {
      case (.text(let text)?, nil): key = try KeyEncoding.checked(Bytes(text))
      case (nil, .text(let text)?): key = try KeyEncoding.key(fromBase64: text)
      default: throw .empty
      }
    } catch {
      throw BatchProblem(status: error == .tooLong ? 414 : 400, line: number, detail: error.description)
    }
    do throws(RegistrationProblem) {
      let attributes = try EntryRegistration(fields: value, ignoring: ["key", "key64"])
      // Attributes can only be taken where a hit may register.
      let isPlain = attributes == EntryRegistration() || cache.policy.registration == .explicit
      return (key, isPlain ? .hit : .register(attributes))
    } catch {
      throw BatchProblem(status: error.status, line: number, detail: error.detail)
    }
  }

  private static func response(
    to requests: [(key: Bytes, request: EntryRequest)], _ results: [EntryResult]
  ) -> HTTPResponse {
    var renewed = 0
    var coalesced = 0
    var registered = 0
    var unknown: [String] = []
    var evicting: [String] = []
    for (request, result) in zip(requests, results) {
      switch result {
      case .success(.coalesced): coalesced += 1
      case .success(.renewed), .success(.updated), .success(.revived): renewed += 1
      case .success(.registered): registered += 1
      case .success(.unknown): unknown.append(text(of: request.key))
      case .success(.evicting), .success(.evictionStarted): evicting.append(text(of: request.key))
      case .failure(let error): return .storeProblem(error)
      }
    }
    var writer = JSONWriter(reserving: 128)
    writer.object { writer in
      writer.member("hits", requests.count)
      writer.member("renewed", renewed)
      writer.member("coalesced", coalesced)
      writer.member("registered", registered)
      writer.member("unknown", texts: unknown)
      writer.member("evicting", texts: evicting)
    }
    writer.endLine()
    return .json(writer.bytes)
  }

  private static func text(of key: Bytes) -> String { key.text ?? "base64:" + Base64.text(of: key) }
}
