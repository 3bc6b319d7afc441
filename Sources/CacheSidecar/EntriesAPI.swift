import NIOCore
import Primitives
import SidecarCore
import Wire

/// The routes on `/v1/caches/{cache}/…`. Keys are the rest of the path, or `?key64=`.
struct EntriesAPI: Sendable {
  let sidecar: Sidecar

  static let root = "/v1/caches/"

  func addRoutes(to router: inout HTTPRouter) {
    for method in ["GET", "POST", "PUT", "DELETE"] {
      router.onPrefix(method, Self.root) { request, responder in handle(request, responder) }
    }
  }

  /// A path below `root`, taken apart.
  private struct Target {
    var cache: String
    /// `hit`, `hits`, `entries`; empty for the cache itself.
    var resource: Substring
    /// Still percent-encoded; nil when no slash follows the resource.
    var rest: Substring?

    /// By bytes: a path is not a text to be broken into characters.
    init(_ path: String) {
      let bytes = path.utf8
      let start = bytes.index(bytes.startIndex, offsetBy: EntriesAPI.root.utf8.count)
      let cacheEnd = bytes[start...].firstIndex(of: UInt8(ascii: "/")) ?? bytes.endIndex
      cache = String(path[start..<cacheEnd])
      guard cacheEnd < bytes.endIndex else {
        resource = ""
        return
      }
      let resourceStart = bytes.index(after: cacheEnd)
      let resourceEnd = bytes[resourceStart...].firstIndex(of: UInt8(ascii: "/")) ?? bytes.endIndex
      resource = path[resourceStart..<resourceEnd]
      if resourceEnd < bytes.endIndex { rest = path[bytes.index(after: resourceEnd)...] }
    }
  }

  private func handle(_ request: HTTPRequest, _ responder: any HTTPResponder) {
    let target = Target(request.path)
    guard let cache = sidecar.caches[target.cache] else {
      let names = sidecar.caches.keys.sorted().joined(separator: ", ")
      responder.respond(
        .problem(404, "no cache is called \"\(target.cache)\"; configured: \(names)", field: "cache"))
      return
    }
    let isRead = request.method == "GET" || request.method == "HEAD"
    switch target.resource {
    case "hit":
      guard request.method == "POST" else { return refuseMethod(request, responder, allow: "POST") }
      withKey(request, target.rest, responder) { HitsAPI(sidecar: sidecar).hit(cache, $0, responder) }
    case "hits" where target.rest == nil:
      guard request.method == "POST" else { return refuseMethod(request, responder, allow: "POST") }
      HitsAPI(sidecar: sidecar).hits(cache, request, responder)
    case "entries":
      let hasKey = target.rest?.isEmpty == false || request.parameter("key64") != nil
      if !hasKey {
        guard isRead else { return refuseMethod(request, responder, allow: "GET, HEAD") }
        list(cache, request, responder)
        return
      }
      withKey(request, target.rest, responder) { key in
        switch request.method {
        case "PUT": register(cache, key, request, responder)
        case "DELETE": evict(cache, key, responder)
        case "GET", "HEAD": show(cache, key, responder)
        default: refuseMethod(request, responder, allow: "DELETE, GET, HEAD, PUT")
        }
      }
    case "" where target.rest == nil:
      guard isRead else { return refuseMethod(request, responder, allow: "GET, HEAD") }
      responder.respond(StatusAPI(sidecar: sidecar, hub: nil).cache(cache))
    default:
      responder.respond(.problem(404, "nothing is served at \(request.path)"))
    }
  }

  private func refuseMethod(_ request: HTTPRequest, _ responder: any HTTPResponder, allow: String) {
    var response = HTTPResponse.problem(405, "\(request.method) is not possible here, only \(allow)")
    response.headers.append(("allow", allow))
    responder.respond(response)
  }

  private func withKey(
    _ request: HTTPRequest, _ path: Substring?, _ responder: any HTTPResponder, _ body: (Bytes) -> Void
  ) {
    do throws(KeyEncoding.Problem) {
      if !request.query.isEmpty, let key64 = request.parameter("key64") {
        body(try KeyEncoding.key(fromBase64: key64))
      } else {
        body(try KeyEncoding.key(fromPath: path ?? ""))
      }
    } catch {
      responder.respond(.problem(error == .tooLong ? 414 : 400, error.description, field: "key"))
    }
  }

  // MARK: One entry

