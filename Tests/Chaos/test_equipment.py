"""The library loaded into members does what its file says, while they run: a disk that is slow, stuck, full, broken."""

import subprocess
import sys
import time
import types
import unittest

import shared
from equipment import Equipment
from harness import Workspace

# For each line: a write and a sync; what became of them, and how long they took.
CHILD = r"""
import os, sys, time
folder = sys.argv[1]
os.makedirs(folder + "/wal")
file = os.open(folder + "/wal/1", os.O_CREAT | os.O_WRONLY)
for line in sys.stdin:
    start, said = time.monotonic(), "done"
    try:
        os.write(file, b"x")
        os.fdatasync(file)
    except OSError as problem:
        said = problem.strerror
    print(f"{said};{time.monotonic() - start}", flush=True)
"""


class Disk(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.equipment = Equipment(self.space, types.SimpleNamespace(takes_preloads=True))
        self.member = types.SimpleNamespace(name="m1", prefix=[], environment={})
        self.equipment.equip(self.member)
        self.child = subprocess.Popen(
            [*self.member.prefix, sys.executable, "-c", CHILD, self.space / "m1"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=self.member.environment)
        self.addCleanup(self.child.communicate)

    def sets(self, what):
        self.equipment.disk_setting(self.member).write_text(what)

    def asks(self):
        print("", file=self.child.stdin, flush=True)

    def hears(self):
        said, seconds = self.child.stdout.readline().split(";")
        return said, float(seconds)

    def does(self):
        self.asks()
        return self.hears()

    def test_on_and_off(self):
        self.assertEqual(self.does()[0], "done")
        for what, expected in (
                ("fdatasync EIO /wal/", "Input/output error"), ("write ENOSPC /wal/", "No space left on device"),
                ("write EIO /elsewhere/", "done"), ("fdatasync slow=1 /wal/", "done")):
            self.sets(what)
            self.assertEqual(self.does()[0], expected, what)
        self.equipment.heal([self.member])
        self.assertEqual(self.does()[0], "done")

    def test_slow(self):
        self.sets("fdatasync slow=300 /wal/")
        said, seconds = self.does()
        self.assertEqual(said, "done")
        self.assertGreater(seconds, 0.3)

    def test_stuck_until_it_is_healed(self):
        self.does()
        self.sets("fdatasync stuck /wal/")
        self.asks()
        time.sleep(0.4)
        self.equipment.heal([self.member])
        said, seconds = self.hears()
        self.assertEqual(said, "done")
        self.assertGreater(seconds, 0.3)


class Clock(unittest.TestCase):
    """The wall clock jumps, and no timer on a monotonic clock does."""

    CHILD = r"""
import ctypes, os, struct, time
libc = ctypes.CDLL(None)
for number in range(2):
    if number:
        input()
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
    due = time.clock_gettime(time.CLOCK_MONOTONIC) + 0.2
    libc.timerfd_settime(timer, 1, struct.pack("4q", 0, 0, int(due), int(due % 1 * 1e9)), None)
    os.read(timer, 8)
    print(time.time(), time.clock_gettime(time.CLOCK_MONOTONIC) - due, flush=True)
"""

    def test_timers_stand_still(self):
        space = Workspace()
        self.addCleanup(space.close)
        equipment = Equipment(space, types.SimpleNamespace(takes_preloads=True))
        if not equipment.clock_library:
            self.skipTest("libfaketime is not installed")
        member = types.SimpleNamespace(name="m1", prefix=[], environment={})
        equipment.equip(member)
        child = subprocess.Popen(
            [*member.prefix, sys.executable, "-c", self.CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=member.environment)
        self.addCleanup(child.communicate)
        for shift in (0, -20):
            equipment.shift_clock(member, shift)
            if shift:
                print("", file=child.stdin, flush=True)
            wall, late = map(float, child.stdout.readline().split())
            self.assertAlmostEqual(wall, time.time() + shift, delta=10)
            self.assertLess(late, 10)


if __name__ == "__main__":
    unittest.main()
