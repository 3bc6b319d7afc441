import Settings
import Testing

/// TLS of the client and peer ports as an operator asks for it, and what each mistake is answered with.
@Suite struct TLSSettingsTests {
  private func settings(_ arguments: [String], files: [String: String] = [:]) throws -> NodeSettings {
    let raw = try SettingsReader(SettingDefinition.node).read(arguments: arguments, environment: [:]) { name in
      guard let text = files[name] else { throw SettingsError("no such file") }
      return text
    }
    return try NodeSettings(raw)
  }

  private func refusal(_ arguments: [String]) -> String {
    do {
      _ = try settings(arguments)
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  private let client = ["--listen-client-urls", "https://127.0.0.1:1,https://localhost:2"]
  private let peer = ["--listen-peer-urls", "https://10.0.0.1:2380"]
  private let peerFiles = ["--peer-cert-file", "c", "--peer-key-file", "k", "--peer-trusted-ca-file", "ca"]

  @Test func autoTLSKeepsItsFilesWhereEtcdDoes() throws {
    let tls = try #require(try settings(client + ["--auto-tls", "--data-dir", "/d"]).clientTLS)
    #expect(tls.certificateFile == "/d/fixtures/client/cert.pem" && tls.keyFile == "/d/fixtures/client/key.pem")
    #expect(
      tls.selfSigned
        == NodeSettings.SelfSigned(directory: "/d/fixtures/client", hosts: ["127.0.0.1", "localhost"], validYears: 1))
    let members = try #require(
      try settings(peer + ["--peer-auto-tls", "--data-dir", "/d", "--self-signed-cert-validity", "5"]).cluster.peerTLS)
    #expect(members.selfSigned?.directory == "/d/fixtures/peer" && members.selfSigned?.validYears == 5)
    #expect(members.trustedCAFile == nil)
    let given = try settings(client + ["--auto-tls", "--cert-file", "c", "--key-file", "k"]).clientTLS
    #expect(given?.selfSigned == nil && given?.certificateFile == "c", "what is given goes first")
  }

  @Test func whatAutoTLSCannotDoIsSaid() {
    #expect(refusal(["--auto-tls"]).contains("no --listen-client-urls starts with https://"))
    #expect(refusal(["--peer-auto-tls"]).contains("no --listen-peer-urls starts with https://"))
    #expect(refusal(client + ["--auto-tls", "--client-cert-auth"]).hasPrefix("--auto-tls checks nobody"))
    #expect(
      refusal(peer + ["--peer-auto-tls", "--peer-trusted-ca-file", "ca"]).hasPrefix("--peer-auto-tls checks nobody"))
    #expect(refusal(client + ["--auto-tls", "--self-signed-cert-validity", "0"]).contains("outside of 1 to 100 years"))
  }

  @Test func membersAreCheckedAsInEtcd() throws {
    let standard = try #require(try settings(peer + peerFiles).cluster.peerTLS)
    #expect(standard.checksAddress && standard.revocationCheck == .strict && standard.trustedCAFile == "ca")
    for flag in ["--peer-skip-client-san-verification", "--experimental-peer-skip-client-san-verification"] {
      #expect(try settings(peer + peerFiles + [flag]).cluster.peerTLS?.checksAddress == false)
    }
    let yaml = """
      listen-peer-urls: https://10.0.0.1:2380
      crl-check: listed
      peer-transport-security:
        cert-file: c
        key-file: k
        trusted-ca-file: ca
        peer-crl-file: crl
        skip-client-san-verification: true
        allowed-cn: member
      listen-client-urls: https://127.0.0.1:1
      data-dir: /d
      client-transport-security:
        auto-tls: true
      """
    let read = try settings(["--config-file", "f"], files: ["f": yaml])
    let tls = try #require(read.cluster.peerTLS)
    #expect(!tls.checksAddress && tls.revocationCheck == .listed && tls.revocationListFile == "crl")
    #expect(tls.allowedName == .commonName("member"))
    #expect(read.clientTLS?.selfSigned != nil)
    #expect(
      refusal(peer + ["--peer-cert-file", "c", "--peer-key-file", "k"]).contains("--peer-trusted-ca-file is missing"))
    #expect(refusal(client + ["--cert-file", "c"]) == "--listen-client-urls is https://, but --key-file is missing")
  }

  @Test func aSecureMetricsPortNeedsACertificateToo() throws {
    let metrics = ["--listen-metrics-urls", "https://127.0.0.1:3"]
    #expect(refusal(metrics) == "--listen-metrics-urls is https://, but --cert-file is missing")
    #expect(try settings(metrics + ["--cert-file", "c", "--key-file", "k"]).clientTLS?.keyFile == "k")
  }

  @Test func versionsSuitesAndListsHaveNames() throws {
    let files = client + ["--cert-file", "c", "--key-file", "k", "--trusted-ca-file", "ca"]
    #expect(refusal(files + ["--crl-check", "maybe"]) == "--crl-check 'maybe' is neither strict nor listed")
    let suites = try settings(
      files + ["--cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256"])
    #expect(suites.tls.cipherSuites == ["ECDHE-RSA-AES128-GCM-SHA256"])
    let unknown = refusal(files + ["--cipher-suites", "TLS_RSA_WITH_RC4_128_SHA"])
    #expect(unknown.contains("unexpected TLS cipher suite 'TLS_RSA_WITH_RC4_128_SHA'; there are TLS_ECDHE_"))
    #expect(refusal(files + ["--tls-min-version", "TLS1.1"]).contains("is neither TLS1.2 nor TLS1.3"))
    #expect(
      refusal(files + ["--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"]).contains("is greater than"))
    #expect(try settings(files + ["--client-cert-allowed-hostname", "a,b"]).clientTLS?.allowedHostnames == ["a", "b"])
  }
}
