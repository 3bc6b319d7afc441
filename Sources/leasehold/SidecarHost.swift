import CacheSidecar
import ClusterNode
import Logging
import NIOCore
import Primitives
import Settings
import SidecarCore
import Wire

/// Puts the sidecar on a node: store, entries, event stream, hooks and the HTTP API.
struct SidecarHost {
  /// Between two looks for a quorum.
  private static let retryDelay = Duration.milliseconds(500)

  private let settings: NodeSettings.Sidecar
  private let policies: [CachePolicy]

  /// What has been started, to be stopped together.
  struct Running {
    fileprivate var hub: EventHub
    fileprivate var syslog: SyslogHook?
    fileprivate var tasks: [Task<Void, Never>]

    func stop() async {
      for task in tasks { task.cancel() }
      do { try await syslog?.stop() } catch { preconditionFailure("the syslog hook's thread was stopped twice") }
      hub.stop()
      for task in tasks { await task.value }
    }
  }

  /// Reads the policies before anything is opened or bound. Nil without caches.
  static func checked(_ settings: NodeSettings.Sidecar?) throws -> SidecarHost? {
    guard let settings else { return nil }
    var policies: [CachePolicy] = []
    for flag in settings.caches {
      let policy = try CachePolicy(flag: flag)
      if policies.contains(where: { $0.name == policy.name }) {
        throw SettingsError("--cache '\(policy.name)' is given twice")
      }
      policies.append(policy)
    }
    let named = settings.tails.map(\.cache) + settings.stripped.keys.filter { !$0.isEmpty }
    for name in named where !policies.contains(where: { $0.name == name }) {
      throw SettingsError("--sidecar-tail and --sidecar-strip: no --cache is called '\(name)'")
    }
    return SidecarHost(settings: settings, policies: policies)
  }

  func start(
    node: Node, name: String, dataDirectory: String, on server: WireServer, eventLoop: any EventLoop, logger: Logger
  ) async throws -> Running {
    let store = EmbeddedStore(node: node, eventLoop: eventLoop)
    let layout = StoreLayout(prefix: Bytes(settings.prefix))
    let sidecar = Sidecar(store: store, policies: policies, layout: layout, logger: logger)
    try await whenAvailable(logger) { () async throws(SidecarStoreError) in try await sidecar.open() }
    let hub = try await whenAvailable(logger) { () async throws(SidecarStoreError) in
      try await loadHub(sidecar, store, layout, node: name, logger: logger)
    }
    hub.start()
    var running = Running(hub: hub, syslog: nil, tasks: [Task { await sidecar.run() }])
    do {
      running.syslog = try startSyslog(sidecar, logger)
      running.tasks += tails(sidecar, dataDirectory: dataDirectory, logger)
      try await EventSocket.listen(hub, on: server, path: settings.eventsPath)
      try await listenAPI(sidecar, hub, on: server, logger)
    } catch {
      await running.stop()
      throw error
    }
    return running
  }

  /// A member starts although the others are not there yet: what is read from the store waits for a quorum, as long as it
  /// takes, or until the task is cancelled.
  private func whenAvailable<Value: Sendable>(
    _ logger: Logger, _ read: () async throws(SidecarStoreError) -> Value
  ) async throws -> Value {
    while true {
      do {
        return try await read()
      } catch {
        guard case .unavailable(let why) = error else { throw error }
        logger.warning("the sidecar waits for the cluster", metadata: ["reason": "\(why)"])
      }
      try await Task.sleep(for: Self.retryDelay)
    }
  }

  private func loadHub(
    _ sidecar: Sidecar, _ store: EmbeddedStore, _ layout: StoreLayout, node: String, logger: Logger
  ) async throws(SidecarStoreError) -> EventHub {
    var options = EventHub.Options()
    options.node = node
    options.policyNames = Dictionary(uniqueKeysWithValues: policies.map { ($0.name, Set($0.subscribers)) })
    return try await EventHub.load(
      store: store, layout: layout, journal: sidecar.journal, outcomes: sidecar.outcomes, trimming: sidecar.journal,
      options: options, logger: logger)
  }

  // MARK: Hooks

  private func mapping(_ cache: String) -> HookMapping {
    HookMapping(cache: cache, strippedPrefix: Bytes(settings.stripped[cache] ?? settings.stripped[""] ?? "/"))
  }

  private func startSyslog(_ sidecar: Sidecar, _ logger: Logger) throws -> SyslogHook? {
    guard let path = settings.syslogPath else { return nil }
    let hook = try SyslogHook(
      path: path, mappings: policies.map { mapping($0.name) }, sidecar: sidecar, logger: logger)
    hook.start()
    return hook
  }

  private func tails(_ sidecar: Sidecar, dataDirectory: String, _ logger: Logger) -> [Task<Void, Never>] {
    settings.tails.enumerated().map { number, tail in
      let hook = LogTailHook(
        path: tail.path, statePath: "\(dataDirectory)/tail-\(tail.cache)-\(number).state", mapping: mapping(tail.cache),
        sidecar: sidecar, logger: logger)
      hook.begin()
      return Task { await hook.run() }
    }
  }

  // MARK: API

  private func listenAPI(_ sidecar: Sidecar, _ hub: EventHub, on server: WireServer, _ logger: Logger) async throws {
    guard let api = settings.api else { return }
    var router = HTTPRouter()
    sidecar.addRoutes(to: &router, hub: hub)
    EventHTTP.register(hub, on: &router)
    switch api {
    case .tcp(let host, let port): try await server.listen(host: host, port: port, services: WireServices(http: router))
    case .unix(let path): try await server.listenUnix(path: path, services: WireServices(http: router))
    }
    logger.info("sidecar listening", metadata: ["api": "\(api)", "events": "\(settings.eventsPath)"])
  }
}
