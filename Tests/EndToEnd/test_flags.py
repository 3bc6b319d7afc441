"""Flags, environment and config file of `leasehold node`, beside etcd's: every flag of etcd has an answer, precedence is
etcd's, mistakes end the start with one line that says what to do."""

import re
import time
import unittest

from etcd_client import EtcdClient, rpc
from harness import PKI, Etcd, Node, Workspace, free_port, leasehold, one_line, run, tail, wait_until

# etcd's flags that are unknown to us, and why. The node refuses them, so nobody believes them to be in force.
REFUSED = {
    "debug": "3.4's name for --log-level=debug; 3.5 does not know it either",
    "log-package-levels": "3.5 does not know it either",
    "config-file": "known; etcd's help shows it elsewhere",
    "wal-dir": "the log stands in the data directory",
    "cors": "no browser's origin is let in",
    "host-whitelist": "not enforced, hence not accepted",
}
# Of the surface that is promised (etcd 3.5's names), beside what Debian's help names.
PROMISED = """
    name data-dir snapshot-count heartbeat-interval election-timeout listen-client-urls listen-peer-urls
    advertise-client-urls initial-advertise-peer-urls listen-metrics-urls initial-cluster initial-cluster-state
    initial-cluster-token quota-backend-bytes max-txn-ops max-request-bytes max-concurrent-streams grpc-keepalive-min-time
    grpc-keepalive-interval grpc-keepalive-timeout strict-reconfig-check pre-vote auto-compaction-mode
    auto-compaction-retention log-level logger log-outputs force-new-cluster unsafe-no-fsync enable-pprof metrics cert-file
    key-file client-cert-auth trusted-ca-file client-crl-file client-cert-allowed-hostname peer-cert-file peer-key-file
    peer-client-cert-auth peer-trusted-ca-file peer-crl-file peer-cert-allowed-cn peer-cert-allowed-hostname cipher-suites
    tls-min-version tls-max-version config-file""".split()

# Everything that the file has which etcd 3.5 is shipped with.
SAMPLE = """
name: 'sampled'
data-dir: {data}
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:{peer}
listen-client-urls: http://localhost:{client}
max-snapshots: 5
max-wals: 5
initial-advertise-peer-urls: http://localhost:{peer}
advertise-client-urls: http://localhost:{client}
discovery:
discovery-fallback: 'proxy'
discovery-proxy:
discovery-srv:
initial-cluster: sampled=http://localhost:{peer}
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-v2: true
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
proxy-refresh-interval: 30000
proxy-dial-timeout: 1000
proxy-write-timeout: 5000
proxy-read-timeout: 0
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  allowed-cn:
  allowed-hostname:
log-level: info
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: "1"
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
grpc-keepalive-interval: 7200000000000
"""

