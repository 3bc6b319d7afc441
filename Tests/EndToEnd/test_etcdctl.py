"""The differential: the same etcdctl commands against Debian's etcd and against Leasehold, over mutual TLS.

A script is a function that drives a `Session`; the session writes a transcript with identities, sizes and times masked.
Both transcripts must be equal, line by line: outputs, errors and exit codes.
"""

import difflib
import json
import os
import re
import signal
import subprocess
import time
import unittest

from harness import PKI, Etcd, Node, Workspace, spawn, tail, wait_until

# Output formats that show everything; `fields` and `json` name revisions, counts and flags.
FIELDS, JSON = ("-w", "fields"), ("-w", "json")


class Session:
    def __init__(self, server):
        self.server = server
        self.transcript = []
        self.leases = {}

    # -- writing the transcript

    def masked(self, text):
        text = text.replace(str(self.server.port), "PORT")
        for name, lease in self.leases.items():
            text = text.replace(lease, name).replace(str(int(lease, 16)), f"#{name}")
        for pattern, replacement in (
            (r'"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|ID)":\d+',
             r'"\1":0'),
            (r'"(ClusterID|MemberID|RaftTerm|Leader|RaftIndex|RaftAppliedIndex|DBSize|ID)" ?: ?\d+', r'"\1" : 0'),
            (r'"version":"[0-9.]+"', '"version":"V"'),
            (r'"Version" : "[0-9.]+"', '"Version" : "V"'),
            (r'"peerURLs":\[[^]]*\]', '"peerURLs":[]'),
            (r"took = \S+", "took = T"),
            (r"took too long.*", ""),
            (r"remaining\(\d+s\)", "remaining(Ns)"),
            (r'"ttl":\d+,"granted-ttl"', '"ttl":N,"granted-ttl"'),
            (r'"TTL" : \d+', '"TTL" : N'),
        ):
            text = re.sub(pattern, replacement, text)
        # etcd keeps the keys of a lease in a map: in no order.
        return re.sub(r"attached keys\(\[([^]]*)\]\)",
                      lambda match: f"attached keys({sorted(match.group(1).split())})", text)

    def note(self, title, code, output, error):
        self.transcript.append(f"$ {title} → {code}")
        self.transcript += self.masked(output).splitlines()
        # etcdctl's client logs retries as JSON; the verdict is the line that begins with Error.
        errors = [line for line in self.masked(error).splitlines() if line.startswith("Error")]
        self.transcript += [f"! {line}" for line in errors]

    # -- running

    def run(self, *arguments, input=None):
        arguments = [self.leases.get(argument, argument) for argument in arguments]
        arguments = [re.sub(r"^--lease=(\w+)$", lambda m: f"--lease={self.leases.get(m[1], m[1])}", a) for a in arguments]
        result = self.server.etcdctl(*arguments, input=input)
        self.note(" ".join(self.masked(argument) for argument in arguments), result.returncode, result.stdout, result.stderr)
        return result.stdout

    def txn(self, compares=(), success=(), failure=(), flags=()):
        self.run(*flags, "txn", input="\n".join([*compares, "", *success, "", *failure, "", ""]))

    def grant(self, name, seconds):
        output = self.server.etcdctl("lease", "grant", str(seconds)).stdout
        self.leases[name] = re.search(r"lease ([0-9a-f]{16}) granted", output)[1]
        self.note(f"lease grant {seconds} as {name}", 0, output, "")

    def watch(self, *arguments, until=None, during=lambda: None, input=None):
        """Runs a watch while `during` happens. It ends by itself (`until` None), or once `until` has been printed."""
        log = self.server.space / f"watch-{self.server.program}.log"
        errors = self.server.space / f"watch-{self.server.program}.err"
        for path in (log, errors):
            path.write_text("")
        command = ["etcdctl", *self.server.etcdctl_flags(), "watch", *arguments]
        os.environ["ETCDCTL_API"] = "3"
        with open(log, "wb") as output:
            process = spawn(command, errors, stdout=output, stdin=subprocess.PIPE)
        try:
            if input:
                # It stays open: etcdctl ends with its input.
                process.stdin.write(input.encode())
                process.stdin.flush()
            # A watch from a given revision misses nothing; one from now on must be there before the changes.
            if input is None and not any(argument.startswith("--rev") for argument in arguments):
                wait_until(lambda: self.is_watched() or process.poll() is not None, f"{self.server.program}'s watch")
            during()
            if until is None:
                code = process.wait(15)
            else:
                wait_until(lambda: until in log.read_text(), f"'{until}' in the watch of {arguments}\n{tail(log)}", 15)
                process.send_signal(signal.SIGINT)
                process.wait(15)
                code = "stopped"
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
        self.note(f"watch {' '.join(arguments)}", code, log.read_text(), errors.read_text())

    def is_watched(self):
        metrics = self.server.metrics()
        return sum(value for name, value in metrics.items() if name.startswith("etcd_debugging_mvcc_watcher_total")) > 0


