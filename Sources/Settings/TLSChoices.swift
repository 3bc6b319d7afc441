extension NodeSettings {
  /// Which TLS is spoken on every port: `--tls-min-version`, `--tls-max-version`, `--cipher-suites`.
  package struct TLSChoices: Sendable, Equatable {
    package enum Version: String, Sendable, Comparable {
      case tls12 = "TLS1.2"
      case tls13 = "TLS1.3"

      package static func < (left: Version, right: Version) -> Bool { left == .tls12 && right == .tls13 }
    }

    package var minimum: Version
    /// nil: the newest.
    package var maximum: Version?
    /// Suites of TLS 1.2 by their names in OpenSSL, in the order given; those of TLS 1.3 cannot be chosen. nil: the
    /// library's choice.
    package var cipherSuites: [String]?

    package static let standard = TLSChoices(minimum: .tls12)
  }
}

extension NodeSettings.TLSChoices {
  /// etcd's rules (`embed.Config.Validate`).
  init(_ values: SettingValues) throws(SettingsError) {
    minimum = try Self.version(values, "tls-min-version") ?? .tls12
    maximum = try Self.version(values, "tls-max-version")
    if let maximum, maximum < minimum {
      throw SettingsError(
        "--tls-min-version \(minimum.rawValue) is greater than --tls-max-version \(maximum.rawValue)")
    }
    let names = values.all("cipher-suites").flatMap { $0.split(separator: ",") }.map { $0.trimmed }.filter {
      !$0.isEmpty
    }
    guard !names.isEmpty else { return }
    guard minimum == .tls12 else {
      throw SettingsError("--cipher-suites cannot be given when TLS 1.3 alone is spoken: its suites cannot be chosen")
    }
    var suites: [String] = []
    for name in names where !Self.suitesOfTLS13.contains(name) {
      guard let suite = Self.suites[name] else {
        let known = Self.suites.keys.sorted().joined(separator: ", ")
        throw SettingsError("--cipher-suites: unexpected TLS cipher suite '\(name)'; there are \(known)")
      }
      suites.append(suite)
    }
    guard !suites.isEmpty else {
      throw SettingsError("--cipher-suites names none of TLS 1.2; --tls-min-version TLS1.3 switches that off")
    }
    cipherSuites = suites
  }

  private static func version(_ values: SettingValues, _ name: String) throws(SettingsError) -> Version? {
    guard let text = values.given(name) else { return nil }
    guard let version = Version(rawValue: text) else {
      throw SettingsError("--\(name) '\(text)' is neither TLS1.2 nor TLS1.3")
    }
    return version
  }

  private static let suitesOfTLS13: Set<String> = [
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
  ]

  /// Go's names, which etcd's users write, and OpenSSL's. Go also has suites with RC4, 3DES and CBC with SHA-256: there
  /// is no code for these here.
  private static let suites: [String: String] = [
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
  ]
}

extension Substring {
  fileprivate var trimmed: String {
    var text = self
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return String(text)
  }
}
