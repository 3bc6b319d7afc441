import Primitives
import Settings
import Testing

/// Who is to be in the cluster, as the operator says it.
@Suite struct InitialClusterTests {
  private func settings(_ arguments: String...) throws -> NodeSettings {
    let raw = try SettingsReader(SettingDefinition.node).read(arguments: arguments, environment: [:]) { _ in "" }
    return try NodeSettings(raw)
  }

  private func message(of body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  private func parse(_ text: String) throws -> InitialCluster { try InitialCluster.parse(text, token: "t") }

  @Test func namesUrlsAndTheirOrder() throws {
    let cluster = try parse("b=http://b:2380,a=https://a2:1,a=http://a1:2380/")
    #expect(
      cluster.members == [
        .init(name: "a", peerURLs: ["http://a1:2380", "https://a2:1"]),
        .init(name: "b", peerURLs: ["http://b:2380"]),
      ])
    #expect(cluster.text == "a=http://a1:2380,a=https://a2:1,b=http://b:2380")
  }

  @Test func everyMemberDerivesTheSameIDs() throws {
    let one = try parse("a=http://a:1,b=http://b:1,b=http://b:2")
    let other = try parse("b=http://b:2,b=http://b:1,a=http://a:1")
    #expect(one == other && one.clusterID == other.clusterID)
    let ids = one.members.map(one.id(of:))
    #expect(ids == other.members.map(other.id(of:)) && Set(ids).count == 2)
    var further = try [
      parse("a=http://a:1,b=http://b:1"), parse("a=http://a:1,b=http://b:1,b=http://b:3"),
      InitialCluster.parse(one.text, token: "u"),
    ].map(\.clusterID)
    further.append(one.clusterID)
    #expect(Set(further).count == 4)
    // URLs do not run into each other or into the token.
    let apart: [([String], String)] = [(["ab", "c"], "t"), (["a", "bc"], "t"), (["abc"], "t"), (["ab"], "ct")]
    #expect(Set(apart.map { InitialCluster.memberID(peerURLs: $0.0, token: $0.1) }).count == 4)
  }

  @Test func aMemberThatComesLaterIsSomebodyElse() {
    let ids = [nil, 0, 1, 1_700_000_000, 1_700_000_001].map {
      InitialCluster.memberID(peerURLs: ["http://a:1"], token: "t", addedAtSeconds: $0)
    }
    #expect(Set(ids).count == 5 && !ids.contains(0))
  }