# -- the scripts

def keys_and_ranges(s):
    for key, value in [("a", "1"), ("b", "2"), ("c", "3"), ("ca", "4"), ("cb", "5"), ("d", "")]:
        s.run("put", key, value)
    s.run("put", "b", "2b", "--prev-kv")
    s.run("put", "b", "2c", *JSON, "--prev-kv")
    s.run("put", "from stdin", input="a value\nof two lines\n")
    s.run("put", "c", "--ignore-value", *JSON)
    s.run("put", "absent", "--ignore-value")
    s.run("put", "b", "x", "--ignore-lease")
    s.run("put", "absent", "x", "--ignore-lease")
    s.run("put", "", "x")
    s.run("put", "x", "y", "--lease=7b")
    for format in ((), FIELDS, JSON):
        s.run("get", "a", *format)
        s.run("get", "nothing", *format)
        s.run("get", "a", "c", *format)
        s.run("get", "c", "--prefix", *format)
        s.run("get", "c", "--from-key", *format)
        s.run("get", "", "--prefix", "--keys-only", *format)
        s.run("get", "", "--prefix", "--count-only", *format)
        s.run("get", "", "--prefix", "--limit=2", *format)
        s.run("get", "a", "--rev=2", *format)
    s.run("get", "c", "--prefix", "--print-value-only")
    s.run("get", "a", "--hex")
    s.run("get", "a", "--consistency=s")
    for field in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION"):
        for order in ("ASCEND", "DESCEND"):
            s.run("get", "", "--prefix", f"--order={order}", f"--sort-by={field}")
            s.run("get", "", "--prefix", f"--order={order}", f"--sort-by={field}", "--limit=3", *JSON)
    s.run("get", "", "--from-key", "--rev=4", "--limit=1", *FIELDS)
    s.run("get", "a", "--rev=999")
    s.run("get", "")
    s.run("get", "a", "--prefix", "--from-key")
    s.run("get", "a", "z", "--prefix")
    s.run("get", "b", "a")
    s.run("put", "ключ", "значение")
    s.run("get", "ключ", *JSON)
    s.run("put", "big", "x" * 100_000)
    s.run("get", "big", *JSON)


def deletes(s):
    for key in ("a", "b", "ba", "bb", "c", "d"):
        s.run("put", key, key)
    s.run("del", "a")
    s.run("del", "a")
    s.run("del", "c", "--prev-kv")
    s.run("del", "b", "--prefix", "--prev-kv", *JSON)
    s.run("del", "a", "z", *FIELDS)
    s.run("del", "", "--from-key", *JSON)
    s.run("del", "")
    s.run("get", "", "--prefix", *JSON)
    s.run("put", "a", "again")
    s.run("get", "a", *JSON)


def transactions(s):
    s.run("put", "a", "1")
    s.run("put", "a", "2")
    for compare in ('value("a") = "2"', 'value("a") = "9"', 'value("a") > "1"', 'value("a") != "2"', 'mod("a") > "2"',
                    'create("a") = "2"', 'version("a") = "2"', 'mod("none") = "0"', 'value("none") = ""',
                    'lease("a") = "0"'):
        s.txn([compare], ["get a"], ["get none"], JSON)
    s.txn(['value("a") = "2"', 'version("a") > "1"'], ["put b 3", "get b", "del a", "get a --prefix"], ["put never 1"])
    s.txn(['value("a") = "2"'], ["put never 1"], ["put c 4", "get c", "del c"], JSON)
    s.txn([], ["put d 5"], [])
    s.txn([], [], [])
    s.txn([], ["put e 6", "put e 7"], [])
    s.txn([], ["put e 6", "del e"], [])
    s.txn([], ["del a z", "put b 1"], [])
    s.txn([], ["del e", "del e --prefix"], [])
    s.txn(['nonsense("a") = "1"'], ["put e 6"], [])
    s.txn([], ["frobnicate e"], [])
    s.txn([], ['put "" 1'], [])
    s.txn(['value("") = "1"'], ["put e 6"], [])
    s.txn([], ["get a --rev=999"], [])
    s.txn([], ["put h 1 --lease=7b"], [])
    s.run("txn", "-i", input='mod("d") > "0"\n\nput f 7\nget f\n\nget a\n\n')
    many = [f"put k{number:03} 1" for number in range(129)]
    s.txn([], many[:128], [], JSON)
    s.txn([], many, [])
    s.run("get", "", "--prefix", *JSON)


