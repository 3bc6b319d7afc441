"""A node under a mixed load, a ledger and the lease oracle: what the fault tests have in common."""

import random
import time

from etcd_client import EtcdClient
from harness import Node, wait_until
from ledger import Ledger, Observer
from lease_oracle import LeaseOracle
from mixed_load import MixedLoad

# TTLs of one second need a minimum of one second: one and a half election time-outs.
SHORT_LEASES = ("--heartbeat-interval", "100", "--election-timeout", "500")


class OracleRun:
    def __init__(self, space, seed, name="n0", extra=(), environment=None, prefix=(), bound=1.0, fast=0.0,
                 data=None):
        self.random = random.Random(seed)
        self.oracle = LeaseOracle(bound=bound, fast=fast)
        self.ledger = Ledger(self.oracle)
        self.node = space.own(Node(space, None, name, tls=False, extra=[*SHORT_LEASES, *extra]))
        self.node.environment = dict(environment or {})
        self.node.prefix = list(prefix)
        if data:
            self.node.data = data
        self.load = MixedLoad(self.node.port, self.ledger, self.oracle, self.random.random())
        self.client = EtcdClient(self.node.port)
        self.observer = None

    def start(self):
        self.node.start()
        self.observe()
        self.load.start()
        return self

    def observe(self):
        """Reads history again from the oldest revision there is, compares it with what was seen before, goes on live."""
        if self.observer:
            self.observer.stop()
            self._raise(self.observer)
        start = max(self.ledger.compacted + 1, 2)
        end = time.monotonic() + 10
        while True:
            observer = Observer(self.client, self.ledger, start)
            wait_until(lambda: observer.is_created or observer.compacted or not observer.is_alive(), "a watch", 10)
            if observer.is_created and not observer.compacted:
                break
            if not observer.compacted:
                if time.monotonic() > end:
                    raise AssertionError(f"no watch: {observer.ended}")
                continue
            # A compaction whose answer was lost.
            if not start <= observer.compacted <= self.ledger.compacted_at_most:
                raise AssertionError(f"a watch from {start} says compacted at {observer.compacted}")
            start = observer.compacted + 1
            self.ledger.compacted = observer.compacted
        self.observer = observer

    def _raise(self, observer):
        if observer.problem:
            raise observer.problem

    def wait_for_service(self, seconds=30):
        self.node.wait_ready(seconds)

    def checkpoint(self, resume=True):
        """Stops the load, compares everything that was acknowledged and seen, and goes on."""
        self.load.pause()
        asked = time.monotonic()
        revision, pairs = self.client.everything()
        self.oracle.acknowledged(time.monotonic())      # the end of an outage, if there was one
        observer = self.observer
        try:
            wait_until(lambda: observer.caught_up_to >= revision or not observer.is_alive(), "its event", 30)
        except AssertionError:
            pass
        self._raise(observer)
        if observer.caught_up_to < revision:
            raise AssertionError(
                f"the watch from revision {observer.start_revision} came to {observer.caught_up_to} of {revision} "
                f"({observer.ended or 'the connection stands'}; compacted: {self.ledger.compacted})")
        with self.ledger.lock:
            self.ledger.check_state(revision, pairs)
        self.load.list_leases(self.client)
        for lease in list(self.load.lasting):
            self.load.time_to_live(self.client, lease)
        self.oracle.load_pauses()
        problems = self.problems()
        if problems:
            raise AssertionError(f"{len(problems)} violations at revision {revision}:\n" + "\n".join(problems[:10]))
        if resume:
            self.load.resume()
        return time.monotonic() - asked

    def problems(self):
        return self.ledger.violations + self.oracle.check() + self.load.failures

    def stop(self):
        self.load.stop()
        if self.observer:
            self.observer.stop()
        self.client.close()

    def summary(self):
        counts = self.oracle.counts()
        return (
            f"{sum(count for name, count in self.load.counts.items() if name != 'unanswered')} answers, "
            f"{self.load.counts.get('unanswered', 0)} unanswered, {self.ledger.replayed} revisions replayed, "
            + ", ".join(f"{count} {name}" for name, count in counts.items()))
