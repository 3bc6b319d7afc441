import Settings
import Testing

/// The operator's input: what is taken, in which order, and what each mistake is answered with.
@Suite struct SettingsReaderTests {
  private func read(
    _ arguments: [String] = [], environment: [String: String] = [:], files: [String: String] = [:]
  ) throws -> RawSettings {
    try SettingsReader(SettingDefinition.node).read(arguments: arguments, environment: environment) { name in
      guard let text = files[name] else { throw SettingsError("no such file") }
      return text
    }
  }

  private func message(of body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test func flagsAreReadInGoSyntax() throws {
    let raw = try read(["--name", "n0", "-data-dir=/d", "--client-cert-auth", "--unsafe-no-fsync=false"])
    #expect(raw.values["name"] == ["n0"])
    #expect(raw.values["data-dir"] == ["/d"])
    #expect(raw.values["client-cert-auth"] == ["true"])
    #expect(raw.values["unsafe-no-fsync"] == ["false"])
  }

  @Test func flagGoesBeforeEnvironmentAndEnvironmentBeforeDefault() throws {
    let environment = ["ETCD_NAME": "from-environment", "ETCD_ELECTION_TIMEOUT": "2000"]
    let settings = try NodeSettings(try read(["--name", "from-flag"], environment: environment))
    #expect(settings.name == "from-flag")
    #expect(settings.electionTimeoutMilliseconds == 2_000)
    #expect(settings.heartbeatIntervalMilliseconds == 100)
  }

  @Test func aConfigFileCountsAlone() throws {
    let yaml = """
      name: from-file
      client-transport-security:
        cert-file: /c
      sidecar:
        api: 127.0.0.1:7379
        caches:
          bazel: {ttl: 7d, window: 1h, subscribers: [a, b]}
          ccache:
      """
    let raw = try read(
      ["--config-file", "f", "--name", "from-flag"], environment: ["ETCD_DATA_DIR": "/d"], files: ["f": yaml])
    #expect(raw.values["name"] == ["from-file"])
    #expect(raw.values["data-dir"] == nil)
    #expect(raw.values["cert-file"] == ["/c"])
    #expect(raw.values["cache"] == ["bazel:ttl=7d,window=1h,subscribers=a+b", "ccache"])
    #expect(raw.warnings == ["--name does not count beside --config-file"])
  }

  @Test func mistakesAreNamedWithWhatToDo() throws {
    #expect(message { _ = try read(["--nmae", "x"]) } == "unknown setting '--nmae': did you mean 'name'?")
    #expect(message { _ = try read(["--name"]) } == "--name needs a value")
    #expect(message { _ = try read(["extra"]) } == "unexpected argument 'extra': settings are given as --name value")
    #expect(
      message { _ = try read(["--election-timeout", "soon"]) }
        == "--election-timeout: 'soon' is not a whole number of 0 or more")
    #expect(
      message { _ = try read(["--config-file", "f"], files: ["f": "data_dir: x"]) }
        == "f: unknown setting 'data_dir': did you mean 'data-dir'?")
    #expect(message { _ = try read(["--config-file", "f"]) } == "cannot read the config file f: no such file")
    #expect(
      message { _ = try NodeSettings(try read(["--listen-client-urls", "https://127.0.0.1:1"])) }
        == "--listen-client-urls is https://, but --cert-file is missing")
    #expect(
      message { _ = try NodeSettings(try read(["--listen-client-urls", "127.0.0.1:1"])) }
        == "--listen-client-urls: '127.0.0.1:1' is not a usable URL: it must start with http:// or https://")
    #expect(
      message { _ = try NodeSettings(try read(["--sidecar-api", "127.0.0.1:1"])) }
        == "--sidecar-api needs a cache to serve: give --cache NAME:ttl=7d")
    #expect(
      message { _ = try NodeSettings(try read(["--election-timeout", "400"])) }
        == "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]")
  }

  @Test func ignoredSettingsWarn() throws {
    #expect(try read(["--enable-v2"]).warnings == ["--enable-v2 has no effect: there is no v2 API"])
  }

  @Test func noInputCrashesTheReader() {
    var generator = SystemRandomNumberGenerator()
    let pieces = [
      "name", ":", "\n", "  ", "-", "sidecar", "caches", "{", "}", "[", "]", "'", "\"", "&a", "*a", "\u{0}", "ü",
    ]
    for _ in 0..<2_000 {
      let yaml = (0..<12).map { _ in pieces.randomElement(using: &generator)! }.joined()
      _ = try? read(["--config-file", "f"], files: ["f": yaml])
      _ = try? read((0..<4).map { _ in "-" + pieces.randomElement(using: &generator)! })
    }
  }
}
