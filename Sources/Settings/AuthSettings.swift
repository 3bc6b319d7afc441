import Primitives

extension NodeSettings {
  package struct Auth: Sendable, Equatable {
    package enum Tokens: Sendable, Equatable {
      case simple
      case signed(SignedTokens)
    }

    package struct SignedTokens: Sendable, Equatable {
      package var method: String
      package var publicKeyFile: String?
      package var privateKeyFile: String?
      package var ttlMilliseconds: Int64
    }

    package var tokens: Tokens
    /// Of simple tokens.
    package var tokenTTLSeconds: Int64
    package var passwordCost: Int
  }
}

extension NodeSettings.Auth {
  private static let standardTTLSeconds: Int64 = 300
  private static let costs: ClosedRange<Int64> = 4...31

  init(_ values: SettingValues) throws(SettingsError) {
    tokens = try Self.tokens(values.text("auth-token"))
    // As etcd: 0 is the default.
    let ttl = values.integer("auth-token-ttl")
    tokenTTLSeconds = ttl == 0 ? Self.standardTTLSeconds : ttl
    let cost = values.integer("bcrypt-cost")
    guard Self.costs.contains(cost) else {
      throw SettingsError("--bcrypt-cost \(cost) is not between \(Self.costs.lowerBound) and \(Self.costs.upperBound)")
    }
    passwordCost = Int(cost)
  }

  /// `simple`, or `jwt` and its options, as etcd writes them: `name=value` between commas.
  private static func tokens(_ text: String) throws(SettingsError) -> Tokens {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    var options: [Substring: String] = [:]
    for part in parts.dropFirst() {
      let pair = part.split(separator: "=", omittingEmptySubsequences: false)
      guard pair.count == 2, options[pair[0]] == nil else {
        throw SettingsError("--auth-token '\(text)': '\(part)' is no option of the form name=value, or is there twice")
      }
      options[pair[0]] = String(pair[1])
    }
    switch parts[0] {
    case "simple": return .simple
    case "jwt": return .signed(try signedTokens(options, text))
    default: throw SettingsError("--auth-token '\(text)' is neither simple nor jwt")
    }
  }

  private static func signedTokens(
    _ options: [Substring: String], _ text: String
  ) throws(SettingsError) -> NodeSettings.Auth.SignedTokens {
    let known: Set<Substring> = ["sign-method", "pub-key", "priv-key", "ttl"]
    if let other = options.keys.sorted().first(where: { !known.contains($0) }) {
      throw SettingsError("--auth-token '\(text)': there is no option \(other)")
    }
    guard let method = options["sign-method"] else {
      throw SettingsError("--auth-token '\(text)': sign-method is missing")
    }
    var ttl = standardTTLSeconds * 1_000
    if let given = options["ttl"] {
      guard let parsed = DurationText.milliseconds(given), parsed >= 1_000 else {
        throw SettingsError("--auth-token '\(text)': ttl=\(given) is no duration of a second or more, such as 10m")
      }
      ttl = parsed
    }
    return NodeSettings.Auth.SignedTokens(
      method: method, publicKeyFile: options["pub-key"], privateKeyFile: options["priv-key"], ttlMilliseconds: ttl)
  }
}
