"""Power cuts: what a node does to its disk under a mixed load is recorded, and from the record the folders are made that
a crash may leave, at many places and by many seeds: everything synced is there, of the rest any part, torn at sectors.
A node is started on each of them, and must

 * start, without refusing and without repair by hand;
 * hold a prefix of the recorded history, revision by revision, with every write that was acknowledged before the crash;
 * hold the leases, not early and not late by the lease oracle: what was acknowledged before the crash is owed, and the
   time between the crash and the start is an outage.

The record holds two kills of the process with their recoveries, rolled segments, commits of the store and removals of
segments that the store covers. A node that does not
sync (--unsafe-no-fsync) is the control: its losses must be found.

CRASH_IMAGES=500 is the long form; CRASH_SEED repeats a run.
"""

import os
import random
import shutil
import sys
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path

from crash_images import CREATE, RENAME, SYNC, UNLINK, Disk, read_journal
from etcd_client import EtcdClient, rpc
from harness import Node, Workspace, one_line, run, wait_until
from ledger import DELETE, Ledger, Observer, State
from oracle_run import SHORT_LEASES, OracleRun
from preloads import FAULTS, compiled

IMAGES = int(os.environ.get("CRASH_IMAGES", "500" if "SOAK" in os.environ else "16"))
RECORDED_SECONDS = 6 if IMAGES < 100 else 14
CONTROL_IMAGES = 8
START_SECONDS = 20


def quick_folder():
    """Images need no real disk: memory, where there is plenty."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30:
        return memory
    return Path(tempfile.gettempdir())


class Recording:
    """A node that ran under a load and whose disk was written down."""

    def __init__(self, space, seed, seconds, extra=()):
        self.root, journal = space / "disk", space / "journal"
        self.root.mkdir()
        self.restarts = []      # when the process was killed and when the next one had begun to work
        self.run = OracleRun(
            space, seed, name="recorded", extra=extra, data=self.root / "data", environment={
                "LD_PRELOAD": str(compiled(space, "record_disk")), "RECORD_ROOT": str(self.root),
                "RECORD_JOURNAL": str(journal)})
        try:
            self._play(seconds)
        finally:
            self.run.stop()
            self.run.node.kill()
        self.records = read_journal(journal)
        self.ledger, self.oracle = self.run.ledger, self.run.oracle
        self.acknowledged = sorted(
            (operation.end, operation.revision) for operation in self.ledger.acknowledged.values())

    def _play(self, seconds):
        run = self.run.start()
        first = min(self._segments(run))
        for part in range(3):
            if part == 1:
                run.load.bulk.set()
            time.sleep(seconds / 3)
            if part == 1:       # some segments, and the first one's removal, which follows a commit of the store
                wait_until(lambda: self._segments(run) and min(self._segments(run)) > first, "a segment's removal", 60)
                run.load.bulk.clear()
            if part < 2:
                killed_at = time.monotonic()
                run.node.kill()
                run.node.start()
                self.restarts.append((killed_at - 0.01, time.monotonic() + 0.05))
                run.observe()
            run.checkpoint(resume=part < 2)

    @staticmethod
    def _segments(run):
        return [path.name for path in (run.node.data / "member" / "wal").glob("*.wal")]

    def places(self, random, count):
        """Records before which to crash: anywhere, close to a change of names, around the process's kills and restarts,
        in the middle of the store's commits."""
        everywhere = range(len(self.records))
        names = [index for index, record in enumerate(self.records) if record.kind in (CREATE, RENAME, UNLINK)]
        restarts = [index for index, record in enumerate(self.records)
                    if any(start <= record.seconds <= end for start, end in self.restarts)]
        stores = {record.inode for record in self.records if record.kind == CREATE and "/member/state/" in record.path}
        commits = [index for index, record in enumerate(self.records) if record.inode in stores]
        chosen = []
        for number in range(count):
            index = random.choice((everywhere, names, restarts, commits)[number % 4]) + random.randint(-3, 6)
            chosen.append(min(max(index, 1), len(self.records) - 1))
        return sorted(chosen)

    def acknowledged_before(self, moment):
        return max((revision for end, revision in self.acknowledged if end <= moment), default=1)


