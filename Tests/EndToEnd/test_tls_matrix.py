"""Every kind of certificate at every kind of port, with openssl and etcdctl: who is let in, who is not, and what the
log says. How the files change while connections stand is in test_tls_rotation."""

import unittest

from certificates import Forge, encrypted, handshake, replace, self_signed, serial
from cluster import Cluster, Member
from harness import PKI, Node, Workspace, free_port, one_line, run, tail, wait_until

PAST = {"begin": "20200101000000Z", "end": "20200201000000Z"}
FUTURE = {"begin": "20480101000000Z", "end": "20490101000000Z"}


def started(node):
    """Without asking for its health: not every node lets the usual client in."""
    node.spawn()
    wait_until(
        lambda: "ready to serve client requests" in node.log.read_text() or not node.is_alive, "the node's start", 30)
    if not node.is_alive:
        raise AssertionError(tail(node.log))
    return node


class Ports(Node):
    """A node with every port that it can have, each with its own demands."""

    def __init__(self, space, pki, **options):
        super().__init__(space, pki, **options)
        self.peer_port, self.metrics_port = free_port(), free_port()
        peer = f"https://127.0.0.1:{self.peer_port}"
        self.extra += [
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster",
            f"{self.name}={peer}", "--peer-cert-file", pki.certificate("node"), "--peer-key-file", pki.key("node"),
            "--peer-client-cert-auth", "--peer-trusted-ca-file", pki.authority,
            "--listen-metrics-urls", f"https://127.0.0.1:{self.metrics_port}"]


class Matrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.pki = PKI(cls.space / "pki")
        other = PKI(cls.space / "other-pki")
        forge = Forge(cls.pki, cls.space / "forge")
        cls.pki.make("issue", "--name", "revoked", "--client", "--server", "--host", "127.0.0.1")
        cls.pki.make("revoke", "--cert", cls.pki.certificate("revoked"))
        here = {"purpose": "peer", "alternatives": "IP:127.0.0.1"}
        # name: identity, and what the refusal says; no words for who is let in
        cls.anywhere = {
            "right": (forge.issue("right", **here), None),
            "wrong CA": ((other.certificate("node"), other.key("node")), "is no trusted authority here"),
            "expired": (forge.issue("expired", **here, **PAST), "expired 2020-02-01"),
            "not yet valid": (forge.issue("early", **here, **FUTURE), "is not valid before 2048-01-01"),
            "wrong purpose": (
                forge.issue("server-only", "server", alternatives="IP:127.0.0.1"), "may not be used as a client's"),
            "revoked": ((cls.pki.certificate("revoked"), cls.pki.key("revoked")), "has been revoked"),
            "self-signed": (self_signed(cls.space.path, "self"), "is self-signed and not trusted here"),
            "none": (None, ""),
        }
        cls.for_peers = {
            "wrong name": (forge.issue("elsewhere", "peer", alternatives="IP:10.9.8.7"), "it comes from 127.0.0.1"),
            "a name that leads elsewhere": (
                forge.issue("nowhere", "peer", alternatives="DNS:nowhere.invalid"), "it comes from 127.0.0.1"),
            "a name that leads here": (forge.issue("localhost", "peer", alternatives="DNS:localhost"), None),
            "no name at all": (forge.issue("nameless", "peer"), None),
        }
        cls.for_clients = {
            "wrong name, which clients may have": (
                forge.issue("client-elsewhere", alternatives="IP:10.9.8.7"), None),
        }
        crl = cls.pki.folder / "ca.crl"
        cls.node = cls.space.own(Ports(
            cls.space, cls.pki, name="n", extra=["--client-crl-file", crl, "--peer-crl-file", crl]).start())

    def check(self, port, identities, flags=("-tls1_2",)):
        for name, (identity, words) in identities.items():
            with self.subTest(name, port=port):
                before = len(self.node.log.read_text())
                self.assertEqual(handshake(port, self.pki.authority, identity, flags), words is None)
                if words:
                    wait_until(
                        lambda: words in self.node.log.read_text()[before:], f"a line in the log with '{words}'", 5)

    def test_client_port(self):
        self.check(self.node.port, {**self.anywhere, **self.for_clients})

    def test_metrics_port(self):
        self.check(self.node.metrics_port, {**self.anywhere, **self.for_clients})

    def test_peer_port(self):
        self.check(self.node.peer_port, {**self.anywhere, **self.for_peers})

    def test_etcdctl(self):
        for name, (identity, words) in {**self.anywhere, **self.for_clients}.items():
            with self.subTest(name):
                flags = ["--cert", identity[0], "--key", identity[1]] if identity else []
                result = run(
                    "etcdctl", "--endpoints", self.node.endpoint, "--cacert", self.pki.authority, *flags,
                    "--dial-timeout=2s", "--command-timeout=2s", "get", "a", environment={"ETCDCTL_API": "3"})
                self.assertEqual(result.returncode == 0, words is None, result.stderr)

    def test_a_revoked_session_is_not_resumed(self):
        """A client that was let in before it was revoked must not come back by its old session."""
        self.pki.make("issue", "--name", "later", "--client")
        identity = (self.pki.certificate("later"), self.pki.key("later"))
        crl = self.space / "later.crl"
        crl.write_bytes((self.pki.folder / "ca.crl").read_bytes())
        node = self.space.own(Node(self.space, self.pki, name="r", extra=["--client-crl-file", crl]).start())
        sessions = {}
        for version in ("-tls1_2", "-tls1_3"):
            sessions[version] = self.space / f"session{version}"
            self.assertTrue(
                handshake(node.port, self.pki.authority, identity, [version, "-sess_out", sessions[version]]))
        self.pki.make("revoke", "--cert", self.pki.certificate("later"))
        replace(crl, self.pki.folder / "ca.crl")
        wait_until(lambda: not handshake(node.port, self.pki.authority, identity), "the refusal of the revoked", 5)
        self.assertFalse(
            handshake(node.port, self.pki.authority, identity, ["-tls1_2", "-sess_in", sessions["-tls1_2"]]))
        if sessions["-tls1_3"].exists():
            answer = run(
                "openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", "-CAfile", self.pki.authority, "-cert",
                identity[0], "-key", identity[1], "-sess_in", sessions["-tls1_3"], "-ign_eof",
                input="GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").stdout
            self.assertNotIn('"health"', answer)
            self.assertNotIn("Reused", answer)