# What the operator gives, and what the one line says that ends the start.
MISTAKES = [
    (["--nmae=x"], {}, "unknown setting '--nmae': did you mean 'name'?"),
    (["--listen-client-url=http://h:1"], {},
    "unknown setting '--listen-client-url': did you mean 'listen-client-urls'?"),
    (["--frobnicate"], {}, "unknown setting '--frobnicate'"),
    (["name"], {}, "unexpected argument 'name'"),
    (["--name"], {}, "--name needs a value"),
    (["--name="], {}, "--name must not be empty"),
    (["--snapshot-count=many"], {}, "--snapshot-count: 'many' is not a whole number of 0 or more"),
    ([], {"ETCD_SNAPSHOT_COUNT": "many"}, "ETCD_SNAPSHOT_COUNT: 'many' is not a whole number of 0 or more"),
    (["--client-cert-auth=perhaps"], {}, "--client-cert-auth: 'perhaps' is neither true nor false"),
    (["--election-timeout=400"], {}, "--election-timeout[400ms] should be at least as 5 times"),
    (["--election-timeout=60000"], {}, "--election-timeout[60000ms] is too long"),
    (["--heartbeat-interval=0"], {}, "must be at least 1 ms"),
    (["--listen-client-urls=127.0.0.1:1"], {}, "it must start with http:// or https://"),
    (["--listen-client-urls=http://h"], {}, "it must name host:port"),
    (["--listen-client-urls=https://127.0.0.1:1"], {}, "--cert-file is missing"),
    (["--cert-file=c"], {}, "no --listen-client-urls starts with https://"),
    (["--listen-client-urls=https://127.0.0.1:1", "--cert-file=/none", "--key-file=/none"], {}, "/none"),
    (["--initial-cluster=nonsense"], {}, "is not of the form name=URL"),
    (["--initial-cluster=other=http://127.0.0.1:1"], {}, "couldn't find local name"),
    (["--initial-cluster-state=old"], {}, "'old' is neither new nor existing"),
    (["--log-level=loud"], {}, "--log-level 'loud' is none of debug, info, warn, error, panic, fatal"),
    (["--auto-compaction-mode=daily"], {}, "--auto-compaction-mode 'daily' is neither periodic nor revision"),
    (["--auto-compaction-retention=soon"], {}, "--auto-compaction-retention 'soon' is neither hours nor a duration"),
    (["--auto-compaction-mode=revision", "--auto-compaction-retention=5m"], {}, "'5m' is no number of revisions"),
    (["--grpc-keepalive-min-time=5"], {}, "--grpc-keepalive-min-time '5' is no duration"),
    (["--tls-min-version=TLS1.1"], {}, "--tls-min-version 'TLS1.1' is neither TLS1.2 nor TLS1.3"),
    (["--cipher-suites=ROT13"], {}, "unexpected TLS cipher suite 'ROT13'"),
    (["--config-file=/none"], {}, "cannot read the config file /none"),
    ([], {"ETCD_CONFIG_FILE": "/none"}, "cannot read the config file /none"),
]
WRONG_FILES = [
    ("data_dir: x", "unknown setting 'data_dir': did you mean 'data-dir'?"),
    ("client-transport-security:\n  cert: x", "unknown key 'client-transport-security.cert'"),
    ("client-transport-security: x", "client-transport-security must hold 'name: value' lines"),
    ("- name", "expected 'name: value' lines"),
    ("name: [", "cannot read the config file"),
    ("snapshot-count: many", "'many' is not a whole number of 0 or more"),
    ("name: {a: b}", "a plain value is expected"),
]