class CrashedNode:
    """A node started on an image, and what it says."""

    def __init__(self, space, recording, folder, moment, extra=()):
        self.recording, self.moment = recording, moment
        self.node = Node(space, None, "recorded", tls=False, extra=[*SHORT_LEASES, *extra])
        self.node.data = folder / "data"
        self.client = None
        self.problems = []

    def check(self):
        """What is wrong; nothing, if all is well."""
        self.node.log.unlink(missing_ok=True)
        self.started = time.monotonic()
        try:
            self.node.start(START_SECONDS)
        except AssertionError as problem:
            return [f"it does not start: {problem}"]
        try:
            self.client = EtcdClient(self.node.port)
            ready = time.monotonic()
            oracle = self.recording.oracle.as_of(self.moment)
            oracle.outage(self._last_acknowledgement(), self.at(ready))
            self._check_leases(oracle)
            self._check_history(oracle)
            return self.problems + oracle.check()
        finally:
            if self.client:
                self.client.close()
            self.node.kill()

    def at(self, moment):
        """A moment of the new life on the old life's clock: the start follows upon the crash."""
        return self.moment + moment - self.started

    def _last_acknowledgement(self):
        return max((end for end, _ in self.recording.acknowledged if end <= self.moment), default=self.moment)

    def _ask(self, name, request):
        call = self.client.call(name, request)
        if call.answer is None:
            raise AssertionError(f"{name}: {call.error}")
        return call.answer, self.at(call.start), self.at(call.end)

    def _check_leases(self, oracle):
        answer, start, end = self._ask("LeaseLeases", rpc.LeaseLeasesRequest())
        leases = [status.ID for status in answer.leases]
        oracle.listed(leases, start, end)
        for lease in leases[:40]:
            answer, start, end = self._ask("LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease))
            oracle.remaining(lease, answer.TTL, start, end)

    def _check_history(self, oracle):
        truth = self.recording.ledger
        revision, pairs = self.client.everything()
        found = Ledger(oracle)
        compacted = self._read_history(found, revision)
        demanded = max((at for end, at in truth.compactions if end <= self.moment), default=0)
        if not demanded <= compacted <= truth.compacted_at_most:
            self.problems.append(f"compacted at {compacted}, {demanded} was acknowledged")
        # What the node itself has added, by ending leases, comes behind the recorded prefix.
        prefix = compacted
        while prefix < revision and found.events.get(prefix + 1) == truth.events.get(prefix + 1):
            prefix += 1
        owed = self.recording.acknowledged_before(self.moment)
        if prefix < owed:
            self.problems.append(
                f"revision {owed} was acknowledged before the crash; history is the recorded one up to {prefix}: then "
                f"{found.events.get(prefix + 1)} instead of {truth.events.get(prefix + 1)}")
            return
        found.state, found.replayed = self._state_at(prefix), prefix
        for later in range(prefix + 1, revision + 1):
            events = found.events.get(later, [])
            if any(kind != DELETE for kind, _, _ in events):
                self.problems.append(f"revision {later} was never written: {events}")
        found.seen = {at: self.at(received) for at, received in found.seen.items()}
        found.check_state(revision, pairs)
        self.problems += found.violations

    def _read_history(self, found, revision):
        start = 2
        while True:
            found.last = start - 1
            observer = Observer(self.client, found, start)
            wait_until(lambda: observer.caught_up_to >= revision or not observer.is_alive(), "all history", 20)
            observer.stop()
            if observer.problem:
                raise observer.problem
            if not observer.compacted:
                return start - 1 if start > 2 else 0
            start = observer.compacted + 1

    def _state_at(self, revision):
        state = State()
        for at in range(2, revision + 1):
            state.apply(self.recording.ledger.events[at])
        return state


class CrashImages(unittest.TestCase):
    def setUp(self):
        self.seed = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(1 << 32)))
        self.random = random.Random(self.seed)
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.quick = Path(tempfile.mkdtemp(prefix="lh-images-", dir=quick_folder()))
        self.addCleanup(shutil.rmtree, self.quick, ignore_errors=True)

    def examine(self, recording, count, extra=(), until_found=False):
        """Crashes at `count` places: {(place, seed): what is wrong}."""
        disk = Disk(self.quick / "durable", recording.root)
        advanced, found = 0, {}
        for number, place in enumerate(recording.places(self.random, count)):
            while advanced < place:
                disk.advance(recording.records[advanced])
                advanced += 1
            if number % 100 == 99:
                print(f"  … {number + 1} images", flush=True)
            image, seed = self.quick / "image", self.seed + number
            disk.image(image, seed, recording.records[place])
            node = CrashedNode(self.space, recording, image, recording.records[place].seconds, extra)
            problems = node.check()
            if problems:
                found[place, seed] = problems
                if until_found or len(found) >= 5:
                    break
        return found

    def test_every_image_is_recovered(self):
        recording = Recording(self.space, self.seed, RECORDED_SECONDS)
        kinds = Counter(record.kind for record in recording.records)
        print(f"  crash images: {IMAGES} of {len(recording.records)} operations on the disk ({kinds[SYNC]} syncs, "
              f"{kinds[RENAME]} renames, {kinds[UNLINK]} removals), {len(recording.acknowledged)} acknowledged writes, "
              f"CRASH_SEED={self.seed}", flush=True)
        started = time.monotonic()
        found = self.examine(recording, IMAGES)
        print(f"  {(time.monotonic() - started) / IMAGES:.2f} s an image", flush=True)
        for (place, seed), problems in found.items():
            self.fail(f"crash before operation {place} with seed {seed} (CRASH_SEED={self.seed}), "
                      f"{len(found)} such:\n" + "\n".join(problems[:8]))

    def test_control_a_node_that_does_not_sync_is_found_out(self):
        recording = Recording(self.space, self.seed, 3, extra=["--unsafe-no-fsync"])
        found = self.examine(recording, CONTROL_IMAGES, extra=["--unsafe-no-fsync"], until_found=True)
        self.assertTrue(found, f"{CONTROL_IMAGES} crashes of a node that does not sync lost nothing: CRASH_SEED={self.seed}")


