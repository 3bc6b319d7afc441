"""Who may talk to the client port: only who shows a certificate of our CA that is current and meant for clients."""

import contextlib
import http.client
import ssl
import subprocess
import unittest

from harness import PKI, Node, Workspace, leasehold, run, wait_until


class Strangers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.pki = PKI(cls.space / "pki")
        cls.other = PKI(cls.space / "other-pki")
        cls.pki.make("issue", "--name", "server-only", "--server", "--host", "127.0.0.1")
        cls.make_expired()
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=operator", "-days", "30",
            "-keyout", cls.space / "self.key", "-out", cls.space / "self.crt").check_returncode()
        cls.node = cls.space.own(Node(cls.space, cls.pki, name="default").start())
        cls.identities = {
            "none": None,
            "of another CA": (cls.other.certificate("operator"), cls.other.key("operator")),
            "expired": (cls.space / "expired.crt", cls.space / "expired.key"),
            "self-signed": (cls.space / "self.crt", cls.space / "self.key"),
            "for servers only": (cls.pki.certificate("server-only"), cls.pki.key("server-only")),
        }

    @classmethod
    def make_expired(cls):
        """A certificate of our own CA whose time was January 2020."""
        folder = cls.space / "expired-ca"
        folder.mkdir()
        (folder / "index").write_text("")
        (folder / "serial").write_text("7777\n")
        (folder / "config").write_text(f"""
[ca]
default_ca = it
[it]
database = {folder}/index
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
x509_extensions = client
[any]
commonName = supplied
[client]
extendedKeyUsage = clientAuth
""")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=operator", "-keyout", cls.space / "expired.key",
            "-out", folder / "request").check_returncode()
        result = run("openssl", "ca", "-batch", "-config", folder / "config", "-cert", cls.pki.authority,
                     "-keyfile", cls.pki.key("ca"), "-in", folder / "request", "-out", cls.space / "expired.crt",
                     "-notext", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
        if result.returncode != 0:
            raise AssertionError(result.stderr)

    def test_curl(self):
        url = f"{self.node.endpoint}/health"
        for name, identity in self.identities.items():
            with self.subTest(name):
                flags = ["--cert", identity[0], "--key", identity[1]] if identity else []
                result = run("curl", "--silent", "--show-error", "--cacert", self.pki.authority, *flags, url)
                self.assertNotEqual(result.returncode, 0, result.stdout)
                self.assertNotIn("health", result.stdout)
        good = ["--cert", self.pki.certificate("operator"), "--key", self.pki.key("operator")]
        for version in (["--http1.1"], ["--http2"], ["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3"]):
            result = run("curl", "--silent", "--show-error", "--cacert", self.pki.authority, *good, *version, url)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn('"health":"true"', result.stdout)
        stranger = run("curl", "--silent", "--cacert", self.other.authority, *good, url)
        self.assertEqual(stranger.returncode, 60, "a client that does not know our CA refuses the node")

    def test_openssl(self):
        for name, identity in {**self.identities, "right": ("ok", "ok")}.items():
            with self.subTest(name):
                flags = []
                if name == "right":
                    identity = (self.pki.certificate("operator"), self.pki.key("operator"))
                if identity:
                    flags = ["-cert", str(identity[0]), "-key", str(identity[1])]
                # TLS 1.2 lets the handshake itself fail; in 1.3 the refusal follows it.
                result = subprocess.run(
                    ["openssl", "s_client", "-connect", f"127.0.0.1:{self.node.port}", "-CAfile",
                     str(self.pki.authority), "-verify_return_error", "-tls1_2", "-ign_eof", *flags],
                    input=b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", capture_output=True,
                    timeout=20)
                (self.assertIn if name == "right" else self.assertNotIn)(b'"health":"true"', result.stdout)

    def test_etcdctl(self):
        for name, identity in self.identities.items():
            with self.subTest(name):
                flags = ["--cert", identity[0], "--key", identity[1]] if identity else []
                result = run(
                    "etcdctl", "--endpoints", self.node.endpoint, "--cacert", self.pki.authority, *flags,
                    "--dial-timeout=2s", "--command-timeout=2s", "get", "a", environment={"ETCDCTL_API": "3"})
                self.assertNotEqual(result.returncode, 0)
        self.assertEqual(self.node.etcdctl("put", "a", "b").stdout, "OK\n")

    def test_plain_text_on_the_tls_port(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=10)
        with contextlib.closing(connection), self.assertRaises((http.client.HTTPException, ConnectionError)):
            connection.request("GET", "/health")
            connection.getresponse()

    def test_refusals_harm_nobody_and_are_said(self):
        context = ssl.create_default_context(cafile=str(self.pki.authority))
        context.load_cert_chain(self.other.certificate("operator"), self.other.key("operator"))
        for _ in range(20):
            connection = http.client.HTTPSConnection("127.0.0.1", self.node.port, timeout=10, context=context)
            with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                self.fail(f"let in: {connection.getresponse().status}")
        self.assertTrue(self.node.is_healthy())
        wait_until(lambda: "authority" in self.node.log.read_text(), "a line in the log about the unknown authority", 5)

    def test_inspect_and_file_modes(self):
        text = run(leasehold(), "pki", "inspect", self.pki.certificate("node")).stdout
        self.assertIn("127.0.0.1", text)
        self.assertIn("localhost", text)
        for name in ("ca", "node", "operator"):
            self.assertEqual(self.pki.key(name).stat().st_mode & 0o077, 0, f"{name}.key is its owner's only")


if __name__ == "__main__":
    unittest.main()