  private func register(
    _ cache: SidecarCache, _ key: Bytes, _ request: HTTPRequest, _ responder: any HTTPResponder
  ) {
    let registration: EntryRegistration
    do throws(RegistrationProblem) { registration = try EntryRegistration(body: request.body) } catch {
      responder.respond(.problem(error.status, error.detail, field: error.field))
      return
    }
    responder.answer { [sidecar] in
      let result = await sidecar.perform([(key, .register(registration))], in: cache, hook: .http)[0]
      return switch result {
      case .success(.registered): .json("{\"outcome\":\"registered\"}\n".utf8, status: 201)
      case .success(let outcome): .json("{\"outcome\":\"\(outcome.label)\"}\n".utf8)
      case .failure(let error): .storeProblem(error)
      }
    }
  }

  private func evict(_ cache: SidecarCache, _ key: Bytes, _ responder: any HTTPResponder) {
    responder.answer { [sidecar] in
      let result = await sidecar.perform([(key, .evict)], in: cache, hook: .http)[0]
      return switch result {
      case .success(.evictionStarted): .json("{\"outcome\":\"evicted\"}\n".utf8, status: 202)
      case .success: .problem(404, "the cache \(cache.name) has no entry \(key)", field: "key")
      case .failure(let error): .storeProblem(error)
      }
    }
  }

  private func show(_ cache: SidecarCache, _ key: Bytes, _ responder: any HTTPResponder) {
    responder.answer { [sidecar] in
      do throws(SidecarStoreError) {
        guard let view = try await sidecar.entry(key, in: cache) else {
          return .problem(404, "the cache \(cache.name) has no entry \(key)", field: "key")
        }
        var writer = JSONWriter(reserving: 256)
        writer.object { view.encode(into: &$0, wallMilliseconds: sidecar.context.clock.wallMilliseconds()) }
        writer.endLine()
        return .json(writer.bytes)
      } catch {
        return .storeProblem(error)
      }
    }
  }

  // MARK: Lists

  private func list(_ cache: SidecarCache, _ request: HTTPRequest, _ responder: any HTTPResponder) {
    var query = EntryListQuery()
    if let state = request.parameter("state") {
      guard let parsed = EntryListQuery.State(rawValue: state) else {
        responder.respond(.problem(400, "state: \"\(state)\" is unknown; write live or evicting", field: "state"))
        return
      }
      query.state = parsed
    }
    if let limit = request.parameter("limit") {
      guard let parsed = Int(limit), (1...Limits.maxListPage).contains(parsed) else {
        responder.respond(
          .problem(400, "limit: write a number from 1 to \(Limits.maxListPage)", field: "limit"))
        return
      }
      query.limit = parsed
    }
    query.prefix = Bytes(request.parameter("prefix") ?? "")
    query.after = request.parameter("after").map { Bytes($0) }
    if let after64 = request.parameter("after64") {
      guard let after = try? KeyEncoding.key(fromBase64: after64) else {
        responder.respond(.problem(400, "after64 is not base64", field: "after64"))
        return
      }
      query.after = after
    }
    responder.answer { [sidecar, query] in
      do throws(SidecarStoreError) {
        return .json(Self.encoded(try await sidecar.list(query, in: cache), at: sidecar.context.clock))
      } catch {
        return .storeProblem(error)
      }
    }
  }

  private static func encoded(_ page: EntryPage, at clock: SidecarClock) -> [UInt8] {
    let now = clock.wallMilliseconds()
    var writer = JSONWriter(reserving: 64 + page.entries.count * 256)
    writer.object { writer in
      writer.array("entries") { writer in
        for entry in page.entries { writer.object { entry.encode(into: &$0, wallMilliseconds: now) } }
      }
      if let next = page.next {
        if let text = next.text { writer.member("next", text) } else { writer.member("next64", Base64.text(of: next)) }
      }
    }
    writer.endLine()
    return writer.bytes
  }
}

extension HTTPResponder {
  /// Answers with what `body` comes to, off the event loop.
  func answer(_ body: @escaping @Sendable () async -> HTTPResponse) {
    let bound = NIOLoopBound(self as any HTTPResponder, eventLoop: eventLoop)
    let eventLoop = eventLoop
    Task {
      let response = await body()
      eventLoop.execute { bound.value.respond(response) }
    }
  }
}

extension HTTPResponse {
  static func storeProblem(_ error: SidecarStoreError) -> HTTPResponse {
    switch error {
    case .unavailable(let why):
      var response = HTTPResponse.problem(503, "the store does not answer (\(why)); try again")
      response.headers.append(("retry-after", "1"))
      return response
    case .refused(let why): return .problem(500, "the store refused: \(why)")
    case .spaceExceeded:
      return .problem(507, "the store is over its space quota: compact, defragment or raise the quota")
    }
  }

  static let noContent: HTTPResponse = {
    var response = HTTPResponse.text("", status: 204)
    response.headers = []
    return response
  }()
}
