extension SettingDefinition {
  /// Every setting of `leasehold node`. etcd's come first, with etcd's names, defaults and meaning.
  package static let node: [SettingDefinition] = member + clientTLS + peerTLS + sidecar + accepted

  private static let member: [SettingDefinition] = [
    .init("name", .text, standard: "default", "Human-readable name for this member."),
    .init("data-dir", .text, "Path to the data directory (default: NAME.etcd)."),
    .init(
      "listen-client-urls", .urls, standard: "http://localhost:2379", "URLs to listen on for client traffic."),
    .init(
      "advertise-client-urls", .urls, standard: "http://localhost:2379", "This member's client URLs, as told to others."
    ),
    .init("listen-peer-urls", .urls, standard: "http://localhost:2380", "URLs to listen on for peer traffic."),
    .init(
      "initial-advertise-peer-urls", .urls, standard: "http://localhost:2380",
      "This member's peer URLs, as told to the cluster."),
    .init("listen-metrics-urls", .urls, "URLs that serve /metrics and /health only."),
    .init("initial-cluster", .text, "Initial members: name=peerURL,… (default: this member alone)."),
    .init("initial-cluster-state", .text, standard: "new", "'new' or 'existing'."),
    .init("initial-cluster-token", .text, standard: "etcd-cluster", "Cluster token for the bootstrap."),
    .init("heartbeat-interval", .milliseconds, standard: "100", "Time of a heartbeat interval in milliseconds."),
    .init("election-timeout", .milliseconds, standard: "1000", "Time for an election to time out in milliseconds."),
    .init(
      "quota-backend-bytes", .signedInteger, standard: "0",
      "Most bytes of keys, values and leases; 0 means 2 GiB, below 0 no limit. Counts what is kept, not the file: deleting "
        + "and compacting makes room without a defragmentation."),
    .init(
      "quota-alarm-manual", .flag,
      "Keep the NOSPACE alarm until it is disarmed, as etcd does. Otherwise it ends below 90 % of the quota."),
    .init("max-txn-ops", .integer, standard: "128", "Most operations in one transaction."),
    .init("max-request-bytes", .integer, standard: "1572864", "Largest client request in bytes."),
    .init(
      "watch-progress-notify-interval", .duration, standard: "10m",
      "How often a quiet watch with progress_notify is told of its progress."),
    .init(
      "experimental-watch-progress-notify-interval", .duration,
      "The name that etcd 3.4 and 3.5 have for watch-progress-notify-interval."),
    .init("config-file", .text, "YAML file; when given, flags and environment do not count."),
    .init("unsafe-no-fsync", .flag, "Do not sync the log. A power cut loses what was acknowledged."),
    .init("log-level", .text, standard: "info", "debug, info, warn, error."),
  ]

  private static let clientTLS: [SettingDefinition] = [
    .init("cert-file", .text, "Certificate of the client port (PEM, chain)."),
    .init("key-file", .text, "Key of the client port (PEM)."),
    .init("client-cert-auth", .flag, "Require client certificates."),
    .init("trusted-ca-file", .text, "CA bundle that client certificates must chain to (PEM)."),
    .init("client-crl-file", .text, "Revocation list for client certificates (PEM)."),
  ]

  private static let peerTLS: [SettingDefinition] =
    ["peer-cert-file", "peer-key-file", "peer-trusted-ca-file"].map {
      .init($0, .text, "", standing: .ignored(why: "a single member has no peers"))
    } + [.init("peer-client-cert-auth", .flag, "", standing: .ignored(why: "a single member has no peers"))]

  private static let sidecar: [SettingDefinition] = [
    .init("cache", .repeated, "A build cache and its policy: NAME:ttl=7d,window=1h,register=on-hit,… (repeatable)."),
    .init("sidecar-api", .text, "Address of the sidecar's HTTP API: host:port or unix:/path."),
    .init("sidecar-events", .text, "Unix socket of the eviction stream (default: DATA-DIR/events.sock)."),
    .init("sidecar-syslog", .text, "Unix datagram socket that takes hits as syslog lines."),
    .init("sidecar-tail", .repeated, "Access log to follow for hits: CACHE=PATH (repeatable)."),
    .init(
      "sidecar-strip", .repeated,
      "Leading path that log lines carry before the key: PATH for every cache or CACHE=PATH (repeatable, default /)."),
    .init("sidecar-prefix", .text, standard: "/leasehold/", "Where the sidecar keeps its keys in the store."),
  ]

  private static let accepted: [SettingDefinition] =
    [
      ("enable-v2", SettingDefinition.Kind.flag, "there is no v2 API"),
      ("enable-pprof", .flag, "there is no Go runtime to profile"),
      ("logger", .text, "there is one log format"),
      ("log-outputs", .text, "the log goes to standard error"),
      ("snapshot-count", .integer, "the state is stored as it changes"),
      ("strict-reconfig-check", .flag, "a single member has nothing to reconfigure"),
      ("pre-vote", .flag, "pre-vote is always on"),
      ("metrics", .text, "all metrics are always served"),
    ].map { SettingDefinition($0.0, $0.1, "", standing: .ignored(why: $0.2)) }
}
