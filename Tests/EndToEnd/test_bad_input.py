"""Bad input: one clear line (or problem+json), a non-zero exit or a 4xx, a living process, nothing lost."""

import contextlib
import json
import os
import re
import socket
import time
import unittest

from harness import PKI, Background, Etcd, LineClient, Node, Workspace, free_port, leasehold, one_line, run, wait_until


def complaint(text):
    """The one line that says what is wrong, without log lines before it and the hint at usage behind it."""
    lines = [line for line in text.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT|Usage:|Help:|  See ", line)]
    return one_line("\n".join(lines))


class Refusals(unittest.TestCase):
    """What ends a command before it has begun."""

    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.pki = PKI(cls.space / "pki")

    def refused(self, *arguments, naming):
        """The command ends by itself, not with 0, and says one line that names all of `naming`."""
        result = run(leasehold(), *arguments, timeout=20)
        self.assertGreater(result.returncode, 0, f"an exit code, not success and not a signal\n{result.stderr}")
        self.assertEqual(result.stdout, "")
        line = complaint(result.stderr)
        for word in naming:
            self.assertIn(str(word), line)
        return line

    def node_refused(self, *flags, naming, data="refused", tls=False):
        node = Node(self.space, self.pki, name=data, tls=tls)
        line = self.refused("node", *node.client_flags(), *flags, naming=naming)
        self.assertFalse((node.data / "member" / "wal").exists() and any((node.data / "member" / "wal").iterdir()),
                         "a refused start writes no log")
        return line

    def test_unknown_flag(self):
        self.node_refused("--data-dirr", "x", naming=["data-dirr"])
        self.refused("janitor", "--cache", "c", "--root", "/tmp", "--events", "e", "--nonsense", naming=["nonsense"])
        self.refused("frobnicate", naming=["frobnicate"])

    def test_flag_value(self):
        self.node_refused("--election-timeout", "soon", naming=["election-timeout", "soon"])
        self.node_refused("--election-timeout", "100", naming=["election-timeout"])
        self.node_refused("--cache", "c:ttl=never", naming=["ttl", "never"])
        self.node_refused("--cache", "c:ttl=10s,windw=1s", naming=["windw"])
        self.node_refused("--cache", "c:ttl=10s,window=9s", naming=["window", "9s"])
        self.node_refused("--cache", "c", "--cache", "c", naming=["c"])
        self.node_refused("--sidecar-api", "127.0.0.1:1", naming=["sidecar-api"])
        self.node_refused("--initial-cluster", "a=http://127.0.0.1:1,b=http://127.0.0.1:2", naming=["initial cluster"])

    def test_wrong_yaml(self):
        for text, naming in [
            ("name: n\ndata-dri: x\n", ["data-dri"]),
            ("name: n\nsidecar:\n  caches:\n    c:\n      tll: 7d\n", ["tll"]),
            ("name: n\nsidecar:\n  apii: x\n", ["apii"]),
            ("name: [n\n", ["yaml"]),
            ("client-transport-security:\n  certfile: x\n", ["certfile"]),
            ("election-timeout: soon\n", ["election-timeout"]),
        ]:
            with self.subTest(text):
                file = self.space / "config.yaml"
                file.write_text(text)
                self.refused("node", "--config-file", file, naming=naming)
        self.refused("node", "--config-file", self.space / "absent.yaml", naming=["absent.yaml"])

    def test_port_in_use(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            self.refused(
                "node", "--data-dir", self.space / "port", "--listen-client-urls", url, "--advertise-client-urls", url,
                naming=[port, "in use"])

    def test_missing_and_mismatched_certificates(self):
        flags = lambda certificate, key, authority: [
            "--cert-file", certificate, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", authority]
        url = f"https://127.0.0.1:{free_port()}"
        node = ["node", "--data-dir", self.space / "tls", "--listen-client-urls", url, "--advertise-client-urls", url]
        certificate, key, authority = self.pki.certificate("node"), self.pki.key("node"), self.pki.authority
        self.refused(*node, naming=["cert-file"])
        self.refused(*node, "--cert-file", certificate, naming=["key-file"])
        self.refused(*node, *flags(self.space / "none.crt", key, authority), naming=["none.crt"])
        self.refused(*node, *flags(certificate, self.space / "none.key", authority), naming=["none.key"])
        self.refused(*node, *flags(certificate, key, self.space / "none-ca.crt"), naming=["none-ca.crt"])
        self.refused(*node, *flags(certificate, self.pki.key("operator"), authority), naming=["operator.key"])
        garbage = self.space / "garbage.crt"
        garbage.write_text("this is no certificate\n")
        self.refused(*node, *flags(garbage, key, authority), naming=["garbage.crt"])
        self.assertFalse((self.space / "tls").exists(), "nothing was created before the certificates were checked")

    def test_pki(self):
        self.refused("pki", "init", "--dir", self.pki.folder, naming=["ca"])
        self.refused("pki", "issue", "--dir", self.pki.folder, "--name", "x", naming=["--server"])
        self.refused("pki", "issue", "--dir", self.space / "no-pki", "--name", "x", "--client", naming=["no-pki"])
        self.refused("pki", "inspect", self.space / "none.crt", naming=["none.crt"])

    def test_commands_without_a_sidecar(self):
        self.refused("hit", "--api", f"unix:{self.space}/none.sock", "--cache", "c", "k", naming=["none.sock"])
        self.refused("ls", "--api", "nonsense", "--cache", "c", naming=["nonsense"])
        self.refused("janitor", "--cache", "c", "--root", self.space / "no-root", "--events", self.space / "e.sock",
                     naming=["no-root"])


class DataDirectories(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.pki = PKI(self.space / "pki")

    def refused(self, node, *naming):
        result = run(*node.command(), timeout=20)
        self.assertGreater(result.returncode, 0)
        line = complaint(result.stderr)
        for word in naming:
            self.assertIn(str(word), line)

    def snapshot(self, folder):
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def test_of_another_version(self):
        node = Node(self.space, self.pki)
        node.start()
        node.etcdctl("put", "k", "v")
        node.stop()
        version = node.data / "member" / "VERSION"
        own = version.read_text()
        version.write_text("leasehold 99\n")
        before = self.snapshot(node.data / "member" / "wal")
        self.refused(node, "leasehold 99", node.data)
        self.assertEqual(self.snapshot(node.data / "member" / "wal"), before)
        version.write_text(own)
        node.start()
        self.addCleanup(node.stop)
        self.assertEqual(node.etcdctl("get", "k").stdout, "k\nv\n")

    def test_of_etcd(self):
        etcd = Etcd(self.space, self.pki, name="n0").start()
        etcd.etcdctl("put", "k", "v")
        etcd.stop()
        before = self.snapshot(etcd.data)
        node = Node(self.space, self.pki)
        node.data = etcd.data
        self.refused(node, etcd.data)
        after = {path: content for path, content in self.snapshot(etcd.data).items() if path in before}
        self.assertEqual(after, before, "etcd's files are as they were")

    def test_locked_by_a_living_process(self):
        node = Node(self.space, self.pki)
        self.space.own(node.start())
        second = Node(self.space, self.pki)
        self.refused(second, node.data, node.process.pid)
        self.assertEqual(node.etcdctl("put", "k", "v").stdout, "OK\n")
        node.kill()
        node.start()  # the lock ends with the process, whatever ended it
        self.assertEqual(node.etcdctl("get", "k").stdout, "k\nv\n")

    def test_another_name_keeps_the_identity(self):
        """As with etcd, the directory says who the member is; the name is only what it is called."""
        node = Node(self.space, self.pki)
        node.start()
        node.etcdctl("put", "k", "v")
        identity = node.etcdctl("member", "list").stdout.split(",")[0]
        node.stop()
        other = Node(self.space, self.pki, name="n1")
        other.data = node.data
        self.space.own(other.start())
        self.assertEqual(other.etcdctl("member", "list").stdout.split(", ")[:3], [identity, "started", "n1"])
        self.assertEqual(other.etcdctl("get", "k").stdout, "k\nv\n")

    def test_with_a_damaged_log(self):
        node = Node(self.space, self.pki)
        node.start()
        for number in range(50):
            node.etcdctl("put", f"k{number}", "v" * 100)
        node.kill()
        segment = sorted((node.data / "member" / "wal").iterdir())[0]
        content = bytearray(segment.read_bytes())
        content[content.index(b"k10") + 40] ^= 0xff   # in the middle: what stands behind it was acknowledged
        segment.write_bytes(content)
        self.refused(node, "damaged", segment)


class LivingNode(unittest.TestCase):
    """What a running node refuses, and goes on as if nothing had happened."""

    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.node = cls.space.own(
            Node(cls.space, PKI(cls.space / "pki"), caches=["c:ttl=1h,window=1m,jitter=0,register=explicit"]).start())

    def setUp(self):
        self.assertIn(self.node.call("PUT", "/v1/caches/c/entries/precious", {"size": 1})[0], (200, 201))

    def tearDown(self):
        self.assertTrue(self.node.is_alive)
        self.assertTrue(self.node.is_healthy())
        self.assertEqual(self.node.entry("c", "precious")["state"], "live")

    def problem(self, status, method, path, body=None, naming=""):
        with contextlib.closing(self.node.api()) as api:
            code, answer = api.call(method, path, body)
            self.assertEqual(code, status, answer)
            self.assertEqual(api.content_type, "application/problem+json")
            self.assertEqual(answer["status"], status)
            self.assertIn(naming, answer["detail"])

    def test_key_too_long(self):
        longest = "k" * 1_024
        self.assertEqual(self.node.call("PUT", f"/v1/caches/c/entries/{longest}", {})[0], 201)
        for method, path in [
            ("POST", f"/v1/caches/c/hit/{longest}x"), ("PUT", f"/v1/caches/c/entries/{longest}x"),
            ("GET", f"/v1/caches/c/entries/{longest}x"), ("DELETE", f"/v1/caches/c/entries/{longest}x"),
        ]:
            self.problem(414, method, path, naming="1024")
        self.problem(414, "POST", "/v1/caches/c/hits", f"precious\n{longest}x\n", naming="line 2")
        self.problem(400, "POST", "/v1/caches/c/hit/", naming="")
        self.problem(400, "POST", "/v1/caches/c/hit/%ff%fe", naming="UTF-8")
        self.problem(400, "POST", "/v1/caches/c/hit/%zz", naming="")

    def test_bad_json_on_the_hook(self):
        for body in ["{", "[]", '"text"', "nonsense", '{"size":"big"}', '{"size":-1}', '{"ttl":5}', '{"ttl":"1ms"}',
                     '{"refs":[1]}', '{"labels":{"a":1}}', '{"sise":1}', '{"size":1}{"size":2}', "[" * 100_000]:
            self.problem(400, "PUT", "/v1/caches/c/entries/new", body)
        self.problem(400, "POST", "/v1/caches/c/hits", '{"key":"a"}\n{"key":\n', naming="line 2")
        self.problem(400, "POST", "/v1/caches/c/hits", '{"kee":"a"}\n', naming="line 1")
        self.assertIsNone(self.node.entry("c", "new"))

    def test_wrong_paths_and_methods(self):
        self.problem(404, "POST", "/v1/caches/nobody/hit/k", naming="nobody")
        self.problem(404, "POST", "/v1/caches/c/hit/never-registered", naming="never-registered")
        self.problem(404, "GET", "/v1/caches/c/entries/never-registered")
        self.problem(404, "DELETE", "/v1/caches/c/entries/never-registered")
        self.problem(405, "PATCH", "/v1/caches/c/entries/precious")
        self.problem(405, "GET", "/v1/caches/c/hit/precious")
        self.problem(400, "GET", "/v1/caches/c/entries?limit=0", naming="limit")
        self.problem(400, "GET", "/v1/caches/c/entries?state=dead", naming="state")
        self.problem(400, "GET", "/v1/events", naming="name")
        self.problem(404, "POST", "/v1/ack?name=nobody", "ack 1\n", naming="nobody")

    def test_an_oversized_body(self):
        with contextlib.closing(self.node.api()) as api:
            try:
                status = api.call("POST", "/v1/caches/c/hits", b"k\n" * 5_000_000)[0]
                self.assertEqual(status, 413)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused while we were still sending

    def test_http_that_is_none(self):
        for text in [b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 100_000, b"\0" * 1_000,
                     b"POST /v1/caches/c/hits HTTP/1.1\r\ncontent-length: -5\r\n\r\n"]:
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.settimeout(10)
                connection.connect(str(self.node.api_path))
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(1 << 16)
                self.assertTrue(answer == b"" or b" 4" in answer.split(b"\r\n")[0], answer[:200])

    def test_malformed_lines_on_the_event_socket(self):
        lines = LineClient(self.node.events_path)
        self.addCleanup(lines.stop)
        lines.send("ack 1")
        self.assertEqual(lines.expect("err")["code"], "nosub")
        for line, code in [
            ("{", "badjson"), ('{"op":5}', "badjson"), ('{"op":"frob"}', "unknown-op"), ("frob 1", "unknown-op"),
            ('{"op":"sub"}', "badjson"), ('{"op":"sub","name":"a b"}', "badjson"), ("sub", "unknown-op"),
            (b"\xff\xfe", "unknown-op"), ('{"op":"sub","name":"x","inflight":0}', "badjson"),
        ]:
            with self.subTest(line):
                lines.send(line)
                self.assertEqual(lines.expect("err")["code"], code)
        lines.send("sub survivor")
        lines.expect("hello")
        for line in ("ack one", "ack", "ack 999999999", "nak 999999"):
            lines.send(line)
            lines.expect("err")
        lines.send("stat")
        lines.expect("ok")
        lines.send("unsub")
        lines.send({"op": "sub", "name": "survivor"})

    def test_an_over_long_line_is_told_and_ends_the_connection(self):
        for line in ("x" * 70_000, "x" * 5_000_000):
            lines = LineClient(self.node.events_path)
            with contextlib.closing(lines):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    lines.send(line)
                self.assertEqual(lines.expect("err")["code"], "toolong")
                wait_until(lambda: not lines.receive(0.1) and lines.is_closed, "the end of the connection", 10)

    def test_requests_that_etcd_refuses(self):
        too_large = self.node.etcdctl("put", "k", input="x" * 2_000_000)
        self.assertNotEqual(too_large.returncode, 0)
        self.assertIn("request is too large", too_large.stderr)


class JanitorPaths(unittest.TestCase):
    def test_a_key_that_leaves_the_folder_deletes_nothing(self):
        space = Workspace()
        self.addCleanup(space.close)
        node = space.own(Node(space, PKI(space / "pki"), caches=["c:ttl=1h,window=1m,jitter=0"]).start())
        root, outside = space / "root", space / "outside"
        (root / "sub").mkdir(parents=True)
        outside.write_text("not the cache's")
        link = space / "linked"
        link.mkdir()
        (link / "file").write_text("reached by a link")
        (root / "out").symlink_to(link)
        (root / "sub" / "good").write_text("a blob")
        janitor = space.own(Background(
            space, "janitor", [leasehold(), "janitor", "--cache", "c", "--root", root, "--events", node.events_path,
                               "--name", "janitor", "--grace", "0s", "--verbose"]))
        keys = ["../outside", "sub/../../outside", f"/{outside}", "out/file", "..", ".", "sub/good"]
        for key in keys:
            lines = json.dumps({"key": key}) + "\n"
            self.assertEqual(node.call("POST", "/v1/caches/c/hits", lines)[1]["registered"], 1)
        wait_until(lambda: "janitor" in json.dumps(node.call("GET", "/v1/subscribers")[1]), "the subscription", 10)
        time_of_files = time.time()
        for path in (outside, link / "file", root / "sub" / "good"):
            os.utime(path, (time_of_files - 60,) * 2)
        with contextlib.closing(node.api()) as api:
            for key in keys:
                encoded = key.replace(".", "%2E").replace("/", "%2F")
                self.assertEqual(api.call("DELETE", f"/v1/caches/c/entries/{encoded}")[0], 202, key)
        wait_until(lambda: not (root / "sub" / "good").exists(), "the deletion of the one good key")
        wait_until(lambda: node.entry("c", "sub/good") is None, "the acknowledgement of the one good key")
        wait_until(lambda: janitor.text().count("..") >= 2, "the janitor's complaints")
        self.assertEqual(outside.read_text(), "not the cache's")
        self.assertEqual((link / "file").read_text(), "reached by a link")
        self.assertIsNone(janitor.process.poll(), "the janitor lives")
        self.assertTrue(node.is_healthy())


if __name__ == "__main__":
    unittest.main()