def watches(s):
    put = lambda key, value="v": (lambda: s.run("put", key, value))
    several = lambda *steps: (lambda: [step() for step in steps])
    s.run("put", "a", "0")
    s.watch("a", during=several(put("a", "1"), put("b"), put("a", "2"), lambda: s.run("del", "a"), put("a", "end")), until="end")
    s.watch("a", "--prev-kv", during=several(put("a", "3"), lambda: s.run("del", "a"), put("a", "stop")), until="stop")
    s.watch("", "--prefix", during=several(put("x"), put("y"), put("fin")), until="fin")
    s.watch("m", "p", during=several(put("n"), put("p"), put("o", "last")), until="last")
    s.watch("z", "--prev-kv", "--", "z", during=put("z"), until=None)
    put("z", "past")()
    # One stream, typed: a watch, and a question how far it is.
    s.watch("-i", input="watch a\nprogress\n", until="progress notify")
    s.watch("a", "--rev=2", until="stop")
    s.watch("a", "--rev=2", "--prev-kv", *JSON, until="c3RvcA")
    s.watch("", "--prefix", "--rev=5", *FIELDS, until='"past"')
    txn = lambda: s.txn([], ["put t1 1", "put t2 2", "del a"])
    s.watch("", "--prefix", *JSON, during=several(txn, put("zz")), until="eno=")
    # Not at a deletion: there this etcd forgets the event that a watch from just that revision is owed, and we do not.
    s.run("compaction", "7")
    s.watch("a", "--rev=3")
    s.watch("", "--prefix", "--rev=2", *JSON)
    s.watch("a", "--rev=7", *JSON, until="c3RvcA")
    s.run("compaction", "7")
    s.run("compaction", "9999")
    s.run("compaction", "8", "--physical")
    s.run("get", "a", "--rev=3")
    s.run("get", "", "--prefix", "--rev=8", *JSON)
    s.txn([], ["get a --rev=3"], [])
    s.run("compaction")
    s.run("compaction", "x")


def leases(s):
    s.grant("L1", 100)
    s.grant("L2", 200)
    s.run("put", "a", "1", "--lease=L1")
    s.run("put", "b", "2", "--lease=L1")
    s.run("put", "c", "3", "--lease=L2")
    s.run("get", "a", *JSON)
    s.run("lease", "timetolive", "L1")
    s.run("lease", "timetolive", "L1", "--keys")
    s.run("lease", "timetolive", "L2", "--keys", *JSON)
    s.run("lease", "timetolive", "L2", *FIELDS)
    s.run("lease", "keep-alive", "--once", "L1")
    s.run("lease", "keep-alive", "--once", "L1", *JSON)
    s.run("lease", "list")
    s.run("put", "a", "moved", "--lease=L2")
    s.run("put", "b", "kept", "--ignore-lease")
    s.run("put", "c", "freed")
    s.run("lease", "timetolive", "L1", "--keys")
    s.run("lease", "timetolive", "L2", "--keys")
    s.run("lease", "revoke", "L1")
    s.run("get", "", "--prefix", *JSON)
    s.run("lease", "revoke", "L1")
    s.run("lease", "keep-alive", "--once", "L1")
    s.run("lease", "timetolive", "L1")
    s.run("lease", "timetolive", "L1", *JSON)
    s.run("put", "x", "1", "--lease=L1")
    s.run("lease", "revoke", "7b")
    s.run("lease", "revoke", "zzz")
    s.run("lease", "timetolive", "7b")
    s.run("lease", "keep-alive", "--once", "7b")
    s.run("lease", "grant", "9000000001")
    s.run("lease", "grant", "-5")
    s.run("lease", "grant", "x")
    s.run("lease", "grant")
    s.txn([], ["put t 1 --lease=7b"], [])
    s.grant("L3", 1)   # the shortest lease is one and a half election time-outs, in whole seconds
    s.run("put", "dying", "1", "--lease=L3")
    s.run("put", "dying/2", "1", "--lease=L3")
    s.run("get", "dying", "--prefix", *JSON)
    wait_until(lambda: "dying" not in s.server.etcdctl("get", "dying", "--prefix").stdout, "the lease's end", 15, 0.1)
    s.run("lease", "timetolive", "L3")
    s.run("lease", "list")
    s.run("get", "", "--prefix", *JSON)


