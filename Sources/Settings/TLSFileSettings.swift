extension NodeSettings {
  /// A certificate of the node's own making, where none is given (etcd's auto-tls).
  package struct SelfSigned: Sendable, Equatable {
    /// Holds `cert.pem` and `key.pem`.
    package var directory: String
    /// Names and addresses that it is for.
    package var hosts: [String]
    package var validYears: Int

    package init(directory: String, hosts: [String], validYears: Int) {
      self.directory = directory
      self.hosts = hosts
      self.validYears = validYears
    }
  }

  /// How revocation lists are used.
  package enum RevocationCheck: String, Sendable {
    /// Every certificate must be covered by a current list of its issuer.
    case strict
    /// As etcd does: who is on the list is refused.
    case listed
  }

  /// TLS of the client and metrics ports.
  package struct ClientTLS: Sendable, Equatable {
    package var certificateFile: String
    package var keyFile: String
    /// Client certificates are demanded and must chain to this bundle; nil: none is asked for.
    package var trustedCAFile: String?
    /// The common names of certificates are users, once users count.
    package var namesAreUsers = false
    package var revocationListFile: String?
    package var revocationCheck = RevocationCheck.strict
    /// A client's certificate must state one of these names; empty: none in particular.
    package var allowedHostnames: [String] = []
    /// Makes the two files when they are not there.
    package var selfSigned: SelfSigned?
  }

  package struct PeerTLS: Sendable, Equatable {
    package var certificateFile: String
    package var keyFile: String
    /// Members must show a certificate that chains to the bundle. nil only with `selfSigned`.
    package var trustedCAFile: String?
    package var revocationListFile: String?
    package var revocationCheck = RevocationCheck.strict
    /// Of the certificates that members show: nothing else is let in.
    package var allowedName: AllowedName?
    /// A member's certificate must speak of the address that it comes from.
    package var checksAddress = true
    /// Makes the two files when they are not there. Members then encrypt and do not check each other.
    package var selfSigned: SelfSigned?
  }

  package enum AllowedName: Sendable, Equatable {
    case commonName(String)
    case hostname(String)
  }
}

extension NodeSettings.ClientTLS {
  /// Nil when no port has TLS.
  init?(
    _ values: SettingValues, dataDirectory: String, clientURLs: [ListenURL], metricsURLs: [ListenURL]
  ) throws(SettingsError) {
    let urls = clientURLs + metricsURLs
    let place = clientURLs.contains(where: \.isSecure) ? "--listen-client-urls" : "--listen-metrics-urls"
    guard urls.contains(where: \.isSecure) else {
      if values.given("cert-file") != nil || values.given("key-file") != nil || values.flag("auto-tls") {
        throw SettingsError(
          "--cert-file, --key-file or --auto-tls are given, but no --listen-client-urls starts with https://")
      }
      return nil
    }
    guard let own = try OwnCertificate(values, "", dataDirectory, kind: "client", urls, place: place) else {
      return nil
    }
    (certificateFile, keyFile, selfSigned) = (own.certificateFile, own.keyFile, own.selfSigned)
    trustedCAFile = values.given("trusted-ca-file")
    namesAreUsers = values.flag("client-cert-auth")
    if values.flag("client-cert-auth"), trustedCAFile == nil {
      throw SettingsError("--client-cert-auth needs --trusted-ca-file: whose clients are to be let in?")
    }
    revocationListFile = values.given("client-crl-file")
    if revocationListFile != nil, trustedCAFile == nil {
      throw SettingsError("--client-crl-file needs --trusted-ca-file")
    }
    revocationCheck = try NodeSettings.RevocationCheck(values)
    allowedHostnames = values.all("client-cert-allowed-hostname").flatMap { $0.split(separator: ",") }.map(String.init)
    if !allowedHostnames.isEmpty, trustedCAFile == nil {
      throw SettingsError("--client-cert-allowed-hostname needs --client-cert-auth and --trusted-ca-file")
    }
  }
}

