extension SettingDefinition {
  /// Every setting of `leasehold node`. etcd's come first, with etcd's names, defaults and meaning.
  package static let node: [SettingDefinition] = member + auth + clientTLS + peerTLS + sidecar + accepted

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
    .init(
      "initial-cluster-state", .text, standard: "new",
      "'new' begins a cluster with its other members, 'existing' joins one that runs."),
    .init("initial-cluster-token", .text, standard: "etcd-cluster", "Cluster token for the bootstrap."),
    .init(
      "strict-reconfig-check", .flag, standard: "true",
      "Refuse a change of members that could cost the cluster its quorum."),
    .init("promote-learners", .flag, "Make learners voters as soon as they have caught up."),
    .init(
      "force-new-cluster", .flag,
      "Begin a new cluster of this member alone with the data it has, when the quorum is lost for good."),
    .init(
      "snapshot-count", .integer, standard: "100000",
      "Applied entries kept for members that lag; one that is further behind is sent the whole state."),
    .init("heartbeat-interval", .milliseconds, standard: "100", "Time of a heartbeat interval in milliseconds."),
    .init("election-timeout", .milliseconds, standard: "1000", "Time for an election to time out in milliseconds."),
    .init(
      "quota-backend-bytes", .signedInteger, standard: "0",
      "Most bytes of keys, values and leases; 0 means 2 GiB, below 0 no limit. Counts what is kept, not the file: deleting "
        + "and compacting makes room without a defragmentation."),
    .init(
      "quota-alarm-manual", .flag,
      "Keep the NOSPACE alarm until it is disarmed, as etcd does. Otherwise it ends below 90 % of the quota."),
    .init(
      "auto-compaction-mode", .text, standard: "periodic",
      "What auto-compaction-retention counts: 'periodic' (a duration) or 'revision' (a number of revisions)."),
    .init(
      "auto-compaction-retention", .text, standard: "0",
      "How much history stays: a duration, or hours; with the mode 'revision' a number. 0 keeps all of it."),
    .init("max-txn-ops", .integer, standard: "128", "Most operations in one transaction."),
    .init("max-request-bytes", .integer, standard: "1572864", "Largest client request in bytes."),
    .init(
      "watch-progress-notify-interval", .duration, standard: "10m",
      "How often a quiet watch with progress_notify is told of its progress."),
    .init(
      "experimental-watch-progress-notify-interval", .duration,
      "The name that etcd 3.4 and 3.5 have for watch-progress-notify-interval."),
    .init(
      "grpc-keepalive-min-time", .duration, standard: "5s", "The least time between two pings of a client."),
    .init(
      "grpc-keepalive-interval", .duration, standard: "2h",
      "Silence after which the server asks whether a client still lives (0: never)."),
    .init(
      "grpc-keepalive-timeout", .duration, standard: "20s",
      "How long the client's answer may take before it is disconnected (0: never asked)."),
    .init(
      "max-concurrent-streams", .integer, standard: "1000", "Streams that one client connection may have open."),
    .init("pre-vote", .flag, standard: "true", "Ask whether an election could be won before one is begun."),
    .init("config-file", .text, "YAML file; when given, flags and environment do not count."),
    .init("unsafe-no-fsync", .flag, "Do not sync the log. A power cut loses what was acknowledged."),
    .init("log-level", .text, standard: "info", "debug, info, warn, error, panic, fatal."),
  ]

  private static let auth: [SettingDefinition] = [
    .init(
      "auth-token", .text, standard: "simple",
      "How users are known after they have given their password: 'simple', or "
        + "'jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=10m' with RS256, PS256, ES256, HS256 (or 384, 512) or "
        + "EdDSA."),
    .init("auth-token-ttl", .integer, standard: "300", "Seconds for which a simple token counts that nobody uses."),
    .init(
      "bcrypt-cost", .integer, standard: "10",
      "How slow passwords are to hash, 4 to 31: each step doubles it. The hash is scrypt, of about bcrypt's cost."),
  ]

  private static let clientTLS: [SettingDefinition] = [
    .init("cert-file", .text, "Certificate of the client port (PEM, chain)."),
    .init("key-file", .text, "Key of the client port (PEM)."),
    .init(
      "client-cert-auth", .flag,
      "Require client certificates; once users count, a certificate's common name is its user."),
    .init("trusted-ca-file", .text, "CA bundle that client certificates must chain to (PEM)."),
    .init("client-crl-file", .text, "Revocation list for client certificates (PEM)."),
    .init(
      "client-cert-allowed-hostname", .text, "Host names, with commas: a client's certificate must state one of them."),
    .init(
      "tls-min-version", .text, standard: "TLS1.2", "The oldest TLS that is spoken, on every port: TLS1.2 or TLS1.3."),
    .init("tls-max-version", .text, "The newest TLS that is spoken: TLS1.2 or TLS1.3 (default: the newest there is)."),
    .init("cipher-suites", .text, "Suites of TLS 1.2 by Go's names, with commas (default: the library's choice)."),
    .init("auto-tls", .flag, "Encrypt the client port by a certificate of the node's own making."),
    .init(
      "self-signed-cert-validity", .integer, standard: "1", "Years for which certificates of auto-tls are good."),
    .init(
      "crl-check", .text, standard: "strict",
      "'strict': every certificate must be covered by a current list of its issuer. 'listed', as etcd does: whoever is "
        + "on the list is refused, however old it is, and everybody else let in."),
  ]

  private static let peerTLS: [SettingDefinition] = [
    .init("peer-cert-file", .text, "Certificate that this member shows to others (PEM, chain)."),
    .init("peer-key-file", .text, "Key of the peer certificate (PEM)."),
    .init("peer-client-cert-auth", .flag, "Require certificates of the members that connect."),
    .init("peer-trusted-ca-file", .text, "CA bundle that members' certificates must chain to (PEM)."),
    .init("peer-crl-file", .text, "Revocation list for members' certificates (PEM)."),
    .init("peer-cert-allowed-cn", .text, "The only common name that members' certificates may have."),
    .init("peer-cert-allowed-hostname", .text, "The only host name that members' certificates may have."),
    .init("peer-auto-tls", .flag, "Encrypt between members by certificates of their own making. Nobody is checked."),
    .init(
      "peer-skip-client-san-verification", .flag,
      "Let members in whose certificate does not speak of the address they come from."),
    .init(
      "experimental-peer-skip-client-san-verification", .flag,
      "The name that etcd 3.4 and 3.5 have for peer-skip-client-san-verification."),
  ]

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
      ("metrics", .text, "all metrics are always served"),
      ("initial-election-tick-advance", .flag, "a first election waits for nothing but its time-out"),
      ("max-snapshots", .integer, "the state is one file"),
      ("max-wals", .integer, "a log file goes when nothing needs it"),
      ("enable-grpc-gateway", .flag, "the JSON gateway is always there"),
      ("v2-deprecation", .text, "there is no v2 store"),
      ("socket-reuse-address", .flag, "listeners always reuse addresses"),
      ("socket-reuse-port", .flag, "a port belongs to one process"),
      ("enable-log-rotation", .flag, "the log goes to standard error"),
      ("log-rotation-config-json", .text, "the log goes to standard error"),
      ("raft-read-timeout", .duration, "members are heard of by heartbeats"),
      ("raft-write-timeout", .duration, "members are heard of by heartbeats"),
      ("backend-batch-interval", .duration, "the state is stored as it changes"),
      ("backend-batch-limit", .integer, "the state is stored as it changes"),
      ("backend-bbolt-freelist-type", .text, "the state is not stored by bbolt"),
      ("discovery", .text, "the first members are named by --initial-cluster"),
      ("discovery-fallback", .text, "the first members are named by --initial-cluster"),
      ("discovery-proxy", .text, "the first members are named by --initial-cluster"),
      ("discovery-srv", .text, "the first members are named by --initial-cluster"),
      ("discovery-srv-name", .text, "the first members are named by --initial-cluster"),
      ("proxy", .text, "there is no v2 proxy"),
      ("proxy-failure-wait", .integer, "there is no v2 proxy"),
      ("proxy-refresh-interval", .integer, "there is no v2 proxy"),
      ("proxy-dial-timeout", .integer, "there is no v2 proxy"),
      ("proxy-write-timeout", .integer, "there is no v2 proxy"),
      ("proxy-read-timeout", .integer, "there is no v2 proxy"),
      ("experimental-max-learners", .integer, "one learner at a time"),
      ("experimental-initial-corrupt-check", .flag, "members compare their states all the time"),
      ("experimental-corrupt-check-time", .duration, "members compare their states all the time"),
      ("experimental-compact-hash-check-enabled", .flag, "members compare their states all the time"),
      ("experimental-compact-hash-check-time", .duration, "members compare their states all the time"),
      ("experimental-enable-lease-checkpoint", .flag, "the time that a lease has left is part of the state"),
      ("experimental-enable-lease-checkpoint-persist", .flag, "the time that a lease has left is part of the state"),
      ("experimental-enable-v2v3", .text, "there is no v2 API"),
      ("experimental-backend-bbolt-freelist-type", .text, "the state is not stored by bbolt"),
      ("experimental-compaction-sleep-interval", .duration, "compaction never holds up writes"),
      ("experimental-downgrade-check-time", .duration, "all members speak one version"),
      ("experimental-stop-grpc-service-on-defrag", .flag, "requests are served during a defragmentation"),
      ("experimental-warning-unary-request-duration", .duration, "durations are in the metrics"),
      ("experimental-enable-distributed-tracing", .flag, "there is no tracing"),
      ("experimental-distributed-tracing-address", .text, "there is no tracing"),
      ("experimental-distributed-tracing-service-name", .text, "there is no tracing"),
      ("experimental-distributed-tracing-instance-id", .text, "there is no tracing"),
      ("experimental-distributed-tracing-sampling-rate", .integer, "there is no tracing"),
      ("experimental-compaction-batch-limit", .integer, "compaction never holds up writes"),
      ("experimental-bootstrap-defrag-threshold-megabytes", .integer, "space is used again without a defragmentation"),
      ("experimental-txn-mode-write-with-shared-buffer", .flag, "reads wait for no transaction"),
      ("experimental-warning-apply-duration", .duration, "slow applies are counted in the metrics"),
      ("experimental-wait-cluster-ready-timeout", .duration, "requests wait for a leader as long as they may"),
      ("experimental-snapshot-catchup-entries", .integer, "--snapshot-count says how many entries are kept"),
      ("experimental-memory-mlock", .flag, "the state's file is mapped and read as needed"),
    ].map { SettingDefinition($0.0, $0.1, "", standing: .ignored(why: $0.2)) }
}
