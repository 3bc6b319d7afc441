import Primitives
import Settings
import Testing

/// etcd's settings and what is made of them.
@Suite struct EtcdSettingsTests {
  private func raw(
    _ arguments: [String], _ environment: [String: String] = [:], file: String? = nil
  ) throws -> RawSettings {
    try SettingsReader(SettingDefinition.node).read(arguments: arguments, environment: environment) { _ in file ?? "" }
  }

  private func settings(_ arguments: String...) throws -> NodeSettings { try NodeSettings(try raw(arguments)) }

  private func refusal(_ arguments: String...) -> String {
    do {
      _ = try NodeSettings(try raw(arguments))
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test(arguments: [
    ([], AutoCompactionRule.off),
    (["--auto-compaction-retention=0"], .off), (["--auto-compaction-retention="], .off),
    (["--auto-compaction-retention=2"], .periodic(retentionMilliseconds: 7_200_000)),
    (["--auto-compaction-retention=5m"], .periodic(retentionMilliseconds: 300_000)),
    (["--auto-compaction-retention=1.5h"], .periodic(retentionMilliseconds: 5_400_000)),
    (
      ["--auto-compaction-mode=periodic", "--auto-compaction-retention=1h30m"],
      .periodic(retentionMilliseconds: 5_400_000)
    ),
    (["--auto-compaction-mode=", "--auto-compaction-retention=1s"], .periodic(retentionMilliseconds: 1_000)),
    (["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"], .revision(kept: 1_000)),
    (["--auto-compaction-mode=revision"], .off),
  ])
  func autoCompaction(arguments: [String], rule: AutoCompactionRule) throws {
    #expect(try NodeSettings(try raw(arguments)).autoCompaction == rule)
  }

  @Test func wrongCompactionSettingsAreRefused() {
    #expect(
      refusal("--auto-compaction-mode=daily") == "--auto-compaction-mode 'daily' is neither periodic nor revision")
    for text in ["-1", "soon", "1x", "9999999999999999999", "9223372036854775807", "100000000h", "1.h"] {
      #expect(
        refusal("--auto-compaction-retention=\(text)")
          == "--auto-compaction-retention '\(text)' is neither hours nor a duration, such as 5m or 1h30m")
    }
    #expect(
      refusal("--auto-compaction-mode=revision", "--auto-compaction-retention=5m")
        == "--auto-compaction-retention '5m' is no number of revisions, such as 1000")
  }

  @Test func keepaliveIsEtcdsAndZeroSwitchesItOff() throws {
    let standard = try settings().connections
    #expect(standard.keepaliveMinimumMilliseconds == 5_000)
    #expect(standard.keepaliveIntervalMilliseconds == 7_200_000)
    #expect(standard.keepaliveTimeoutMilliseconds == 20_000)
    #expect(try settings("--grpc-keepalive-interval=0s").connections.keepaliveIntervalMilliseconds == nil)
    #expect(try settings("--grpc-keepalive-timeout=0").connections.keepaliveIntervalMilliseconds == nil)
    #expect(try settings("--grpc-keepalive-min-time=1.5s").connections.keepaliveMinimumMilliseconds == 1_500)
    #expect(try settings("--max-concurrent-streams=4294967295").connections.maxStreams == .max)
    #expect(
      refusal("--grpc-keepalive-min-time=5") == "--grpc-keepalive-min-time '5' is no duration, such as 10m or 30s")
    #expect(refusal("--max-concurrent-streams=0") == "--max-concurrent-streams must be at least 1")
  }

  @Test func versionsAndSuitesOfTLS() throws {
    #expect(try settings().tls == NodeSettings.TLSChoices.standard)
    let chosen = try settings(
      "--tls-min-version=TLS1.2", "--tls-max-version=TLS1.2",
      "--cipher-suites=TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    ).tls
    #expect(chosen.maximum == .tls12)
    #expect(chosen.cipherSuites == ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"])
    #expect(refusal("--tls-min-version=TLS1.1") == "--tls-min-version 'TLS1.1' is neither TLS1.2 nor TLS1.3")
    #expect(
      refusal("--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2")
        == "--tls-min-version TLS1.3 is greater than --tls-max-version TLS1.2")
    #expect(
      refusal("--cipher-suites=TLS_RSA_WITH_RC4_128_SHA").hasPrefix(
        "--cipher-suites: unexpected TLS cipher suite 'TLS_RSA_WITH_RC4_128_SHA'; there are TLS_ECDHE_"))
    #expect(refusal("--tls-min-version=TLS1.3", "--cipher-suites=X").hasPrefix("--cipher-suites cannot be given"))
    #expect(refusal("--cipher-suites=TLS_AES_128_GCM_SHA256").hasPrefix("--cipher-suites names none of TLS 1.2"))
  }

  @Test func clientsNamesNeedClientsCertificates() throws {
    let tls = ["--listen-client-urls=https://h:1", "--cert-file=c", "--key-file=k"]
    let names = ["--client-cert-allowed-hostname=a,b"]
    #expect(
      try NodeSettings(try raw(tls + names + ["--trusted-ca-file=t"])).clientTLS?.allowedHostnames == ["a", "b"])
    #expect(throws: SettingsError.self) { try NodeSettings(try raw(tls + names)) }
  }

  @Test func nothingInTheEnvironmentIsPassedOverInSilence() throws {
    let found = try raw(
      ["--name=flag"],
      ["ETCD_NAME": "shadowed", "ETCD_NMAE": "x", "ETCD_DATA_DIR": "", "ETCDCTL_API": "3", "HOME": "/"])
    #expect(
      found.warnings == ["ETCD_NAME does not count beside --name", "unrecognized environment variable ETCD_NMAE"])
    #expect(found.values["data-dir"] == nil)
    #expect(throws: SettingsError("ETCD_SNAPSHOT_COUNT: 'many' is not a whole number of 0 or more")) {
      try raw([], ["ETCD_SNAPSHOT_COUNT": "many"])
    }
  }

  @Test func emptySettingsAreNoSettings() throws {
    let file =
      "cert-file:\ntrusted-ca-file: ''\ninitial-cluster:\nlisten-metrics-urls: ''\ngrpc-keepalive-interval: 3000000000\n"
    let settings = try NodeSettings(try raw(["--config-file=f"], file: file))
    #expect(settings.clientTLS == nil)
    #expect(settings.listenMetricsURLs == [])
    #expect(settings.connections.keepaliveIntervalMilliseconds == 3_000)
  }
}
