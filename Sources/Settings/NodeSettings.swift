import Primitives

/// The settings of `leasehold node`, typed and checked against each other. Files are not opened here.
package struct NodeSettings: Sendable {
  package struct Sidecar: Sendable, Equatable {
    package enum API: Sendable, Equatable {
      case tcp(host: String, port: Int)
      case unix(path: String)
    }

    /// Policies in flag form, one per cache.
    package var caches: [String]
    package var api: API?
    package var eventsPath: String
    package var syslogPath: String?
    package var tails: [CachePath]
    /// Leading paths by cache; the one under the empty name serves the others.
    package var stripped: [String: String]
    package var prefix: String
  }

  /// `CACHE=PATH` as flags give it.
  package struct CachePath: Sendable, Equatable {
    package var cache: String
    package var path: String
  }

  package enum LogLevel: String, Sendable, CaseIterable { case debug, info, warn, error, panic, fatal }

  package var name: String
  package var dataDirectory: String
  package var listenClientURLs: [ListenURL]
  package var advertiseClientURLs: [ListenURL]
  package var advertisePeerURLs: [ListenURL]
  package var listenMetricsURLs: [ListenURL]
  package var cluster: Cluster
  package var heartbeatIntervalMilliseconds: Int64
  package var electionTimeoutMilliseconds: Int64
  package var maxTransactionOperations: Int
  package var maxRequestBytes: Int
  /// As given: 0 is the default, below 0 no limit.
  package var quotaBackendBytes: Int64
  package var disarmsAlarmsByHand: Bool
  package var watchProgressIntervalMilliseconds: Int64
  package var unsafeNoFsync: Bool
  package var preVote: Bool
  package var autoCompaction: AutoCompactionRule
  package var connections: Connections
  package var logLevel: LogLevel
  package var tls: TLSChoices
  package var clientTLS: ClientTLS?
  package var auth: Auth
  package var sidecar: Sidecar?

  package init(_ raw: RawSettings) throws(SettingsError) {
    let values = SettingValues(raw)
    name = values.text("name")
    guard !name.isEmpty else { throw SettingsError("--name must not be empty") }
    dataDirectory = values.given("data-dir") ?? "\(name).etcd"
    listenClientURLs = try values.urls("listen-client-urls")
    advertiseClientURLs = try values.urls(
      values.given("advertise-client-urls") == nil ? "listen-client-urls" : "advertise-client-urls")
    advertisePeerURLs = try values.urls("initial-advertise-peer-urls")
    listenMetricsURLs = try values.urls("listen-metrics-urls")
    guard !listenClientURLs.isEmpty else { throw SettingsError("--listen-client-urls must name at least one URL") }
    cluster = try Cluster(
      values, name: name, dataDirectory: dataDirectory, advertised: advertisePeerURLs)
    heartbeatIntervalMilliseconds = values.integer("heartbeat-interval")
    electionTimeoutMilliseconds = values.integer("election-timeout")
    maxTransactionOperations = Int(values.integer("max-txn-ops"))
    maxRequestBytes = Int(values.integer("max-request-bytes"))
    quotaBackendBytes = values.integer("quota-backend-bytes")
    disarmsAlarmsByHand = values.flag("quota-alarm-manual")
    watchProgressIntervalMilliseconds = try Self.watchProgressInterval(values)
    unsafeNoFsync = values.flag("unsafe-no-fsync")
    preVote = values.flag("pre-vote")
    autoCompaction = try AutoCompactionRule(values)
    connections = try Connections(values)
    tls = try TLSChoices(values)
    guard let level = LogLevel(rawValue: values.text("log-level")) else {
      throw SettingsError("--log-level '\(values.text("log-level"))' is none of debug, info, warn, error, panic, fatal")
    }
    logLevel = level
    try Self.checkTiming(heartbeat: heartbeatIntervalMilliseconds, election: electionTimeoutMilliseconds)
    auth = try Auth(values)
    tls = try TLSChoices(values)
    clientTLS = try ClientTLS(
      values, dataDirectory: dataDirectory, clientURLs: listenClientURLs, metricsURLs: listenMetricsURLs)
    sidecar = try Self.sidecar(values, dataDirectory: dataDirectory)
  }

  /// As etcd, not below 100 ms, and its default for 0.
  private static func watchProgressInterval(_ values: SettingValues) throws(SettingsError) -> Int64 {
    let old = "experimental-watch-progress-notify-interval"
    let name = values.given(old) == nil ? "watch-progress-notify-interval" : old
    let interval = try values.milliseconds(name)
    return interval == 0 ? 600_000 : max(interval, 100)
  }

  /// etcd's rules: an election must not be tried before five heartbeats could have come, nor take a minute.
  private static func checkTiming(heartbeat: Int64, election: Int64) throws(SettingsError) {
    guard heartbeat > 0, election > 0 else {
      throw SettingsError("--heartbeat-interval and --election-timeout must be at least 1 ms")
    }
    guard election >= 5 * heartbeat else {
      throw SettingsError(
        "--election-timeout[\(election)ms] should be at least as 5 times as --heartbeat-interval[\(heartbeat)ms]")
    }
    guard election <= 50_000 else {
      throw SettingsError("--election-timeout[\(election)ms] is too long, and should be set less than 50000ms")
    }
  }

  private static func sidecar(_ values: SettingValues, dataDirectory: String) throws(SettingsError) -> Sidecar? {
    let caches = values.all("cache")
    let names = SettingDefinition.node.map(\.name).filter { $0.hasPrefix("sidecar-") && values.given($0) != nil }
    guard !caches.isEmpty else {
      if let first = names.first { throw SettingsError("--\(first) needs a cache to serve: give --cache NAME:ttl=7d") }
      return nil
    }
    let api = try values.given("sidecar-api").map { text throws(SettingsError) in try Sidecar.api(text) }
    var tails: [CachePath] = []
    for tail in values.all("sidecar-tail") {
      let parts = tail.split(separator: "=", maxSplits: 1)
      guard parts.count == 2 else { throw SettingsError("--sidecar-tail '\(tail)' is not of the form CACHE=PATH") }
      tails.append(CachePath(cache: String(parts[0]), path: String(parts[1])))
    }
    var stripped = ["": "/"]
    for strip in values.all("sidecar-strip") {
      let parts = strip.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let path = parts.last, path.hasPrefix("/") else {
        throw SettingsError("--sidecar-strip '\(strip)': the path must start with /")
      }
      stripped[parts.count == 2 ? String(parts[0]) : ""] = String(path)
    }
    return Sidecar(
      caches: caches, api: api, eventsPath: values.given("sidecar-events") ?? "\(dataDirectory)/events.sock",
      syslogPath: values.given("sidecar-syslog"), tails: tails, stripped: stripped,
      prefix: values.text("sidecar-prefix"))
  }
}

