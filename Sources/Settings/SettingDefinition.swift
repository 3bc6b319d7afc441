/// One setting of `leasehold node`: a flag, an environment variable and a key of the config file, all from one line of
/// the table in `NodeSettingsTable.swift`.
package struct SettingDefinition: Sendable {
  package enum Kind: Sendable, Equatable {
    case text
    case flag
    case integer
    /// A whole number that may be below 0.
    case signedInteger
    /// Milliseconds as a plain number (etcd's `heartbeat-interval`).
    case milliseconds
    /// Go's and our duration text: `5m`, `10s`.
    case duration
    /// Comma-separated URLs.
    case urls
    /// May be given several times; each value is kept.
    case repeated
  }

  package enum Standing: Sendable, Equatable {
    case works
    /// etcd knows it and we take it without effect, with a warning that says why.
    case ignored(why: String)
  }

  package var name: String
  package var kind: Kind
  /// As it would be typed; nil for none.
  package var standard: String?
  package var help: String
  package var standing: Standing

  package init(
    _ name: String, _ kind: Kind, standard: String? = nil, _ help: String, standing: Standing = .works
  ) {
    self.name = name
    self.kind = kind
    self.standard = standard
    self.help = help
    self.standing = standing
  }

  /// etcd's rule: `ETCD_` and the flag in upper case with underscores. Settings of our own have `LEASEHOLD_`.
  package var environmentName: String {
    let isOurs =
      ["cache", "quota-alarm-manual", "promote-learners", "crl-check"].contains(name) || name.hasPrefix("sidecar-")
    let prefix = isOurs ? "LEASEHOLD_" : "ETCD_"
    return prefix + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
  }
}

/// What is wrong with what the operator gave: one line that names the setting, where it came from, and what to do.
package struct SettingsError: Error, Hashable, CustomStringConvertible {
  package var description: String

  package init(_ description: String) { self.description = description }
}
