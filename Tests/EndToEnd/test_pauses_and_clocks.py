"""Time goes wrong under the real process: it is stopped (SIGSTOP), the wall clock jumps by hours, its clocks drift. The
ledger and the lease oracle watch, by the monotonic clock of this process.

libfaketime shifts the clocks. A kernel moves CLOCK_REALTIME only, so jumps are made with the monotonic clock left alone;
drift is made on both, and the oracle then allows leases to be early by just that rate. That libfaketime took effect is
read from the times of the node's own log lines.
"""

import datetime
import glob
import os
import random
import re
import signal
import time
import unittest
from pathlib import Path

from etcd_client import EtcdClient, rpc
from harness import Node, Workspace, wait_until
from lease_oracle import LeaseOracle
from ledger import DELETE, Ledger, Observer
from oracle_run import SHORT_LEASES, OracleRun
from preloads import faketime_library

IS_LONG = "SOAK" in os.environ
PAUSES_SECONDS = [1, 2, 5, 10, 20, 30] if IS_LONG else [1, 2.2, 1.4]
JUMPS_SECONDS = [3600, -3600, 7200, 0, -86_400, 3600] * (5 if IS_LONG else 1)
DRIFT = 0.03
DRIFT_SECONDS = 60 if IS_LONG else 8


class Faults(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.seed = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(1 << 32)))

    def begin(self, **options):
        run = OracleRun(self.space, self.seed, **options)
        self.addCleanup(run.stop)
        return run.start()

    def end(self, run, expiries=3):
        run.checkpoint(resume=False)
        print(f"  {run.summary()}, FAULT_SEED={self.seed}", flush=True)
        self.assertGreater(run.oracle.counts()["expiries"], expiries)


class Pauses(Faults):
    def test_a_stopped_process_owes_the_same_and_ends_what_is_due(self):
        run = self.begin()
        for seconds in PAUSES_SECONDS:
            time.sleep(run.random.uniform(1.0, 2.0))
            run.node.process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                run.node.process.send_signal(signal.SIGCONT)
            time.sleep(run.random.uniform(0.3, 1.0))
            run.checkpoint()
        self.end(run)

    def test_stopped_again_and_again_for_moments(self):
        run = self.begin()
        end = time.monotonic() + (30 if IS_LONG else 5)
        while time.monotonic() < end:
            time.sleep(run.random.uniform(0.0, 0.1))
            run.node.process.send_signal(signal.SIGSTOP)
            time.sleep(run.random.uniform(0.0, 0.2))
            run.node.process.send_signal(signal.SIGCONT)
        self.end(run, expiries=0)


class Punctuality(Faults):
    """No load beside it: here the smallest fractions of a second can be seen."""

    LEASES = 1_000

    def test_no_lease_ends_a_fraction_of_a_millisecond_early(self):
        node = self.space.own(Node(self.space, None, tls=False, extra=SHORT_LEASES).start())
        client = EtcdClient(node.port)
        self.addCleanup(client.close)
        oracle = LeaseOracle()
        ledger = Ledger(oracle)
        observer = Observer(client, ledger, 2)
        self.addCleanup(observer.stop)
        wait_until(lambda: observer.is_created, "the watch")
        sent = {}
        for lease in range(1, self.LEASES + 1):
            grant = client.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=1, ID=lease))
            oracle.grant(lease, 1, grant.start, grant.end)
            sent[b"%d" % lease] = grant.start
            client.ask("Put", rpc.PutRequest(key=b"%d" % lease, lease=lease))
            time.sleep(random.uniform(0.0, 0.002))      # at all places of a millisecond
        wait_until(lambda: not client.everything()[1], "the end of all leases", 10)
        revision = client.everything()[0]
        wait_until(lambda: observer.caught_up_to >= revision, "all events", 10)
        margins = []
        for at, events in ledger.events.items():
            for kind, key, _ in events:
                if kind == DELETE:
                    oracle.vanished(int(key), at, ledger.seen[at], 1)
                    margins.append(ledger.seen[at] - sent[key] - 1)
        print(f"  {len(margins)} leases ended {min(margins) * 1e3:.3f} to {max(margins) * 1e3:.0f} ms after their TTL",
              flush=True)
        self.assertEqual(len(margins), self.LEASES)
        self.assertEqual(oracle.check(), [])


class Clocks(Faults):
    def setUp(self):
        super().setUp()
        self.library = faketime_library()
        if not self.library:
            self.fail("libfaketime is missing: Config/install-packages tests")
        self.setting = self.space / "faketime"
        # What libfaketime leaves behind of a process that was killed.
        self.addCleanup(lambda: [os.unlink(path) for path in set(glob.glob("/dev/shm/*faketime_s*")) - before])
        before = set(glob.glob("/dev/shm/*faketime_s*"))

    def shift(self, text):
        """Takes effect at the process's next look at a clock; never half written."""
        new = self.space / "faketime.new"
        new.write_text(text)
        new.rename(self.setting)

    def begin_shifted(self, environment=None, **options):
        """libfaketime adds a variable to the environment when a process begins, after which a Swift program does not find
        its arguments any more: so `env`, which becomes the node, is the process in which it does that."""
        return self.begin(prefix=["/usr/bin/env"], environment={
            "LD_PRELOAD": self.library, "FAKETIME_TIMESTAMP_FILE": str(self.setting), "FAKETIME_NO_CACHE": "1",
            **(environment or {})}, **options)

    def logged_shift(self, run):
        """By how many seconds the node's last log line is ahead of the real time."""
        text = re.findall(r"^(\d{4}-\S+) info", Path(run.node.log).read_text(), re.MULTILINE)[-1]
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp() - time.time()

    def restart(self, run):
        run.node.kill()
        run.node.start()
        run.observe()

    def test_the_wall_clock_jumps(self):
        self.shift("+0")
        run = self.begin_shifted({"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
        for number, seconds in enumerate(JUMPS_SECONDS):
            self.shift(f"{seconds:+d}")
            time.sleep(run.random.uniform(0.8, 1.5))
            if number % 2:
                self.restart(run)       # in another hour than it ended
                self.assertAlmostEqual(self.logged_shift(run), seconds, delta=30)
            run.checkpoint()
        self.end(run)

    def drift(self, rate):
        self.shift(f"+0 x{rate}")
        run = self.begin_shifted(fast=max(0.0, rate - 1), bound=1.0 + 5 * abs(rate - 1))
        for _ in range(2):
            time.sleep(DRIFT_SECONDS / 2)
            self.restart(run)
            run.checkpoint()
        self.end(run)

    def test_a_clock_that_runs_fast(self):
        self.drift(1 + DRIFT)

    def test_a_clock_that_runs_slow(self):
        self.drift(1 - DRIFT)

    def test_control_a_clock_that_runs_fast_is_noticed(self):
        self.shift("+0 x1.3")
        run = self.begin_shifted()
        time.sleep(4)
        with self.assertRaisesRegex(AssertionError, "early"):
            run.checkpoint()


if __name__ == "__main__":
    unittest.main()