  @Test func mistakesAreToldInEtcdsWords() throws {
    #expect(message { _ = try parse("a") } == "--initial-cluster 'a' is not of the form name=URL")
    #expect(message { _ = try parse("") } == "--initial-cluster '' is not of the form name=URL")
    #expect(message { _ = try parse("=http://a:1") } == "--initial-cluster '=http://a:1' is not of the form name=URL")
    #expect(message { _ = try parse("a=") } == "--initial-cluster: empty URL given for \"a\"")
    #expect(
      message { _ = try parse("a=http://x:1,b=http://x:1") }
        == "--initial-cluster: initial cluster a=http://x:1,b=http://x:1 has duplicate url")
    #expect(
      message { _ = try parse("a=ftp://x:1") }
        == "--initial-cluster: 'ftp://x:1' is not a usable URL: it must start with http:// or https://")
    #expect(
      message { _ = try parse("a=http://x:1/p") }
        == "--initial-cluster: 'http://x:1/p' is not a usable URL: it must not contain a path")
    #expect(
      message { _ = try parse("a=http://x") }
        == "--initial-cluster: 'http://x' is not a usable URL: it must name host:port")
    let cluster = try parse("a=http://a:1,b=http://b:1,b=http://b:2")
    #expect(
      message { try cluster.check(name: "c", advertisedPeerURLs: []) }
        == "couldn't find local name \"c\" in the initial cluster configuration \(cluster.text)")
    #expect(
      message { try cluster.check(name: "b", advertisedPeerURLs: ["http://b:2"]) }
        == "--initial-cluster has b=http://b:1 but missing from --initial-advertise-peer-urls=http://b:2")
    #expect(
      message { try cluster.check(name: "a", advertisedPeerURLs: ["http://a:1", "http://a:9"]) }
        == "--initial-advertise-peer-urls has a=http://a:9 but missing from --initial-cluster=a=http://a:1")
    #expect(message { try cluster.check(name: "b", advertisedPeerURLs: ["http://b:2", "http://b:1"]) } == "no error")
  }

  // MARK: Settings

  @Test func aloneUnlessTold() throws {
    let alone = try settings("--name", "n", "--initial-advertise-peer-urls", "http://h:2380").cluster
    #expect(alone.initial.members == [.init(name: "n", peerURLs: ["http://h:2380"])])
    #expect(alone.state == .new && alone.strictReconfigurationCheck && !alone.isForcedNew && alone.peerTLS == nil)
    #expect(alone.keptEntries == 100_000)
    #expect(alone.listenPeerURLs.isEmpty)
  }

  @Test func everythingThatIsSaidOfACluster() throws {
    let cluster = try settings(
      "--name", "a", "--initial-cluster", "a=https://a:1,b=https://b:1", "--initial-cluster-token", "tok",
      "--initial-cluster-state=existing", "--initial-advertise-peer-urls", "https://a:1", "--listen-peer-urls",
      "https://0.0.0.0:1", "--peer-cert-file", "c", "--peer-key-file", "k", "--peer-trusted-ca-file", "t",
      "--peer-client-cert-auth", "--peer-crl-file", "r", "--peer-cert-allowed-cn", "member",
      "--strict-reconfig-check=false", "--force-new-cluster", "--snapshot-count", "500"
    ).cluster
    #expect(cluster.initial.token == "tok" && cluster.initial.members.map(\.name) == ["a", "b"])
    #expect(cluster.state == .existing && !cluster.strictReconfigurationCheck && cluster.isForcedNew)
    #expect(cluster.keptEntries == 500)
    let tls = try #require(cluster.peerTLS)
    #expect(tls.certificateFile == "c" && tls.keyFile == "k" && tls.trustedCAFile == "t")
    #expect(tls.revocationListFile == "r" && tls.allowedName == .commonName("member"))
  }

  @Test func whatDoesNotGoTogetherIsRefused() {
    let secure = ["--listen-peer-urls", "https://h:1"]
    let files = ["--peer-cert-file", "c", "--peer-key-file", "k"]
    let mistakes: [([String], String)] = [
      (["--initial-cluster-state", "old"], "--initial-cluster-state 'old' is neither new nor existing"),
      (["--listen-peer-urls", ""], "--listen-peer-urls must name at least one URL"),
      (secure, "--listen-peer-urls is https://, but --peer-cert-file is missing"),
      (secure + files.prefix(2), "--listen-peer-urls is https://, but --peer-key-file is missing"),
      (
        files,
        "--peer-cert-file, --peer-key-file or --peer-auto-tls are given, but no --listen-peer-urls starts with https://"
      ),
      (
        secure + files + ["--peer-client-cert-auth"],
        "--peer-client-cert-auth needs --peer-trusted-ca-file: which members are to be let in?"
      ),
      (secure + files + ["--peer-crl-file", "r"], "--peer-crl-file needs --peer-trusted-ca-file"),
      (
        secure + files + ["--peer-cert-allowed-cn", "x"],
        "--peer-trusted-ca-file is missing: it says which members to trust"
      ),
      (
        secure + files + ["--peer-cert-allowed-cn", "x", "--peer-cert-allowed-hostname", "y"],
        "--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive"
      ),
    ]
    for (arguments, expected) in mistakes {
      let found = message {
        _ = try NodeSettings(
          try SettingsReader(SettingDefinition.node).read(arguments: arguments, environment: [:]) { _ in "" })
      }
      #expect(found == expected, "\(arguments)")
    }
  }

  @Test func theConfigFileHasASectionForPeers() throws {
    let yaml = """
      name: a
      listen-peer-urls: https://h:1
      initial-cluster: a=https://h:1
      initial-advertise-peer-urls: https://h:1
      peer-transport-security:
        cert-file: c
        key-file: k
        client-cert-auth: true
        trusted-ca-file: t
        allowed-hostname: h
      """
    let raw = try SettingsReader(SettingDefinition.node).read(
      arguments: ["--config-file", "f"], environment: [:], readFile: { _ in yaml })
    let tls = try #require(try NodeSettings(raw).cluster.peerTLS)
    #expect(tls.certificateFile == "c" && tls.allowedName == .hostname("h"))
    let wrong = message {
      _ = try SettingsReader(SettingDefinition.node).read(
        arguments: ["--config-file", "f"], environment: [:], readFile: { _ in "peer-transport-security: {key: k}" })
    }
    #expect(wrong == "f: unknown key 'peer-transport-security.key'")
  }

  @Test func etcdsOtherFlagsAreTakenWithAReason() throws {
    let flags = [
      "--discovery=https://d", "--proxy=off", "--backend-batch-limit=5", "--experimental-max-learners=3",
      "--experimental-initial-corrupt-check", "--initial-election-tick-advance=false", "--max-wals=3",
    ]
    let raw = try SettingsReader(SettingDefinition.node).read(arguments: flags, environment: [:]) { _ in "" }
    #expect(raw.warnings.count == flags.count)
    _ = try NodeSettings(raw)
  }
}