def cluster(s):
    s.run("put", "k", "v")
    s.run("endpoint", "health")
    s.run("endpoint", "status", *JSON)
    s.run("endpoint", "status", *FIELDS)
    s.run("member", "list", *JSON)
    s.run("alarm", "list")
    s.run("alarm", "disarm")
    s.run("lock", "mutex", "echo", "held")
    s.run("get", "mutex", "--prefix", "--keys-only")
    s.run("frobnicate")
    s.run("get")


class Differential(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.pki_space = Workspace()
        cls.pki = PKI(cls.pki_space / "pki")

    @classmethod
    def tearDownClass(cls):
        cls.pki_space.close()

    def compare(self, script, at_least):
        space = Workspace()
        self.addCleanup(space.close)
        sessions = []
        for server in (Etcd(space, self.pki), Node(space, self.pki, name="default")):
            session = Session(space.own(server.start()))
            script(session)
            sessions.append(session)
            code = server.stop()
            if isinstance(server, Node):
                self.assertEqual(code, 0, "SIGTERM is how a node is stopped, no failure")
        theirs, ours = (session.transcript for session in sessions)
        difference = list(difflib.unified_diff(theirs, ours, "etcd 3.4", "leasehold", lineterm="", n=2))
        self.assertFalse(difference, "\n" + "\n".join(difference[:80]))
        self.assertGreater(len(theirs), at_least, "the script has printed something")

    def test_keys_and_ranges(self):
        self.compare(keys_and_ranges, 200)

    def test_deletes(self):
        self.compare(deletes, 25)

    def test_transactions(self):
        self.compare(transactions, 80)

    def test_watches_and_compaction(self):
        self.compare(watches, 100)

    def test_leases(self):
        self.compare(leases, 60)

    def test_cluster(self):
        self.compare(cluster, 15)

    def test_simple_status_lines(self):
        """The plain forms hold names and addresses; their shape is what scripts cut apart."""
        space = Workspace()
        self.addCleanup(space.close)
        shapes = []
        for server in (Etcd(space, self.pki), Node(space, self.pki, name="default")):
            space.own(server.start())
            status = server.etcdctl("endpoint", "status").stdout
            members = server.etcdctl("member", "list").stdout
            self.assertRegex(members, r"^[0-9a-f]+, started, default, \S+, \S+, false\n$")
            shapes.append([len(status.split(", ")), status.split(", ")[0].replace(str(server.port), "PORT"),
                           status.split(", ")[4:6], len(members.split(", "))])
            table = server.etcdctl("endpoint", "status", "-w", "table").stdout
            self.assertIn("IS LEADER", table)
            identity = json.loads(server.etcdctl("endpoint", "status", *JSON).stdout)[0]["Status"]
            self.assertEqual(identity["leader"], identity["header"]["member_id"])
        self.assertEqual(*shapes)


class KeepAlive(unittest.TestCase):
    def test_a_stream_keeps_a_short_lease_alive_and_its_end_lets_it_die(self):
        space = Workspace()
        self.addCleanup(space.close)
        node = space.own(Node(space, PKI(space / "pki"), name="default").start())
        lease = re.search(r"lease (\w+)", node.etcdctl("lease", "grant", "2").stdout)[1]
        node.etcdctl("put", "k", "v", f"--lease={lease}")
        os.environ["ETCDCTL_API"] = "3"
        keeper = spawn(["etcdctl", *node.etcdctl_flags(), "lease", "keep-alive", lease], space / "keeper.log")
        try:
            start = time.monotonic()
            while time.monotonic() - start < 5:
                self.assertIn("v", node.etcdctl("get", "k").stdout)
                time.sleep(0.2)
        finally:
            keeper.kill()
            keeper.wait()
        ended = time.monotonic()
        wait_until(lambda: not node.etcdctl("get", "k").stdout, "the end of the lease", 10, 0.1)
        self.assertLess(time.monotonic() - ended, 6)


if __name__ == "__main__":
    unittest.main()
