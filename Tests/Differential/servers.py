"""The control and the product, each a single member without TLS on a data directory of its own."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "EndToEnd"))

from harness import Etcd, Node, Workspace, leasehold

from protocol import Client, Resolver
from watches import GUARD_KEY

FIRST_REVISIONS = 10
# The largest difference of revisions that is made up for between two sequences.
MAX_PADDING = 20_000
EVERYTHING = {"key": "\0", "range_end": "\0"}
# A shorter election than etcd's default, for quick restarts: the shortest lease still has 2 s.
FLAGS = ["--heartbeat-interval", "80", "--election-timeout", "800"]
SHORTEST_TTL_SECONDS = 2


class Control(Etcd):
    def command(self):
        return [*super().command(), *FLAGS, "--snapshot-count", "10000"]


class Product(Node):
    def command(self):
        return [*super().command(), *FLAGS]


class Unusable(Exception):
    """A server does not do what the preparation of a sequence needs."""


class Side:
    """One server and its client."""

    def __init__(self, server, methods):
        self.server, self.methods = server, methods
        self.client, self.make_client = None, Client

    @property
    def is_control(self):
        return isinstance(self.server, Control)

    def connect(self):
        self.server.wait_ready(60)
        self.client = self.make_client(self.server.port, self.methods)

    def reconnect(self, make_client):
        self.make_client = make_client
        self.client.close()
        self.connect()

    def kill_and_start_again(self):
        """On the same data directory and port."""
        self.client.close()
        self.server.kill()
        self.server.spawn()
        self.connect()

    def answer(self, method, fields, resolve):
        """For preparations: what the server really said, also when a liar (lies.py) stands in between."""
        answer, error = Client.call(self.client, method, self.client.request(method, fields, resolve))
        if error:
            raise Unusable(f"{self.server.program}: {method} {fields}: {error}")
        return answer

    def put_guard(self, times=1):
        for _ in range(times):
            self.answer("Put", {"key": GUARD_KEY}, None)

    def empty(self):
        """No leases, no key but the guard's. The revision it has come to."""
        for lease in self.answer("LeaseLeases", {}, None).leases:
            self.answer("LeaseRevoke", {"ID": lease.ID}, None)
        self.answer("DeleteRange", EVERYTHING, None)
        return self.answer("Put", {"key": GUARD_KEY}, None).header.revision


class Pair:
    """Both sides. What they are asked to do they do at the same time, each on a thread of its own."""

    def __init__(self, methods):
        self.methods = methods
        self.space = None
        self.threads = ThreadPoolExecutor(2)

    def start(self):
        self.space = Workspace()
        self.sides = [
            Side(self.space.own(server(self.space, None, "differential", tls=False)).spawn(), self.methods)
            for server in (Control, Product)]
        self.both(Side.connect)
        # "@base-5" means the same on new servers as on old ones only when there are that many revisions.
        self.both(lambda side: side.put_guard(FIRST_REVISIONS))

    def stop(self):
        if self.space:
            for side in self.sides:
                if side.client:
                    side.client.close()
            self.space.close()
            self.space = None

    def restart(self):
        self.stop()
        self.start()

    def both(self, work):
        """`work(side)` for each side; both results, or the first exception when both have ended."""
        return [future.result() for future in [self.threads.submit(work, side) for side in self.sides]]

    def prepare(self):
        """Stores with nothing but the guard's key at one and the same revision, everything before it compacted: a
        resolver for each side."""
        revisions = self.both(Side.empty)
        padding = max(revisions) - min(revisions)
        if padding > MAX_PADDING:
            raise Unusable(f"revisions {revisions}")
        if padding:
            for side, revision in zip(self.sides, revisions):
                side.put_guard(max(revisions) - revision)
            revisions = self.both(Side.empty)
        [base] = set(revisions)
        self.both(lambda side: side.answer("Compact", {"revision": base}, None))
        return [Resolver(base) for _ in self.sides]
