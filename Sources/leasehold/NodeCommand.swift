import ArgumentParser
import FoundationEssentials
import Glibc
import Logging
import Settings

/// `leasehold node`. Settings follow etcd's syntax and precedence (Go's flags, environment, config file), which the
/// argument parser cannot express: `Settings` reads them.
struct NodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node", abstract: "Run a cluster member, with the sidecar when a cache is configured.",
    discussion: "Takes etcd's flags, ETCD_* variables and config keys; `leasehold node --help` lists them.")

  @Argument(parsing: .captureForPassthrough) var arguments: [String] = []

  func run() async throws {
    let raw = try SettingsReader(SettingDefinition.node).read(
      arguments: arguments, environment: ProcessInfo.processInfo.environment,
      readFile: { try String(contentsOfFile: $0, encoding: .utf8) })
    if raw.wantsVersion { return print(Leasehold.configuration.version) }
    if raw.wantsHelp { return print(SettingDefinition.helpText) }
    let settings = try NodeSettings(raw)
    let logger = Self.logger(settings)
    for warning in raw.warnings { logger.warning("\(warning)") }
    signal(SIGPIPE, SIG_IGN)
    try await NodeProgram(settings: settings, logger: logger).run()
  }

  private static func logger(_ settings: NodeSettings) -> Logger {
    LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
    var logger = Logger(label: "leasehold")
    logger.logLevel =
      switch settings.logLevel {
      case .debug: .debug
      case .info: .info
      case .warn: .warning
      case .error: .error
      case .panic, .fatal: .critical
      }
    return logger
  }
}

extension SettingDefinition {
  fileprivate static var helpText: String {
    var text = "USAGE: leasehold node [--name value | --name=value] …\n\n"
    for definition in node where definition.standing == .works {
      let standard = definition.standard.map { " (default \($0))" } ?? ""
      text += "  --\(definition.name)\n        \(definition.help)\(standard)\n"
    }
    text += "\nEach is read from \(node[0].environmentName)-like variables too; --config-file replaces both.\n"
    let ignored = node.filter { $0.standing != .works }.map { "--\($0.name)" }
    return text + "\nTaken without effect, with a warning: \(ignored.joined(separator: ", "))"
  }
}
