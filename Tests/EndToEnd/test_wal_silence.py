"""A hit inside the renewal window costs no byte of the log; one outside of it does (the control)."""

import contextlib
import time
import unittest

from harness import PKI, Node, Workspace, total, wait_until

# A record of the lease clock, with what surrounds it in the log.
CLOCK_SECONDS, CLOCK_BYTES = 1, 128
HITS = "/v1/caches/silent/hit/some/key"


class WALSilence(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.node = cls.space.own(
            Node(cls.space, PKI(cls.space / "pki"),
                 caches=["silent:ttl=10m,window=4m,jitter=0,register=on-hit", "brisk:ttl=1m,window=1s,jitter=0"]).start())

    def settled(self):
        """The log's size once nothing is being written any more but the lease clock, every second while leases exist,
        whatever clients do: measured right behind such a record."""
        before, since = self.node.log_bytes(), time.monotonic()
        end = since + 40
        while time.monotonic() < end:
            time.sleep(0.1)
            now = self.node.log_bytes()
            if now != before:
                before, since = now, time.monotonic()
                time.sleep(0.3)
                if self.node.log_bytes() == now:
                    return now
        raise AssertionError("the lease clock was not recorded for 40 s")

    def log_figures(self):
        """What the node itself says of its log: bytes and records written, entries applied."""
        metrics = self.node.metrics()
        return [total(metrics, name) for name in (
            "leasehold_log_written_bytes_total", "leasehold_log_records_total", "etcd_server_proposals_applied_total")]

    def test_a_thousand_hits_inside_the_window_write_nothing(self):
        self.assertEqual(self.node.call("POST", HITS)[0], 201)
        bytes_before = self.settled()
        figures_before = self.log_figures()
        started = time.monotonic()
        with contextlib.closing(self.node.api()) as api:
            for _ in range(1_000):
                self.assertEqual(api.call("POST", HITS)[0], 204)
            answer = api.call("POST", "/v1/caches/silent/hits", "some/key\n" * 1_000)[1]
        took = time.monotonic() - started
        bytes_after, figures_after = self.node.log_bytes(), self.log_figures()
        self.assertEqual(answer["coalesced"], 1_000)
        written, _, entries = (after - before for after, before in zip(figures_after, figures_before))
        self.assertLessEqual(entries, took / CLOCK_SECONDS + 1, "entries beyond those of the lease clock")
        self.assertLessEqual(written, entries * CLOCK_BYTES, "bytes by the node's own metrics")
        self.assertLessEqual(bytes_after - bytes_before, entries * CLOCK_BYTES, "bytes in the segments of member/wal")
        metrics = self.node.sidecar_metrics()
        self.assertEqual(total(metrics, "leasehold_hits_total", cache="silent", outcome="coalesced"), 2_000)
        self.assertEqual(total(metrics, "leasehold_hits_total", cache="silent", outcome="renewed"), 0)

    def test_control_a_hit_outside_the_window_is_written(self):
        path = "/v1/caches/brisk/hit/key"
        self.assertEqual(self.node.call("POST", path)[0], 201)
        registered = time.monotonic()
        wait_until(lambda: time.monotonic() > registered + 1.2, "the window's end")
        bytes_before, figures_before = self.node.log_bytes(), self.log_figures()
        self.assertEqual(self.node.call("POST", path)[0], 204)
        self.assertGreater(self.node.log_bytes(), bytes_before)
        for before, after in zip(figures_before, self.log_figures()):
            self.assertGreater(after, before)
        self.assertEqual(total(self.node.sidecar_metrics(), "leasehold_hits_total", cache="brisk", outcome="renewed"), 1)


if __name__ == "__main__":
    unittest.main()
