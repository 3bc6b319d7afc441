import NIOCore
import Wire

/// etcd's plain HTTP endpoints: health, version, metrics.
package enum EtcdHTTP {
  package static func register(
    into router: inout HTTPRouter, node: some NodeHandle, settings: EtcdSettings, metrics: EtcdMetrics
  ) {
    metrics.observe(node, settings: settings)
    router.on("GET", "/health") { request, responder in health(request, responder, node) }
    registerChecks(into: &router, "/livez", [.serializableRead], node)
    registerChecks(into: &router, "/readyz", Check.allCases, node)
    let version =
      "{\"etcdserver\":\"\(settings.serverVersion)\",\"etcdcluster\":\"\(settings.clusterVersion)\"}"
    router.on("GET", "/version") { _, responder in responder.respond(.json(version.utf8)) }
    router.on("GET", "/metrics") { _, responder in
      responder.respond(
        HTTPResponse(
          status: 200, contentType: MetricsRegistry.contentType,
          body: ByteBuffer(string: metrics.registry.exposition())))
    }
  }

  /// Healthy means: no alarm stands (but for those that `exclude` names), there is a leader and a linearizable read
  /// succeeds; with `serializable=true` that this member can read its own state.
  private static func health(_ request: HTTPRequest, _ responder: any HTTPResponder, _ node: some NodeHandle) {
    let status = node.status
    let excluded = request.parameters("exclude")
    if let alarm = status.alarms.first(where: { !excluded.contains($0.kind.etcdName) }) {
      responder.respond(health("ALARM \(alarm.kind.etcdName)"))
      return
    }
    if request.parameter("serializable") == "true" {
      responder.respond(health(nil))
      return
    }
    guard status.leaderID != 0 else {
      responder.respond(health("RAFT NO LEADER"))
      return
    }
    let responder = NIOLoopBound(responder, eventLoop: responder.eventLoop)
    node.readBarrier(on: responder.value.eventLoop) { outcome in
      switch outcome {
      case .success: responder.value.respond(health(nil))
      case .failure(let error):
        responder.value.respond(health("RANGE ERROR:" + EtcdErrors.status(for: error).message))
      }
    }
  }

  /// The reasons are ours and need no escapes.
  private static func health(_ reason: String?) -> HTTPResponse {
    let text = "{\"health\":\"\(reason == nil)\",\"reason\":\"\(reason ?? "")\"}"
    return .json(text.utf8, status: reason == nil ? 200 : 503)
  }

  private enum Check: String, CaseIterable {
    case dataCorruption = "data_corruption"
    case serializableRead = "serializable_read"
    case linearizableRead = "linearizable_read"
    case notLearner = "non_learner"
  }

  /// The path itself runs all its checks but for those that `exclude` names, and each has a path below it. `verbose`
  /// lists them; those that fail are listed anyway.
  private static func registerChecks(
    into router: inout HTTPRouter, _ path: String, _ checks: [Check], _ node: some NodeHandle
  ) {
    router.on("GET", path) { request, responder in
      let excluded = request.parameters("exclude")
      run(checks.filter { !excluded.contains($0.rawValue) }, request, responder, node)
    }
    for check in checks {
      router.on("GET", "\(path)/\(check.rawValue)") { request, responder in run([check], request, responder, node) }
    }
  }

  private static func run(
    _ checks: [Check], _ request: HTTPRequest, _ responder: any HTTPResponder, _ node: some NodeHandle
  ) {
    let verbose = request.parameter("verbose") != nil
    var failures: [Check: String] = [:]
    if checks.contains(.dataCorruption),
      node.isCorrupt || node.status.alarms.contains(where: { $0.kind == .corrupt })
    {
      failures[.dataCorruption] = "alarm activated: CORRUPT"
    }
    if checks.contains(.notLearner), node.isLearner { failures[.notLearner] = "not supported for learner" }
    // Reading our own state cannot fail while this code runs.
    guard checks.contains(.linearizableRead) else {
      responder.respond(report(checks, failures, verbose: verbose))
      return
    }
    let responder = NIOLoopBound(responder, eventLoop: responder.eventLoop)
    let known = failures
    node.readBarrier(on: responder.value.eventLoop) { outcome in
      var failures = known
      if case .failure(let error) = outcome { failures[.linearizableRead] = EtcdErrors.status(for: error).message }
      responder.value.respond(report(checks, failures, verbose: verbose))
    }
  }

  private static func report(_ checks: [Check], _ failures: [Check: String], verbose: Bool) -> HTTPResponse {
    if failures.isEmpty, !verbose { return .text("ok\n") }
    var text = ""
    for check in checks {
      if let failure = failures[check] {
        text += "[-]\(check.rawValue) failed: \(failure)\n"
      } else {
        text += "[+]\(check.rawValue) ok\n"
      }
    }
    if failures.isEmpty { text += "ok\n" }
    return .text(text, status: failures.isEmpty ? 200 : 503)
  }
}
