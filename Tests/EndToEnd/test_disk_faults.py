"""A disk that is full or fails under the real process: it stops with one clear message, and started again on a healthy
disk it has all that was acknowledged. Descriptors that run out: it lives, and serves again."""

import os
import random
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from etcd_client import EtcdClient, rpc
from harness import Node, Workspace, run, tail, wait_until
from oracle_run import OracleRun
from preloads import compiled


class FailingDisk(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.seed = random.SystemRandom().randrange(1 << 32)

    def under_load(self, environment=None, data=None):
        oracle_run = OracleRun(self.space, self.seed, environment=environment, data=data)
        self.addCleanup(oracle_run.stop)
        return oracle_run.start()

    def broken(self, call, error, path, after, bulk=False):
        """A node under load whose disk begins to fail; it stops by itself. Its last words."""
        armed = self.space / "armed"
        oracle_run = self.under_load({
            "LD_PRELOAD": str(compiled(self.space, "failing_disk")), "FAIL_CALL": call, "FAIL_ERRNO": error,
            "FAIL_PATH": path, "FAIL_AFTER": str(after), "FAIL_ARM": str(armed)})
        time.sleep(1)
        armed.touch()
        if bulk:
            oracle_run.load.bulk.set()
        words = self.stops(oracle_run)
        self.recovers(oracle_run)
        return words

    def stops(self, oracle_run):
        wait_until(lambda: not oracle_run.node.is_alive, "the end of a node whose disk fails", 30)
        text = Path(oracle_run.node.log).read_text(errors="replace")
        found = re.findall(r"leasehold stops: .*", text)
        self.assertEqual(len(found), 1, f"one clear message\n{tail(oracle_run.node.log)}")
        return found[0]

    def recovers(self, oracle_run):
        """On a healthy disk all that was acknowledged is there."""
        oracle_run.load.bulk.clear()
        oracle_run.node.environment = {}
        oracle_run.node.start()
        oracle_run.observe()
        time.sleep(0.5)
        oracle_run.checkpoint()
        self.assertGreater(oracle_run.ledger.replayed, 100)

    def test_failing_sync_of_the_log(self):
        words = self.broken("fdatasync", "EIO", "/member/wal/", 40)
        self.assertIn("Input/output error", words)
        self.assertIn("/member/wal/", words)

    def test_failing_write_of_the_log(self):
        self.assertIn("Input/output error", self.broken("write", "EIO", ".wal", 25))

    def test_full_disk_on_a_write(self):
        self.assertIn("the disk is full: free some space and start again", self.broken("write", "ENOSPC", ".wal", 25))

    def test_full_disk_when_the_next_segment_is_made(self):
        words = self.broken("write", "ENOSPC", "/member/wal/prepared-", 1, bulk=True)
        self.assertIn("the disk is full: free some space and start again", words)

    def test_full_disk_when_a_snapshot_is_written(self):
        words = self.broken("write", "ENOSPC", "/member/snap/", 1, bulk=True)
        self.assertIn("the disk is full: free some space and start again", words)

    def test_full_file_system(self):
        """A real one: 200 MB of memory, mounted where that is allowed."""
        folder = Path(tempfile.mkdtemp(prefix="lh-full-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        mounted = run("mount", "-t", "tmpfs", "-o", "size=200m", "leasehold-test", folder)
        if mounted.returncode != 0:
            print(f"  skipped: {mounted.stderr.strip()}", flush=True)
            self.skipTest("mounting is not allowed here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)])
        oracle_run = self.under_load(data=folder / "data")
        oracle_run.load.bulk.set()
        words = self.stops(oracle_run)
        self.assertIn("No space left on device", words)
        self.assertIn("the disk is full: free some space and start again", words)
        enlarged = run("mount", "-o", "remount,size=1g", folder)
        self.assertEqual(enlarged.returncode, 0, enlarged.stderr)
        self.recovers(oracle_run)
        oracle_run.stop()
        oracle_run.node.stop()


if __name__ == "__main__":
    unittest.main()
