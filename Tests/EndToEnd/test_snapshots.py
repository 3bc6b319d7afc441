"""Snapshots of a running node by `etcdctl snapshot save`, new members out of them, and `leasehold verify`."""

import json
import shutil
import subprocess
import threading
import unittest
from pathlib import Path

from etcd_client import EtcdClient, rpc
from harness import Node, Workspace, leasehold, run, total, wait_until

KEYS = 5_000
BUMP = 1_000_000_000


def fields(text):
    return dict(line.split(": ", 1) for line in text.splitlines())


class Snapshots(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.node = self.space.own(Node(self.space, None, tls=False).start())
        self.client = EtcdClient(self.node.port)
        self.addCleanup(self.client.close)

    def leasehold(self, *arguments, code=0):
        done = run(leasehold(), *arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def fill(self):
        lease = self.client.ask("LeaseGrant", rpc.LeaseGrantRequest(TTL=3_600)).ID
        for number in range(KEYS):
            self.client.ask("Put", rpc.PutRequest(
                key=b"k%05d" % number, value=b"v%d" % number, lease=lease if number % 10 == 0 else 0))
        return lease

    def save(self, name="file"):
        done = self.node.etcdctl("snapshot", "save", self.space / name)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.space / name

    def contents(self, node):
        client = EtcdClient(node.port)
        self.addCleanup(client.close)
        return {pair.key: pair.value for pair in client.everything()[1]}

    def test_a_snapshot_taken_under_load_becomes_a_member_with_one_moment_of_the_state(self):
        lease = self.fill()
        stop = threading.Event()
        numbers = []

        def write():
            writer = EtcdClient(self.node.port)
            number = 0
            while not stop.is_set():
                number += 1
                # Both or neither, at one revision.
                writer.ask("Txn", rpc.TxnRequest(success=[
                    rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"%d" % number))
                    for key in (b"left", b"right")]))
            numbers.append(number)
            writer.close()
        thread = threading.Thread(target=write)
        thread.start()
        wait_until(lambda: self.client.ask("Range", rpc.RangeRequest(key=b"left")).count, "a first write")
        files = [self.save(f"file{number}") for number in range(3)]
        stop.set()
        thread.join()
        revisions = []
        for number, file in enumerate(files):
            status = fields(self.leasehold("snapshot", "status", file).stdout)
            self.assertEqual(int(status["totalKey"]), KEYS + 2)
            self.assertEqual(int(status["totalLease"]), 1)
            self.assertEqual(int(status["totalSize"]), file.stat().st_size)
            revisions.append(int(status["revision"]))
        self.assertEqual(revisions, sorted(revisions))
        self.node.stop()

        data = self.space / "restored"
        said = self.leasehold("snapshot", "restore", files[1], "--data-dir", data, "--name", "n1").stdout
        self.assertIn(f"{KEYS + 2} keys and 1 leases at revision {revisions[1] + BUMP}", said)
        sound = fields(self.leasehold("verify", "--data-dir", data).stdout)
        self.assertEqual(sound["verdict"], "sound")
        member = Node(self.space, None, "n1", tls=False)
        member.data = data
        self.space.own(member.start())
        contents = self.contents(member)
        self.assertEqual(contents[b"left"], contents[b"right"])
        self.assertTrue(1 <= int(contents[b"left"]) <= numbers[0])
        self.assertEqual(len(contents), KEYS + 2)
        self.assertEqual(contents[b"k00042"], b"v42")
        client = EtcdClient(member.port)
        self.addCleanup(client.close)
        left = client.ask("LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease, keys=True))
        self.assertTrue(3_500 < left.TTL <= 3_600)
        self.assertEqual(len(left.keys), KEYS // 10)
        # Whoever watches from a revision of the old cluster learns that history is gone.
        done = member.etcdctl("watch", "left", "--rev", str(revisions[1]))
        self.assertIn("required revision has been compacted", done.stdout + done.stderr)
        self.assertEqual(client.ask("Put", rpc.PutRequest(key=b"new")).header.revision, revisions[1] + BUMP + 1)

    def test_equal_states_have_equal_hashes_wherever_they_are(self):
        self.fill()
        file = self.save()
        before = json.loads(self.node.etcdctl("endpoint", "hashkv", "-w", "json").stdout)[0]["HashKV"]["hash"]
        self.assertEqual(fields(self.leasehold("snapshot", "status", file).stdout)["hash"], f"{before:x}")
        self.assertEqual(self.node.etcdctl("defrag").returncode, 0)
        self.node.kill()
        self.node.start()
        after = json.loads(self.node.etcdctl("endpoint", "hashkv", "-w", "json").stdout)[0]["HashKV"]["hash"]
        self.assertEqual(before, after, "defragmentation and a kill change nothing")

    def test_what_is_wrong_with_a_file_is_said_in_one_line(self):
        self.fill()
        file = Path(self.save())
        whole = file.read_bytes()
        for damage, words in (
                (whole[:-1], "is no whole snapshot"), (whole[:len(whole) // 1_024 * 512 + 32], "SHA-256"),
                (whole[:1_000] + b"?" + whole[1_001:], "damaged"), (b"", "is no whole snapshot")):
            file.write_bytes(damage)
            for command in (("status", file), ("restore", file, "--data-dir", self.space / "never")):
                done = self.leasehold("snapshot", *command, code=1)
                self.assertIn(words, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertFalse((self.space / "never").exists())
        done = self.leasehold("snapshot", "status", self.space / "nothing", code=1)
        self.assertIn("No such file or directory", done.stderr)
        file.write_bytes(whole)
        (self.space / "full").mkdir()
        (self.space / "full" / "something").touch()
        done = self.leasehold("snapshot", "restore", file, "--data-dir", self.space / "full", code=1)
        self.assertIn("is not empty", done.stderr)

    def test_verify_finds_a_flipped_bit_in_state_and_log(self):
        self.fill()
        wait_until(
            lambda: total(self.node.metrics(), "leasehold_engine_uncommitted_bytes") == 0, "everything in the store")
        done = self.leasehold("verify", "--data-dir", self.node.data, code=1)
        self.assertIn("is in use by process", done.stderr)
        self.node.kill()
        self.assertEqual(fields(self.leasehold("verify", "--data-dir", self.node.data).stdout)["verdict"], "sound")
        for path, place in (("member/state/data.mdb", b"v4321"), (None, b"v4321")):
            copy = self.space / "copy"
            shutil.copytree(self.node.data, copy)
            if path is None:
                file = next(file for file in sorted((copy / "member/wal").glob("*.wal")) if place in file.read_bytes())
            else:
                file = copy / path
            data = bytearray(file.read_bytes())
            data[data.index(place)] ^= 1
            file.write_bytes(data)
            done = self.leasehold("verify", "--data-dir", copy, "-w", "json", code=1)
            report = json.loads(done.stdout)
            self.assertEqual(report["verdict"], "damaged")
            self.assertIn(str(file), report["problem"][0])
            shutil.rmtree(copy)
        done = self.leasehold("verify", "--data-dir", self.space / "nowhere", code=1)
        self.assertIn("is no data directory of leasehold", done.stderr)


class RestoreIsInterrupted(unittest.TestCase):
    def test_a_killed_restore_leaves_no_member(self):
        """Nothing has the data directory's name before everything is in it."""
        space = Workspace()
        self.addCleanup(space.close)
        node = space.own(Node(space, None, tls=False).start())
        client = EtcdClient(node.port)
        self.addCleanup(client.close)
        for number in range(150):
            client.ask("Put", rpc.PutRequest(key=b"k%d" % number, value=bytes(1_000_000)))
        self.assertEqual(node.etcdctl("snapshot", "save", space / "file").returncode, 0)
        data = space / "restored"
        restoring = Path(f"{data}.restoring")
        killed = subprocess.Popen([leasehold(), "snapshot", "restore", space / "file", "--data-dir", data])
        wait_until(lambda: restoring.exists() or killed.poll() is not None, "the beginning", 10, interval=0.0005)
        killed.kill()
        killed.wait()
        if data.exists():
            self.skipTest("the restore was faster than the kill")
        self.assertTrue(restoring.exists())
        done = run(leasehold(), "snapshot", "restore", space / "file", "--data-dir", data)
        self.assertEqual(done.returncode, 1)
        self.assertIn("remove it and try again", done.stderr)
        shutil.rmtree(restoring)
        self.assertEqual(run(leasehold(), "snapshot", "restore", space / "file", "--data-dir", data).returncode, 0)
        self.assertEqual(sorted(path.name for path in data.iterdir()), ["member"])


if __name__ == "__main__":
    unittest.main()
