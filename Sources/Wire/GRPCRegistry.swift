import NIOCore

/// Maps full method names ("/etcdserverpb.KV/Range") to what makes their handlers. Immutable once the server runs.
package struct GRPCRegistry: Sendable {
  package typealias MakeHandler = @Sendable (any GRPCCall) -> any GRPCHandler
  package typealias UnaryAnswer = @Sendable (ByteBuffer, any GRPCCall) -> Void

  /// What runs behind a method.
  enum Implementation: Sendable {
    case streaming(MakeHandler)
    case unary(UnaryAnswer)
  }

  /// A class, so that a call holds its route by one reference.
  final class Route: Sendable {
    let method: GRPCMethod
    let implementation: Implementation

    init(method: GRPCMethod, implementation: Implementation) {
      self.method = method
      self.implementation = implementation
    }
  }

  /// In the order of registration.
  package private(set) var methods: [GRPCMethod] = []
  private var routes: [String: Route] = [:]
  private var services: Set<Substring> = []

  package init() {}

  /// Registers a method whose handler object sees every event of its call. A path registered twice is a programmer
  /// error.
  package mutating func register(
    _ path: String, kind: GRPCMethodKind = .bidiStream, _ make: @escaping MakeHandler
  ) {
    add(path, kind, .streaming(make))
  }

  /// Registers a unary method without a handler object: `answer` is called once with the one request message and must
  /// `finish` the call, at any time, on its event loop. A call that is cancelled meanwhile just ignores its answer.
  package mutating func unary(_ path: String, _ answer: @escaping UnaryAnswer) {
    add(path, .unary, .unary(answer))
  }

  private mutating func add(_ path: String, _ kind: GRPCMethodKind, _ implementation: Implementation) {
    guard let (service, _) = Self.split(path) else {
      preconditionFailure("a method name has the form /package.Service/Method, not \(path)")
    }
    precondition(routes[path] == nil, "\(path) is registered twice")
    let method = GRPCMethod(index: methods.count, path: path, kind: kind)
    methods.append(method)
    routes[path] = Route(method: method, implementation: implementation)
    services.insert(service)
  }

  func route(_ path: String) -> Route? { routes[path] }

  /// Why there is no route for `path`, in grpc-go's words.
  func refusal(_ path: String) -> GRPCStatus {
    guard let (service, method) = Self.split(path) else {
      return GRPCStatus(.unimplemented, "malformed method name: \"\(path)\"")
    }
    if services.contains(service) {
      return GRPCStatus(.unimplemented, "unknown method \(method) for service \(service)")
    }
    return GRPCStatus(.unimplemented, "unknown service \(service)")
  }

  /// "/a.B/C" as ("a.B", "C"); as in grpc-go the method is what follows the last slash.
  private static func split(_ path: String) -> (service: Substring, method: Substring)? {
    guard path.first == "/" else { return nil }
    let name = path.dropFirst()
    guard let slash = name.lastIndex(of: "/") else { return nil }
    return (name[..<slash], name[name.index(after: slash)...])
  }
}
