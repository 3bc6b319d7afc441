import NIOCore

/// Exact and prefix routes; answers 404 and 405 (with Allow) itself. Immutable once the server runs.
package struct HTTPRouter: Sendable {
  package typealias Handler = @Sendable (HTTPRequest, any HTTPResponder) -> Void

  /// What a method and a path lead to.
  package enum Match {
    case handler(Handler)
    case notFound
    /// The path exists; `allow` lists its methods as the Allow header does.
    case wrongMethod(allow: String)
  }

  private typealias Methods = [String: Handler]

  private var exact: [String: Methods] = [:]
  /// Longest first, so that the first that matches is the longest.
  private var prefixes: [(prefix: String, methods: Methods)] = []

  package init() {}

  package mutating func on(_ method: String, _ path: String, _ handler: @escaping Handler) {
    precondition(exact[path]?[method] == nil, "\(method) \(path) is routed twice")
    exact[path, default: [:]][method] = handler
  }

  /// Matches every path that starts with `prefix`; the longest registered match wins, an exact one above all.
  package mutating func onPrefix(_ method: String, _ prefix: String, _ handler: @escaping Handler) {
    if let index = prefixes.firstIndex(where: { $0.prefix == prefix }) {
      precondition(prefixes[index].methods[method] == nil, "\(method) \(prefix)… is routed twice")
      prefixes[index].methods[method] = handler
      return
    }
    let count = prefix.utf8.count
    let index = prefixes.firstIndex { $0.prefix.utf8.count < count } ?? prefixes.endIndex
    prefixes.insert((prefix, [method: handler]), at: index)
  }

  /// Answers the request by its handler, or by 404 or 405. For use outside of a server (tests, sub-routers).
  package func dispatch(_ request: HTTPRequest, _ responder: any HTTPResponder) {
    switch match(method: request.method, path: request.path) {
    case .handler(let handler): handler(request, responder)
    case let miss: responder.respond(Self.response(to: miss, method: request.method, path: request.path))
    }
  }

  /// A GET route answers HEAD too; the connection leaves the body out.
  package func match(method: String, path: String) -> Match {
    guard let methods = exact[path] ?? prefixes.first(where: { path.hasPrefix($0.prefix) })?.methods else {
      return .notFound
    }
    if let handler = methods[method] { return .handler(handler) }
    if method == "HEAD", let handler = methods["GET"] { return .handler(handler) }
    var allowed = Set(methods.keys)
    if allowed.contains("GET") { allowed.insert("HEAD") }
    return .wrongMethod(allow: allowed.sorted().joined(separator: ", "))
  }

  static func response(to miss: Match, method: String, path: String) -> HTTPResponse {
    switch miss {
    case .wrongMethod(let allow):
      var response = HTTPResponse.problem(405, "\(method) is not possible here, only \(allow)")
      response.headers.append(("allow", allow))
      return response
    case .notFound, .handler:
      return .problem(404, "nothing is served at \(path)")
    }
  }
}
