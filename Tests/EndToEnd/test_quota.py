"""The space quota through etcdctl: what adds is refused in etcd's words, what removes always works, the alarm ends."""

import unittest

from harness import Etcd, Node, Workspace, masked, wait_until

QUOTA_BYTES = 1 << 20
VALUE = "x" * 20_000
NO_SPACE = "etcdserver: mvcc: database space exceeded"


class Quota(unittest.TestCase):
    def node(self, *extra):
        space = Workspace()
        self.addCleanup(space.close)
        return space.own(Node(
            space, None, tls=False, extra=["--quota-backend-bytes", str(QUOTA_BYTES), *extra]).start())

    def ok(self, node, *arguments):
        done = node.etcdctl(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def fill(self, node):
        for number in range(200):
            done = node.etcdctl("put", f"k{number:03}", VALUE)
            if done.returncode != 0:
                self.assertIn(NO_SPACE, done.stderr)
                return number
        self.fail("200 values of 20 kB went into 1 MiB")

    def free(self, node):
        self.ok(node, "del", "--prefix", "k")
        revision = self.ok(node, "get", "--prefix", "nothing", "-w", "json").split('"revision":')[1].split(",")[0]
        self.ok(node, "compact", revision)

    def test_the_alarm_ends_by_itself_once_there_is_room(self):
        node = self.node()
        count = self.fill(node)
        self.assertGreater(count, 40)
        wait_until(lambda: "alarm:NOSPACE" in self.ok(node, "alarm", "list"), "the alarm", 10)
        self.assertIn("alarm:NOSPACE", node.etcdctl("endpoint", "status", "-w", "json").stdout)
        self.assertIn(NO_SPACE, node.etcdctl("put", "small", "1").stderr)
        self.assertIn(NO_SPACE, node.etcdctl("lease", "grant", "60").stderr)
        self.assertEqual(self.ok(node, "get", "k000", "--print-value-only").strip(), VALUE)
        self.assertEqual(node.get("/health")[0], 503)
        # A killed member comes back with its alarm.
        node.kill()
        node.spawn()
        wait_until(lambda: node.etcdctl("get", "k000").returncode == 0, "service after the kill", 20)
        self.assertIn("alarm:NOSPACE", self.ok(node, "alarm", "list"))
        self.free(node)
        wait_until(lambda: self.ok(node, "alarm", "list") == "", "the alarm's end", 10)
        self.ok(node, "put", "small", "1")
        self.assertEqual(node.get("/health")[0], 200)

    def test_by_hand_as_etcd_does(self):
        node = self.node("--quota-alarm-manual")
        self.fill(node)
        wait_until(lambda: "alarm:NOSPACE" in self.ok(node, "alarm", "list"), "the alarm", 10)
        self.free(node)
        self.ok(node, "defrag")
        self.assertIn(NO_SPACE, node.etcdctl("put", "small", "1").stderr)
        self.assertIn("alarm:NOSPACE", self.ok(node, "alarm", "disarm"))
        self.assertEqual(self.ok(node, "alarm", "list"), "")
        self.ok(node, "put", "small", "1")

    def test_the_words_are_those_of_etcd(self):
        """The same commands on the control, whose quota counts another kind of bytes."""
        space = Workspace()
        self.addCleanup(space.close)
        etcd = Etcd(space, None, tls=False)
        etcd.command = lambda: [*Etcd.command(etcd), "--quota-backend-bytes", str(QUOTA_BYTES)]
        servers = [self.node("--quota-alarm-manual"), space.own(etcd.start())]
        answers = []
        for server in servers:
            self.fill(server)
            said = []
            for arguments in (("put", "a", "b"), ("lease", "grant", "60"), ("txn",), ("del", "k000"), ("alarm", "list"),
                              ("alarm", "disarm"), ("alarm", "disarm"), ("alarm", "list")):
                done = server.etcdctl(*arguments, input="\n\nput a b\n\n" if arguments == ("txn",) else None)
                said.append((arguments, done.returncode, self.masked(done.stdout), self.masked(done.stderr)))
            answers.append(said)
        self.assertEqual(*answers)

    @staticmethod
    def masked(text):
        return masked(text, (r"memberID:\d+", "memberID:M"), (r'"ts":"[^"]*"', "TIME"), (r"endpoint://[^\"]*", "ENDPOINT"))


if __name__ == "__main__":
    unittest.main()