class OwnCertificates(unittest.TestCase):
    """What the node shows, and what it refuses to begin with."""

    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.pki = PKI(cls.space / "pki")
        cls.forge = Forge(cls.pki, cls.space / "forge")

    def refusal(self, *flags):
        node = Node(self.space, self.pki, name="refused", extra=flags).spawn()
        self.assertNotEqual(node.process.wait(20), 0)
        text = node.log.read_text()
        node.log.unlink()
        return one_line(text)

    def node(self, name, *flags):
        """A node whose own certificate is another than the usual."""
        node = Node(self.space, self.pki, name=name)
        node.extra = list(flags)
        return self.space.own(node)

    def test_unusable_files_are_named_before_anything_listens(self):
        key = encrypted(self.pki.key("node"), self.space.path)
        line = self.refusal("--key-file", key)
        self.assertIn(f"key {key} is protected by a passphrase", line)
        self.assertIn("does not belong to certificate", self.refusal("--key-file", self.pki.key("operator")))
        self.assertIn("does not exist", self.refusal("--trusted-ca-file", self.space / "absent"))
        self.assertIn("no certificate in it", self.refusal("--trusted-ca-file", self.pki.key("node")))
        self.assertIn("no revocation list in it", self.refusal("--client-crl-file", self.pki.authority))
        self.assertIn("unexpected TLS cipher suite 'NULL'", self.refusal("--cipher-suites", "NULL"))

    def test_etcdctl_with_a_key_behind_a_passphrase(self):
        node = self.node("plain").start()
        key = encrypted(self.pki.key("operator"), self.space.path)
        result = run(
            "etcdctl", "--endpoints", node.endpoint, "--cacert", self.pki.authority, "--cert",
            self.pki.certificate("operator"), "--key", key, "get", "a", environment={"ETCDCTL_API": "3"})
        self.assertNotEqual(result.returncode, 0)

    def test_clients_refuse_a_node_with_the_wrong_name(self):
        certificate, key = self.forge.issue("misnamed", "server", alternatives="DNS:elsewhere.example")
        node = started(self.node("misnamed", "--cert-file", certificate, "--key-file", key))
        operator = (self.pki.certificate("operator"), self.pki.key("operator"))
        self.assertTrue(handshake(node.port, self.pki.authority, operator), "who asks for no name does not mind")
        result = node.etcdctl("--dial-timeout=2s", "--command-timeout=2s", "get", "a")
        self.assertNotEqual(result.returncode, 0)
        self.assertFalse(
            handshake(node.port, self.pki.authority, operator, ["-verify_ip", "127.0.0.1", "-tls1_2"]))

    def test_versions_and_suites(self):
        operator = (self.pki.certificate("operator"), self.pki.key("operator"))
        new = self.node("new", "--tls-min-version", "TLS1.3").start()
        self.assertTrue(handshake(new.port, self.pki.authority, operator, ["-tls1_3"]))
        self.assertFalse(handshake(new.port, self.pki.authority, operator, ["-tls1_2"]))
        suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
        old = self.node("old", "--tls-max-version", "TLS1.2", "--cipher-suites", suite).start()
        self.assertFalse(handshake(old.port, self.pki.authority, operator, ["-tls1_3"]))
        self.assertTrue(handshake(old.port, self.pki.authority, operator, ["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"]))
        self.assertFalse(
            handshake(old.port, self.pki.authority, operator, ["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-tls1_2"]))

    def test_allowed_names_of_clients(self):
        node = started(self.node("names", "--client-cert-allowed-hostname", "build.example,*.ci.example"))
        for names, is_allowed in (("DNS:build.example", True), ("DNS:other.example", False), ("", False)):
            identity = self.forge.issue(f"client-{names.replace(':', '-')}", alternatives=names)
            with self.subTest(names):
                wait_until(
                    lambda: handshake(node.port, self.pki.authority, identity) == is_allowed, "the right answer", 10)

    def test_an_old_list_by_either_rule(self):
        """A list that has run out covers nobody; by etcd's rule it still says who is revoked."""
        self.pki.make("issue", "--name", "gone", "--client")
        self.pki.make("revoke", "--cert", self.pki.certificate("gone"))
        folder = self.space / "old-list"
        folder.mkdir()
        (folder / "index").write_text(
            f"R\t490101000000Z\t250101000000Z\t{serial(self.pki.certificate('gone'))}\tunknown\t/CN=gone\n")
        (folder / "config").write_text(
            f"[ca]\ndefault_ca = it\n[it]\ndatabase = {folder}/index\ndefault_md = sha256\n")
        crl = folder / "old.crl"
        result = run(
            "openssl", "ca", "-gencrl", "-config", folder / "config", "-cert", self.pki.authority, "-keyfile",
            self.pki.key("ca"), "-crl_lastupdate", "20240101000000Z", "-crl_nextupdate", "20240201000000Z", "-out", crl)
        self.assertEqual(result.returncode, 0, result.stderr)
        good = (self.pki.certificate("operator"), self.pki.key("operator"))
        gone = (self.pki.certificate("gone"), self.pki.key("gone"))
        listed = self.node("listed", "--client-crl-file", crl, "--crl-check", "listed").start()
        self.assertTrue(handshake(listed.port, self.pki.authority, good))
        self.assertFalse(handshake(listed.port, self.pki.authority, gone))
        strict = started(self.node("strict", "--client-crl-file", crl))
        self.assertFalse(handshake(strict.port, self.pki.authority, good))
        self.assertFalse(handshake(strict.port, self.pki.authority, gone))
        text = strict.log.read_text()
        self.assertIn("a revocation list has run out", text)
        self.assertIn("revocation by CN=", text)