extension NodeSettings.Sidecar {
  package static func api(_ text: String) throws(SettingsError) -> API {
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard !path.isEmpty else { throw SettingsError("--sidecar-api '\(text)': a path must follow unix:") }
      return .unix(path: path)
    }
    guard let (host, port) = PeerURL.split(text) else {
      throw SettingsError("--sidecar-api '\(text)' is neither host:port nor unix:/path")
    }
    return .tcp(host: host, port: port)
  }
}

/// Raw values with the table's defaults behind them.
struct SettingValues {
  private let raw: RawSettings

  init(_ raw: RawSettings) { self.raw = raw }

  /// nil also for an empty text, which is how etcd's users switch a setting off.
  func given(_ name: String) -> String? { raw.values[name]?.last.flatMap { $0.isEmpty ? nil : $0 } }

  /// Also with an empty text.
  func isGiven(_ name: String) -> Bool { raw.values[name] != nil }

  func all(_ name: String) -> [String] { raw.values[name] ?? [] }

  func text(_ name: String) -> String { raw.values[name]?.last ?? standard(name) }

  func flag(_ name: String) -> Bool { text(name) == "true" }

  /// The reader has checked the digits already.
  func integer(_ name: String) -> Int64 { Int64(text(name)) ?? 0 }

  /// Of a duration. At most a century, so that sums of times stay within their types.
  func milliseconds(_ name: String) throws(SettingsError) -> Int64 {
    let text = text(name)
    guard let milliseconds = GoDuration.milliseconds(text), milliseconds <= 100 * 365 * 86_400_000 else {
      throw SettingsError("--\(name) '\(text)' is no duration, such as 10m or 30s")
    }
    return milliseconds
  }

  func urls(_ name: String) throws(SettingsError) -> [ListenURL] {
    var urls: [ListenURL] = []
    for text in (raw.values[name] ?? [standard(name)]).flatMap({ $0.split(separator: ",") }) where !text.isEmpty {
      urls.append(try ListenURL(String(text), setting: "--\(name)"))
    }
    return urls
  }

  private func standard(_ name: String) -> String {
    guard let definition = SettingDefinition.node.first(where: { $0.name == name }) else {
      preconditionFailure("no setting is called \(name)")
    }
    return definition.standard ?? ""
  }
}