WRITER = """
import os
os.chdir("disk")
root = os.getcwd()
def directory(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)
a = os.open(root + "/a", os.O_RDWR | os.O_CREAT)
os.pwrite(a, b"1" * 4096, 0)
os.fdatasync(a)
directory(root)
os.pwrite(a, b"2" * 4096, 0)
direct = os.open(root + "/a", os.O_WRONLY | os.O_DSYNC)
os.pwritev(direct, [b"3" * 512, b"4" * 512], 1024)
b = os.open(root + "/b.tmp", os.O_WRONLY | os.O_CREAT)
os.write(b, b"b" * 1000)
os.write(b, b"c" * 1000)
os.fsync(b)
os.rename(root + "/b.tmp", root + "/b")
os.mkdir(root + "/folder")
os.unlink(root + "/b")
"""


class Recorder(unittest.TestCase):
    """The recorder and the images, on a program of a few lines."""

    def test_images_of_a_small_program(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "disk").mkdir()
            result = run("env", "-C", name, f"LD_PRELOAD={compiled(folder, 'record_disk')}",
                         f"RECORD_ROOT={folder}/disk", f"RECORD_JOURNAL={folder}/journal", sys.executable, "-c", WRITER)
            self.assertEqual(result.returncode, 0, result.stderr)
            disk = Disk(folder / "durable", folder / "disk")
            for record in read_journal(folder / "journal"):
                disk.advance(record)
            seen, names = Counter(), Counter()
            for seed in range(400):
                disk.image(folder / "image", seed)
                content = (folder / "image" / "a").read_bytes()
                self.assertEqual(len(content), 4096)
                self.assertEqual(content[1024:2048], b"3" * 512 + b"4" * 512, "O_DSYNC is durable at its return")
                sectors = {content[at:at + 512] for at in [*range(0, 1024, 512), *range(2048, 4096, 512)]}
                self.assertLessEqual(sectors, {b"1" * 512, b"2" * 512}, "a sector is old or new")
                seen["torn" if len(sectors) == 2 else "old" if b"1" * 512 in sectors else "new"] += 1
                there = tuple(sorted(path.name for path in (folder / "image").iterdir()))
                names[there] += 1
                for file in ("b", "b.tmp"):
                    if file in there:
                        self.assertEqual((folder / "image" / file).read_bytes(), b"b" * 1000 + b"c" * 1000)
            self.assertEqual(set(seen), {"torn", "old", "new"})
            self.assertEqual(set(names), {("a",), ("a", "b.tmp"), ("a", "b"), ("a", "b", "folder"), ("a", "folder")})

    def test_images_of_a_storage_engine(self):
        """LMDB by itself: data through one descriptor and fdatasync, its meta page through O_DSYNC."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "disk").mkdir()
            program = folder / "counter"
            made = run("cc", "-O2", "-o", program, FAULTS / "lmdb_counter.c", "-llmdb")
            if made.returncode != 0:
                print(f"  skipped: {one_line(made.stderr.splitlines()[0])}", flush=True)
                self.skipTest("liblmdb-dev is not installed")
            result = run(
                program, "write", folder / "disk", 120, folder / "journal", environment={
                    "LD_PRELOAD": str(compiled(folder, "record_disk")), "RECORD_ROOT": f"{folder}/disk",
                    "RECORD_JOURNAL": f"{folder}/journal"})
            self.assertEqual(result.returncode, 0, result.stderr)
            promises = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
            records = read_journal(folder / "journal")
            # LMDB does not sync the folder it creates its file in; who uses it must.
            made = next(index for index, record in enumerate(records) if record.kind == SYNC)
            disk, advanced, choices = Disk(folder / "durable", folder / "disk"), 0, random.Random(7)
            counts = set()
            for place in sorted(choices.randrange(made, len(records)) for _ in range(150)):
                while advanced < place:
                    disk.advance(records[advanced])
                    advanced += 1
                disk.root.sync(records[place].at)
                disk.image(folder / "image", choices.random(), records[place])
                promised = max((count for count, size in promises if size <= records[place].at), default=0)
                result = run(program, "read", folder / "image")
                self.assertEqual(result.returncode, 0, f"before operation {place}: {result.stderr}")
                self.assertGreaterEqual(int(result.stdout), promised, f"before operation {place}")
                self.assertLessEqual(int(result.stdout), promised + 1)
                counts.add(int(result.stdout) - promised)
            self.assertEqual(counts, {0, 1}, "the transaction under way is there or not")


if __name__ == "__main__":
    unittest.main()