class AutoTLS(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)

    def test_client_port(self):
        node = Node(self.space, None, name="auto", tls=False, extra=["--auto-tls"])
        port = free_port()
        node.extra += ["--listen-client-urls", f"https://127.0.0.1:{port}"]
        curl = ["curl", "--silent", "--insecure", f"https://127.0.0.1:{port}/health"]

        def answers():
            self.assertTrue(node.is_alive, tail(node.log))
            return '"health":"true"' in run(*curl).stdout

        self.space.own(node).spawn()
        wait_until(answers, "health over TLS")
        folder = node.data / "fixtures" / "client"
        self.assertEqual((folder / "key.pem").stat().st_mode & 0o777, 0o600)
        first = serial(folder / "cert.pem")
        trusting = run("curl", "--silent", "--cacert", folder / "cert.pem", curl[-1])
        self.assertIn('"health":"true"', trusting.stdout, "the certificate is for the address that is listened on")
        node.stop()
        node.spawn()
        wait_until(answers, "health after a restart")
        self.assertEqual(serial(folder / "cert.pem"), first)

    def test_peers(self):
        class Stranger(Member):
            def peer_tls_flags(self):
                return ["--peer-auto-tls"]

        cluster = Cluster(self.space, PKI(self.space / "pki"), kind=Stranger).start()
        self.assertEqual(cluster.etcdctl("put", "a", "b").stdout, "OK\n")
        leader = cluster.leader()
        self.assertTrue((leader.data / "fixtures" / "peer" / "cert.pem").exists())


if __name__ == "__main__":
    unittest.main()