class Flags(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)

    def refusal(self, *flags, environment=None):
        data = self.space / "refused"
        done = run(leasehold(), "node", "--data-dir", data, *flags, environment=environment, timeout=20)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertFalse(data.exists(), "a start that is refused leaves nothing behind")
        return one_line(done.stderr)

    def node(self, *extra, name="default", tls=False, pki=None, **environment):
        node = Node(self.space, pki, name, tls=tls, extra=extra)
        node.environment = environment
        return self.space.own(node.start())

    # -- what is known

    def test_every_flag_of_etcd_has_an_answer(self):
        described = run("etcd", "--help")
        theirs = set(re.findall(r"^\s+--([a-z0-9-]+)", described.stdout + described.stderr, re.M))
        self.assertGreater(len(theirs), 70)
        ours = set(re.findall(r"--([a-z0-9-]+)", run(leasehold(), "node", "--help").stdout))
        self.assertEqual(theirs - ours - set(REFUSED), set(), "neither taken nor refused for a reason")
        self.assertEqual(set(PROMISED) - ours, set())
        self.assertEqual((set(REFUSED) - {"config-file"}) & ours, set(), "no longer refused: take it from the list")

    def test_what_has_no_effect_is_taken_with_a_warning(self):
        text = run(leasehold(), "node", "--help").stdout
        ignored = re.findall(r"--([a-z0-9-]+)", text.split("Taken without effect, with a warning:")[1])
        self.assertGreater(len(ignored), 40)
        flags = [f"--{name}={value_of(name)}" for name in ignored]
        node = self.node(*flags)
        said = node.log.read_text()
        for name in ignored:
            with self.subTest(name):
                self.assertRegex(said, rf"warning.*--{name} has no effect: \S+")

    def test_mistakes_end_the_start_with_one_line(self):
        for flags, environment, expected in MISTAKES:
            with self.subTest(flags=flags, **environment):
                self.assertIn(expected, self.refusal(*flags, environment=environment))
        for number, (content, expected) in enumerate(WRONG_FILES):
            file = self.space / f"wrong{number}.yaml"
            file.write_text(content)
            with self.subTest(content):
                self.assertIn(expected, self.refusal("--config-file", file))

    # -- where a value comes from

    def name_of(self, server):
        return re.search(r"started, ([\w-]+),", server.etcdctl("member", "list").stdout)[1]

    def test_without_a_flag_the_variable_counts_as_in_etcd(self):
        for server in (Etcd(self.space, None, tls=False), Node(self.space, None, tls=False)):
            server.environment = {"ETCD_MAX_TXN_OPS": "1", "ETCD_LISTEN_METRICS_URLS": "", "ETCD_SNAPSHOT_COUNT": ""}
            self.space.own(server.start())
            refused = server.etcdctl("txn", input="\nput a 1\nput b 2\n\n\n")
            self.assertIn("too many operations in txn request", refused.stderr, server.program)

    def test_a_flag_goes_before_its_variable(self):
        """etcd does not start at all when both are there."""
        node = self.node(name="by-flag", ETCD_NAME="by-environment")
        self.assertEqual(self.name_of(node), "by-flag")
        self.assertIn("ETCD_NAME does not count beside --name", node.log.read_text())

    def test_unknown_variables_are_named(self):
        node = self.node(ETCD_NMAE="x", ETCDCTL_API="3")
        self.assertIn("unrecognized environment variable ETCD_NMAE", node.log.read_text())
        self.assertNotIn("ETCDCTL_API", node.log.read_text())

    def test_a_config_file_counts_alone_as_in_etcd(self):
        for program in (["etcd"], [leasehold(), "node"]):
            client, peer = free_port(), free_port()
            file = self.space / f"{len(program)}.yaml"
            file.write_text(
                f"name: by-file\ndata-dir: {self.space / str(client)}\nlisten-client-urls: http://127.0.0.1:{client}\n"
                f"advertise-client-urls: http://127.0.0.1:{client}\nlisten-peer-urls: http://127.0.0.1:{peer}\n"
                f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\ninitial-cluster: by-file=http://127.0.0.1:{peer}\n")
            server = Launched(self.space, [*program, "--config-file", file, "--name", "by-flag", "--max-txn-ops=1"],
                client)
            server.environment = {"ETCD_MAX_TXN_OPS": "1"}
            self.space.own(server.start())
            self.assertEqual(self.name_of(server), "by-file")
            accepted = server.etcdctl("txn", input="\nput a 1\nput b 2\n\n\n")
            self.assertIn("SUCCESS", accepted.stdout, "neither the flag nor the variable counts")
        self.assertIn("--name does not count beside --config-file", server.log.read_text())

    def test_the_file_that_etcd_is_shipped_with_is_understood(self):
        client = free_port()
        file = self.space / "sample.yaml"
        file.write_text(SAMPLE.format(data=self.space / "sampled", client=client, peer=free_port()))
        server = self.space.own(Launched(self.space, [leasehold(), "node", "--config-file", file], client).start())
        self.assertEqual(self.name_of(server), "sampled")
        self.assertIn("--enable-v2 has no effect", server.log.read_text())

    def test_a_line_tells_when_it_serves(self):
        node = self.node("--log-level=debug")
        lines = [line for line in node.log.read_text().splitlines() if "ready to serve client requests" in line]
        self.assertEqual(len(lines), 1)
        self.assertEqual(node.etcdctl("put", "k", "v").stdout, "OK\n")

    # -- what some of them do

    def test_a_period_of_history_is_kept_and_what_is_older_goes_as_in_etcd(self):
        for server in (Etcd(self.space, None, tls=False), Node(self.space, None, tls=False)):
            server.environment = {"ETCD_AUTO_COMPACTION_RETENTION": "2s", "ETCD_AUTO_COMPACTION_MODE": "periodic"}
            self.space.own(server.start())
            client = EtcdClient(server.port)
            self.addCleanup(client.close)
            started, made = time.monotonic(), {}
            compacted, age = 0, None
            # Reading at a revision that is gone is how a client notices.
            while compacted < 3:
                self.assertLess(time.monotonic() - started, 30, f"{server.program}: history stays")
                revision = client.ask("Put", rpc.PutRequest(key=b"k")).header.revision
                made[revision] = time.monotonic()
                if "compacted" in (client.call("Range", rpc.RangeRequest(key=b"k",
                    revision=compacted + 2)).error or ""):
                    while "compacted" in (client.call("Range", rpc.RangeRequest(key=b"k",
                        revision=compacted + 2)).error or ""):
                        compacted += 1
                    age = time.monotonic() - made.get(compacted + 2, started)
                time.sleep(0.05)
            with self.subTest(server.program):
                self.assertGreater(age, 1.9, "what is younger than the period stays")
        self.assertIn("auto compaction", server.log.read_text())

    def test_versions_and_suites_of_tls(self):
        pki = PKI(self.space / "pki")
        node = self.node(
            "--tls-max-version=TLS1.2", "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,"
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", tls=True, pki=pki)
        spoken = self.handshake(node, pki)
        self.assertRegex(spoken, r"New, TLSv1.2, Cipher is ECDHE-(ECDSA|RSA)-AES256-GCM-SHA384")
        self.assertNotIn("New, TLSv1", self.handshake(node, pki, "-tls1_3"))
        self.assertNotIn(
            "New, TLSv1", self.handshake(node, pki, "-cipher",
            "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"))
        node.stop()
        newer = self.node("--tls-min-version=TLS1.3", name="newer", tls=True, pki=pki)
        self.assertIn("New, TLSv1.3", self.handshake(newer, pki))
        self.assertNotIn("New, TLSv1", self.handshake(newer, pki, "-tls1_2"))

    def handshake(self, node, pki, *flags):
        done = run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", "-CAfile", pki.authority, "-cert",
            pki.certificate("operator"), "-key", pki.key("operator"), *flags, input="", timeout=20)
        return re.sub(r"New, \(NONE\)", "", done.stdout)

    def test_clients_by_the_names_in_their_certificates(self):
        pki = PKI(self.space / "pki")
        pki.make("issue", "--name", "tool", "--client", "--host", "tool.example")
        node = Node(self.space, pki, "default", extra=["--client-cert-allowed-hostname=tool.example,other.example"])
        self.space.own(node).spawn()
        wait_until(lambda: "ready to serve" in tail(node.log, 50), "readiness")
        self.assertEqual(node.etcdctl("put", "k", "v", user="tool").stdout, "OK\n")
        refused = node.etcdctl("put", "k", "v", "--command-timeout=1s", user="operator")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("client certificate refused", node.log.read_text())


class Launched(Node):
    """A server by a command line of its own, in cleartext."""

    def __init__(self, space, command, port):
        super().__init__(space, None, str(port), tls=False)
        self.line, self.port = command, port

    def command(self):
        return self.line


def value_of(name):
    """Something that the flag takes."""
    if re.search(r"interval|-time$|duration|timeout|sleep", name) and not name.startswith("proxy"):
        return "1m"
    if re.search(r"^max-|limit|wait$|^proxy-|threshold|learners|entries|rate$", name):
        return "1"
    if name in ("discovery", "proxy", "logger", "log-outputs", "metrics"):
        return "x"
    return "true"


if __name__ == "__main__":
    unittest.main()
