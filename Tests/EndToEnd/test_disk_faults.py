"""A disk that is full or fails under the real process: it stops with one clear message, and started again on a healthy
disk it has all that was acknowledged. Descriptors that run out: it lives, and serves again."""

import os
import resource
import random
import re
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

    def test_failing_sync_of_the_store(self):
        words = self.broken("fdatasync", "EIO", "/member/state/", 1)
        self.assertIn("Input/output error", words)
        self.assertIn("/member/state/", words)

    def test_failing_write_of_the_store(self):
        self.assertIn("Input/output error", self.broken("write", "EIO", "/member/state/", 1))

    def test_a_disk_without_room_for_the_store_costs_nothing_while_the_log_has_some(self):
        """The log covers what the store could not take: the node serves on, through a kill and after it."""
        armed = self.space / "armed"
        oracle_run = self.under_load({
            "LD_PRELOAD": str(compiled(self.space, "failing_disk")), "FAIL_CALL": "write", "FAIL_ERRNO": "ENOSPC",
            "FAIL_PATH": "/member/state/", "FAIL_AFTER": "1", "FAIL_ARM": str(armed)})
        time.sleep(0.5)
        armed.touch()

        def warned():
            return Path(oracle_run.node.log).read_text(errors="replace").count("the state cannot be stored")
        wait_until(warned, "a warning", 20)
        oracle_run.checkpoint()
        time.sleep(2)
        self.assertEqual(warned(), 1, "one line for one stretch of refusals")
        oracle_run.node.kill()
        oracle_run.node.start()
        oracle_run.observe()
        oracle_run.checkpoint()
        self.assertTrue(oracle_run.node.is_alive)
        oracle_run.node.kill()
        self.recovers(oracle_run)

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


class Descriptors(unittest.TestCase):
    def test_the_server_survives_when_no_descriptor_is_left(self):
        space = Workspace()
        self.addCleanup(space.close)
        node = space.own(Node(space, None, tls=False))
        node.start()
        # Lowered only now: what the node finds at its start it shares out so that none is ever missing.
        _, hard = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (64, hard))
        client = EtcdClient(node.port)
        self.addCleanup(client.close)
        client.ask("Put", rpc.PutRequest(key=b"before", value=b"1"))
        crowd = []
        for _ in range(150):        # the kernel's queue takes those that cannot be accepted
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", node.port))
            crowd.append(connection)
        descriptors = Path(f"/proc/{node.process.pid}/fd")
        wait_until(lambda: len(os.listdir(descriptors)) >= 60, "the last descriptor's use", 10)
        # Who is connected is served all the time.
        end = time.monotonic() + 2
        busy = processor_seconds(node)
        while time.monotonic() < end:
            self.assertEqual(client.ask("Range", rpc.RangeRequest(key=b"before")).kvs[0].value, b"1")
            client.ask("Put", rpc.PutRequest(key=b"during", value=b"2"))
            time.sleep(0.05)
        busy = processor_seconds(node) - busy
        self.assertTrue(node.is_alive, tail(node.log))
        self.assertLess(busy, 1.0, "waiting for a descriptor costs no core")
        for connection in crowd:
            connection.close()
        wait_until(node.is_healthy, "an answer to a new connection", 20)
        with_new = EtcdClient(node.port)
        self.addCleanup(with_new.close)
        self.assertEqual(with_new.ask("Range", rpc.RangeRequest(key=b"during")).kvs[0].value, b"2")


def processor_seconds(node):
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    unittest.main()
