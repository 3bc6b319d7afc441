import Yams

/// Raw values by setting name, and what should be said about them.
package struct RawSettings: Sendable {
  /// Each value as text; flags are "true" or "false". Only what was given.
  package var values: [String: [String]] = [:]
  package var warnings: [String] = []
  package var wantsHelp = false
  package var wantsVersion = false

  package init() {}
}

/// Collects settings from the command line (Go's syntax: `--name value`, `--name=value`, one dash or two, flags with an
/// optional `=true`), the environment and the config file, with etcd's precedence: the config file alone when given,
/// otherwise flags over environment over defaults.
package struct SettingsReader {
  private let definitions: [SettingDefinition]
  private let byName: [String: SettingDefinition]

  package init(_ definitions: [SettingDefinition]) {
    self.definitions = definitions
    byName = Dictionary(uniqueKeysWithValues: definitions.map { ($0.name, $0) })
  }

  package func read(
    arguments: [String], environment: [String: String], readFile: (String) throws -> String
  ) throws(SettingsError) -> RawSettings {
    var settings = RawSettings()
    try parse(arguments, into: &settings)
    if settings.wantsHelp || settings.wantsVersion { return settings }
    let fileName = settings.values["config-file"]?.last ?? environment["ETCD_CONFIG_FILE"] ?? ""
    if !fileName.isEmpty {
      var fromFile = try parseFile(fileName, readFile)
      fromFile.warnings += others(than: "config-file", in: settings)
      return warned(fromFile)
    }
    try readEnvironment(environment, into: &settings)
    return warned(settings)
  }

  /// As etcd: an empty variable is as good as none, and nothing of the operator's is passed over in silence.
  private func readEnvironment(
    _ environment: [String: String], into settings: inout RawSettings
  ) throws(SettingsError) {
    for definition in definitions {
      let variable = definition.environmentName
      guard let value = environment[variable], !value.isEmpty else { continue }
      if settings.values[definition.name] != nil {
        settings.warnings.append("\(variable) does not count beside --\(definition.name)")
      } else {
        settings.values[definition.name] = [try checked(value, definition, source: variable)]
      }
    }
    let known = Set(definitions.map(\.environmentName))
    for name in environment.keys.sorted() where name.hasPrefix("ETCD_") && !known.contains(name) {
      settings.warnings.append("unrecognized environment variable \(name)")
    }
  }

  private func others(than name: String, in settings: RawSettings) -> [String] {
    settings.values.keys.filter { $0 != name }.sorted().map { "--\($0) does not count beside --config-file" }
  }

  private func warned(_ settings: RawSettings) -> RawSettings {
    var settings = settings
    for name in settings.values.keys.sorted() {
      if case .ignored(let why) = byName[name]?.standing { settings.warnings.append("--\(name) has no effect: \(why)") }
    }
    return settings
  }

  // MARK: Command line

  private func parse(_ arguments: [String], into settings: inout RawSettings) throws(SettingsError) {
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      guard argument.hasPrefix("-"), argument.count > 1 else {
        throw SettingsError("unexpected argument '\(argument)': settings are given as --name value")
      }
      let body = argument.drop { $0 == "-" }
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      if name == "help" || name == "h" { settings.wantsHelp = true; continue }
      if name == "version" { settings.wantsVersion = true; continue }
      guard let definition = byName[name] else { throw unknown("--\(name)", name) }
      let value: String
      if parts.count == 2 {
        value = String(parts[1])
      } else if definition.kind == .flag {
        value = "true"
      } else if let next = rest.popFirst() {
        value = next
      } else {
        throw SettingsError("--\(name) needs a value")
      }
      let checkedValue = try checked(value, definition, source: "--\(name)")
      if definition.kind == .repeated {
        settings.values[name, default: []].append(checkedValue)
      } else {
        settings.values[name] = [checkedValue]
      }
    }
  }

  private func unknown(_ shown: String, _ name: String) -> SettingsError {
    let nearest = definitions.map { ($0.name, editDistance($0.name, name)) }.min { $0.1 < $1.1 }
    let hint = nearest.flatMap { $0.1 <= max(2, name.count / 3) ? ": did you mean '\($0.0)'?" : nil } ?? ""
    return SettingsError("unknown setting '\(shown)'\(hint)")
  }

  // MARK: Config file

  private func parseFile(_ fileName: String, _ readFile: (String) throws -> String) throws(SettingsError) -> RawSettings
  {
    let document: Node?
    do {
      document = try Yams.compose(yaml: try readFile(fileName))
    } catch {
      throw SettingsError("cannot read the config file \(fileName): \(error)".replacing("\n", with: " "))
    }
    var settings = RawSettings()
    guard let document, document != .scalar(.init("")) else { return settings }
    guard let mapping = document.mapping else {
      throw SettingsError("config file \(fileName): expected 'name: value' lines")
    }
    for (key, value) in mapping {
      let name = key.string ?? ""
      let place = "\(fileName), key '\(name)'"
      if name == "sidecar" {
        try readSidecar(value, file: fileName, into: &settings)
      } else if let keys = Self.transportSecurityKeys[name] {
        try readTransportSecurity(value, section: name, keys, file: fileName, into: &settings)
      } else if let definition = byName[name] {
        settings.values[name] = try texts(of: value, place: place).checked { value throws(SettingsError) in
          try checked(definition.kind == .duration ? Self.duration(value) : value, definition, source: place)
        }
      } else {
        throw SettingsError("\(fileName): " + unknown(name, name).description)
      }
    }
    return settings
  }

  /// A plain number in etcd's file is nanoseconds.
  private static func duration(_ text: String) -> String {
    Int64(text).map { $0 == 0 ? "0" : "\($0 / 1_000_000)ms" } ?? text
  }

  /// etcd's sections of the file: their keys, and the flags that these stand for.
  private static let transportSecurityKeys = [
    "client-transport-security": [
      "cert-file": "cert-file", "key-file": "key-file", "client-cert-auth": "client-cert-auth",
      "trusted-ca-file": "trusted-ca-file", "client-crl-file": "client-crl-file",
      "crl-file": "client-crl-file", "auto-tls": "auto-tls", "allowed-hostname": "client-cert-allowed-hostname",
      "client-cert-allowed-hostname": "client-cert-allowed-hostname",
    ],
    "peer-transport-security": [
      "cert-file": "peer-cert-file", "key-file": "peer-key-file", "client-cert-auth": "peer-client-cert-auth",
      "trusted-ca-file": "peer-trusted-ca-file", "peer-crl-file": "peer-crl-file",
      "crl-file": "peer-crl-file", "auto-tls": "peer-auto-tls",
      "skip-client-san-verification": "peer-skip-client-san-verification", "allowed-cn": "peer-cert-allowed-cn",
      "allowed-hostname": "peer-cert-allowed-hostname",
    ],
  ]

  private func readTransportSecurity(
    _ content: Node, section: String, _ keys: [String: String], file: String, into settings: inout RawSettings
  ) throws(SettingsError) {
    guard let mapping = content.mapping else {
      throw SettingsError("\(file): \(section) must hold 'name: value' lines")
    }
    for (key, value) in mapping {
      let name = key.string ?? ""
      guard let flag = keys[name], let definition = byName[flag] else {
        throw SettingsError("\(file): unknown key '\(section).\(name)'")
      }
      let place = "\(file), key '\(section).\(name)'"
      settings.values[flag] = try texts(of: value, place: place).checked { value throws(SettingsError) in
        try checked(value, definition, source: place)
      }
    }
  }

  /// `sidecar:` holds `api`, `events`, … (the flags without `sidecar-`) and `caches:`, a map of policies.
  private func readSidecar(_ section: Node, file: String, into settings: inout RawSettings) throws(SettingsError) {
    guard let mapping = section.mapping else { throw SettingsError("\(file): sidecar must hold 'name: value' lines") }
    for (key, value) in mapping {
      let name = key.string ?? ""
      let place = "\(file), key 'sidecar.\(name)'"
      if name == "caches" {
        settings.values["cache", default: []] += try cachePolicies(value, file: file)
      } else if let definition = byName["sidecar-" + name] {
        settings.values[definition.name] = try texts(of: value, place: place).checked { value throws(SettingsError) in
          try checked(value, definition, source: place)
        }
      } else {
        throw SettingsError("\(file): " + unknown("sidecar.\(name)", "sidecar-" + name).description)
      }
    }
  }

  /// Turns the YAML form of a policy into the flag's form, so that there is one parser of policies.
  private func cachePolicies(_ section: Node, file: String) throws(SettingsError) -> [String] {
    guard let mapping = section.mapping else {
      throw SettingsError("\(file): sidecar.caches must map each cache's name to its policy")
    }
    var policies: [String] = []
    for (key, value) in mapping {
      let name = key.string ?? ""
      var fields: [String] = []
      if value != .scalar(.init("")), value.null == nil {
        guard let policy = value.mapping else {
          throw SettingsError("\(file): sidecar.caches.\(name) must hold 'name: value' lines")
        }
        for (field, content) in policy {
          let fieldName = field.string ?? ""
          let values = try texts(of: content, place: "\(file), key 'sidecar.caches.\(name).\(fieldName)'")
          fields.append("\(fieldName)=\(values.joined(separator: "+"))")
        }
      }
      policies.append(fields.isEmpty ? name : "\(name):\(fields.joined(separator: ","))")
    }
    return policies
  }

  private func texts(of node: Node, place: String) throws(SettingsError) -> [String] {
    if let sequence = node.sequence {
      var texts: [String] = []
      for element in sequence {
        guard let text = element.scalar?.string else {
          throw SettingsError("\(place): a list of plain values is expected")
        }
        texts.append(text)
      }
      return texts
    }
    guard let text = node.scalar?.string else { throw SettingsError("\(place): a plain value is expected") }
    return [text]
  }

  // MARK: Values

  private func checked(_ value: String, _ definition: SettingDefinition, source: String) throws(SettingsError) -> String
  {
    switch definition.kind {
    case .flag:
      switch value.lowercased() {
      case "true", "1", "t": return "true"
      case "false", "0", "f": return "false"
      default: throw SettingsError("\(source): '\(value)' is neither true nor false")
      }
    case .integer, .milliseconds:
      guard let number = Int64(value), number >= 0 else {
        throw SettingsError("\(source): '\(value)' is not a whole number of 0 or more")
      }
      return value
    case .signedInteger:
      guard Int64(value) != nil else { throw SettingsError("\(source): '\(value)' is not a whole number") }
      return value
    case .text, .duration, .urls, .repeated: return value
    }
  }
}

extension Array where Element == String {
  fileprivate func checked(_ check: (String) throws(SettingsError) -> String) throws(SettingsError) -> [String] {
    var result: [String] = []
    for element in self { result.append(try check(element)) }
    return result
  }
}

/// Levenshtein's distance, for "did you mean".
func editDistance(_ left: String, _ right: String) -> Int {
  let target = Array(right.utf8)
  var row = Array(0...target.count)
  for (line, letter) in left.utf8.enumerated() {
    var diagonal = row[0]
    row[0] = line + 1
    for column in target.indices {
      let substitution = diagonal + (letter == target[column] ? 0 : 1)
      diagonal = row[column + 1]
      row[column + 1] = min(substitution, row[column] + 1, row[column + 1] + 1)
    }
  }
  return row[target.count]
}