extension NodeSettings.PeerTLS {
  /// Nil when no peer port has TLS.
  init?(_ values: SettingValues, dataDirectory: String, listening urls: [ListenURL]) throws(SettingsError) {
    guard urls.contains(where: \.isSecure) else {
      let isGiven = values.given("peer-cert-file") != nil || values.given("peer-key-file") != nil
      if isGiven || values.flag("peer-auto-tls") {
        throw SettingsError(
          "--peer-cert-file, --peer-key-file or --peer-auto-tls are given, but no --listen-peer-urls starts with https://"
        )
      }
      return nil
    }
    let place = "--listen-peer-urls"
    guard let own = try OwnCertificate(values, "peer-", dataDirectory, kind: "peer", urls, place: place) else {
      return nil
    }
    (certificateFile, keyFile, selfSigned) = (own.certificateFile, own.keyFile, own.selfSigned)
    trustedCAFile = values.given("peer-trusted-ca-file")
    revocationListFile = values.given("peer-crl-file")
    if values.flag("peer-client-cert-auth"), trustedCAFile == nil {
      throw SettingsError("--peer-client-cert-auth needs --peer-trusted-ca-file: which members are to be let in?")
    }
    if revocationListFile != nil, trustedCAFile == nil {
      throw SettingsError("--peer-crl-file needs --peer-trusted-ca-file")
    }
    revocationCheck = try NodeSettings.RevocationCheck(values)
    allowedName = try Self.allowedName(values)
    if trustedCAFile == nil, selfSigned == nil {
      throw SettingsError("--peer-trusted-ca-file is missing: it says which members to trust")
    }
    if allowedName != nil, trustedCAFile == nil {
      throw SettingsError("--peer-cert-allowed-cn and --peer-cert-allowed-hostname need --peer-trusted-ca-file")
    }
    checksAddress =
      !values.flag("peer-skip-client-san-verification")
      && !values.flag("experimental-peer-skip-client-san-verification")
  }

  private static func allowedName(_ values: SettingValues) throws(SettingsError) -> NodeSettings.AllowedName? {
    switch (values.given("peer-cert-allowed-cn"), values.given("peer-cert-allowed-hostname")) {
    case (nil, nil): return nil
    case (let name?, nil): return .commonName(name)
    case (nil, let name?): return .hostname(name)
    case (_?, _?):
      throw SettingsError("--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive")
    }
  }
}

extension NodeSettings.RevocationCheck {
  fileprivate init(_ values: SettingValues) throws(SettingsError) {
    let text = values.text("crl-check")
    guard let check = Self(rawValue: text) else {
      throw SettingsError("--crl-check '\(text)' is neither strict nor listed")
    }
    self = check
  }
}

/// The files of a port's own certificate: those that are given, or those that auto-tls keeps.
private struct OwnCertificate {
  var certificateFile: String
  var keyFile: String
  var selfSigned: NodeSettings.SelfSigned?

  /// - Parameters:
  ///   - prefix: of the flags' names.
  ///   - kind: the folder's name, as in etcd.
  ///   - place: the flag that asks for TLS.
  init?(
    _ values: SettingValues, _ prefix: String, _ dataDirectory: String, kind: String, _ urls: [ListenURL], place: String
  ) throws(SettingsError) {
    switch (values.given("\(prefix)cert-file"), values.given("\(prefix)key-file"), values.flag("\(prefix)auto-tls")) {
    case (let certificate?, let key?, _):
      // As in etcd, what is given goes before what would be made.
      (certificateFile, keyFile) = (certificate, key)
    case (nil, nil, true):
      guard !values.flag("\(prefix)client-cert-auth"), values.given("\(prefix)trusted-ca-file") == nil else {
        throw SettingsError(
          "--\(prefix)auto-tls checks nobody: certificates are demanded with --\(prefix)cert-file and --\(prefix)key-file"
        )
      }
      let years = values.integer("self-signed-cert-validity")
      guard (1...100).contains(years) else {
        throw SettingsError("--self-signed-cert-validity \(years) is outside of 1 to 100 years")
      }
      let directory = "\(dataDirectory)/fixtures/\(kind)"
      (certificateFile, keyFile) = ("\(directory)/cert.pem", "\(directory)/key.pem")
      selfSigned = NodeSettings.SelfSigned(directory: directory, hosts: Self.hosts(urls), validYears: Int(years))
    case (nil, _, _): throw SettingsError("\(place) is https://, but --\(prefix)cert-file is missing")
    case (_, nil, _): throw SettingsError("\(place) is https://, but --\(prefix)key-file is missing")
    }
  }

  private static func hosts(_ urls: [ListenURL]) -> [String] {
    var hosts: [String] = []
    for url in urls {
      guard url.isSecure, case .tcp(let host, _) = url.address, !hosts.contains(host) else { continue }
      hosts.append(host)
    }
    return hosts
  }
}
