"""What operators and probes ask by plain HTTP: health, liveness, readiness, version, metrics, on the client port and on
`--listen-metrics-urls`; with a leader and without."""

import contextlib
import http.client
import json
import subprocess
import unittest

from cluster import Cluster
from harness import Etcd, Node, Workspace, free_port, wait_until


def ask(port, path, method="GET"):
    """Status, headers and body."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


class Endpoints(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.metrics_port = free_port()
        self.node = self.space.own(Node(
            self.space, None, tls=False,
            extra=["--listen-metrics-urls", f"http://127.0.0.1:{self.metrics_port}"])).start()

    def test_everything_is_well(self):
        listed = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
        for port in (self.node.port, self.metrics_port):
            for path, expected in (
                ("/health", '{"health":"true","reason":""}'), ("/health?serializable=true", '{"health":"true","reason":""}'),
                ("/livez", "ok\n"), ("/readyz", "ok\n"), ("/livez?verbose", "[+]serializable_read ok\nok\n"),
                ("/readyz?verbose", listed), ("/readyz?verbose&exclude=non_learner", listed.replace("[+]non_learner ok\n", "")),
                ("/readyz/data_corruption", "ok\n"), ("/readyz/linearizable_read?verbose", "[+]linearizable_read ok\nok\n"),
            ):
                with self.subTest(f"{port} {path}"):
                    status, _, body = ask(port, path)
                    self.assertEqual((status, body), (200, expected))
            status, headers, body = ask(port, "/metrics")
            self.assertEqual(status, 200)
            self.assertEqual(headers.get_content_type(), "text/plain")
            self.assertIn("\netcd_server_has_leader 1\n", body)
            version = json.loads(ask(port, "/version")[2])
            self.assertEqual(version, {"etcdserver": "3.5.21", "etcdcluster": "3.5.0"})

    def test_other_methods_are_refused_as_by_etcd(self):
        etcd = self.space.own(Etcd(self.space, None, tls=False)).start()
        for path in ("/health", "/version"):
            for method in ("POST", "PUT", "DELETE"):
                expected, headers, _ = ask(etcd.port, path, method)
                self.assertEqual((expected, headers["allow"]), (405, "GET"))
                status, headers, _ = ask(self.node.port, path, method)
                self.assertEqual(status, 405)
                self.assertIn("GET", headers["allow"].split(", "))
        for path in ("/livez", "/readyz", "/readyz/non_learner", "/metrics"):
            self.assertEqual(ask(self.node.port, path, "POST")[0], 405)
        self.assertEqual(ask(self.node.port, "/livez/linearizable_read")[0], 404)
        self.assertEqual(ask(self.node.port, "/health", "HEAD")[::2], (200, ""))

    def test_the_metrics_port_serves_nothing_else(self):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)) as connection:
            connection.request("POST", "/v3/kv/range", '{"key":"YQ=="}')
            self.assertEqual(connection.getresponse().status, 404)
        result = subprocess.run(
            ["etcdctl", "--endpoints", f"http://127.0.0.1:{self.metrics_port}", "--command-timeout", "2s", "get", "a"],
            capture_output=True, text=True, timeout=20)
        self.assertNotEqual(result.returncode, 0)

    def test_alarms(self):
        self.node.etcdctl("put", "a", "1")
        port = self.node.port
        body = json.dumps({"action": "ACTIVATE", "memberID": "7", "alarm": "NOSPACE"})
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("POST", "/v3/maintenance/alarm", body)
            self.assertEqual(connection.getresponse().status, 200)
        status, _, text = ask(port, "/health")
        self.assertEqual((status, json.loads(text)), (503, {"health": "false", "reason": "ALARM NOSPACE"}))
        self.assertEqual(ask(port, "/health?exclude=NOSPACE")[0], 200)
        self.assertEqual(ask(port, "/readyz")[0], 200)
        self.node.etcdctl("alarm", "disarm")
        self.assertEqual(ask(port, "/health")[0], 200)


class WithoutQuorum(unittest.TestCase):
    def test_a_member_that_is_left_alone_lives_but_is_not_ready(self):
        space = Workspace()
        self.addCleanup(space.close)
        cluster = Cluster(space, None, 3, tls=False).start()
        cluster.leader()
        survivor, *others = cluster.members.values()
        for member in others:
            member.kill()

        def reason():
            status, _, body = ask(survivor.port, "/health")
            return status == 503 and json.loads(body)["reason"] == "RAFT NO LEADER"

        wait_until(reason, "the loss of the leader", 30)
        status, _, body = ask(survivor.port, "/readyz")
        self.assertEqual(status, 503)
        self.assertIn("[-]linearizable_read failed: etcdserver: ", body)
        self.assertIn("[+]serializable_read ok\n", body)
        for path in ("/livez", "/health?serializable=true", "/readyz?exclude=linearizable_read", "/readyz/non_learner"):
            self.assertEqual(ask(survivor.port, path)[0], 200, path)
        for member in others:
            member.spawn()
        wait_until(lambda: ask(survivor.port, "/readyz")[0] == 200, "readiness", 30)


if __name__ == "__main__":
    unittest.main()
