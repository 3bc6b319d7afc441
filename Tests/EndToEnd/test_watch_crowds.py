"""Ten thousand watchers, and a thousand that do not read: every event once, in order, in bounded memory."""

import os
import unittest

import harness
import watch_wire
from test_watch import WatchTest

SOAK = bool(os.environ.get("SOAK"))


def resident_mib(node):
    for line in open(f"/proc/{node.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no resident memory")


class Ledger:
    """What every watch of many streams was told: revisions by (stream, watch)."""

    def __init__(self, connections):
        self.connections = connections
        self.reader = watch_wire.Reader(connections)
        self.revisions = {}
        self.keys = {}
        self.created = 0
        self.ended = {}

    def turn(self, seconds=10):
        if not self.reader.turn(seconds):
            raise AssertionError(f"nothing came in {seconds} s")
        for connection in self.connections:
            for stream in connection.streams.values():
                if stream.is_ended:
                    raise AssertionError("the server ended a stream")
                for message in stream.messages():
                    self.take(stream, watch_wire.Response(message))

    def take(self, stream, response):
        watch = (stream, response.watch_id)
        if response.created:
            self.created += 1
            self.revisions[watch] = []
        elif response.canceled:
            self.ended[watch] = response.compact_revision
        for event in response.events:
            self.revisions[watch].append(event.revision)
            self.keys.setdefault(watch, set()).add(event.key)

    def until(self, condition):
        while not condition():
            self.turn()

    @property
    def told(self):
        return sum(len(revisions) for revisions in self.revisions.values())

    def close(self):
        self.reader.close()
        for connection in self.connections:
            connection.close()

    stop = close


class Crowd(WatchTest):
    def setUp(self):
        watch_wire.raise_file_limit()
        super().setUp()

    def crowd(self, connections, watches_each):
        """Each watch has a key of its own, and the range of all keys together has one watch in a hundred."""
        made = [watch_wire.Connection(self.node.port) for _ in range(connections)]
        ledger = self.space.own(Ledger(made))
        number = 0
        for connection in made:
            stream = connection.open()
            for _ in range(watches_each):
                key = b"k/%05d" % number
                stream.send(watch_wire.create(b"k/", b"k0") if number % 100 == 0 else watch_wire.create(key))
                number += 1
        ledger.until(lambda: ledger.created == number)
        return ledger

    def check(self, connections, watches_each):
        ledger = self.crowd(connections, watches_each)
        count = connections * watches_each
        keys = [b"k/%05d" % number for number in range(0, count, 7)]
        revisions = self.caller.put_many((key, b"v") for key in keys[:700])
        revisions += self.caller.put_many((key, b"v") for key in keys[700:])
        changed = dict(zip(keys, revisions))
        wide = sum(1 for number in range(0, count, 100))
        narrow = sum(1 for key in keys if int(key[2:]) % 100)
        ledger.until(lambda: ledger.told >= wide * len(keys) + narrow)
        self.assertEqual(ledger.told, wide * len(keys) + narrow)
        numbers = {}
        for (stream, watch_id), told in ledger.revisions.items():
            place = ledger.connections.index(stream.connection) * watches_each + watch_id
            numbers[place] = told
        for number in range(count):
            key = b"k/%05d" % number
            wanted = sorted(revisions) if number % 100 == 0 else [changed[key]] if key in changed else []
            self.assertEqual(numbers[number], wanted, f"watch {number}")

    def test_ten_thousand_watches_on_one_stream(self):
        self.check(1, 10_000)

    def test_ten_thousand_watches_on_a_hundred_connections(self):
        self.check(100, 100)


class Silence(WatchTest):
    watchers = 1_000
    puts = 5_000 if SOAK else 800
    value = b"x" * 1_000

    def setUp(self):
        watch_wire.raise_file_limit()
        super().setUp()

    def silent(self):
        """A third with a window of 0, a third never read with HTTP/2's window, a third never read without one."""
        connections = []
        third = self.watchers // 3
        for first in range(0, third, 100):
            connections.append(watch_wire.Connection(self.node.port, window=0))
            for _ in range(min(100, third - first)):
                connections[-1].open().send(watch_wire.create(b"k"))
        for number in range(self.watchers - third):
            window = watch_wire.LARGEST_WINDOW if number % 2 else 65_535
            connections.append(watch_wire.Connection(self.node.port, window=window))
            connections[-1].open().send(watch_wire.create(b"k"))
        harness.wait_until(
            lambda: self.node.metrics()["etcd_debugging_mvcc_watcher_total"] == self.watchers, "all watches", 60)
        return connections

    def put_all(self, count):
        revisions = []
        for first in range(0, count, 500):
            revisions += self.caller.put_many((b"k", self.value) for _ in range(min(500, count - first)))
        return revisions

    def read(self, connections):
        for connection in connections:
            if connection.window < watch_wire.LARGEST_WINDOW:
                for stream in connection.streams.values():
                    stream.open_window(1 << 30)
        return self.space.own(Ledger(connections))

    def test_watchers_that_read_late_are_told_everything_once_and_memory_stays_bounded(self):
        before = resident_mib(self.node)
        connections = self.silent()
        revisions = self.put_all(self.puts)
        grown = resident_mib(self.node) - before
        # The puts themselves, the named limits (64 MiB an event loop), and what sockets and allocator hold.
        loops = os.cpu_count()
        self.assertLess(grown, self.puts * len(self.value) / 2**20 + 64 * loops + self.watchers * 0.5)
        metrics = self.node.metrics()
        self.assertGreater(metrics["etcd_debugging_mvcc_slow_watcher_total"], self.watchers * 0.3)
        ledger = self.read(connections)
        wanted = sorted(revisions)
        ledger.until(lambda: ledger.told >= self.watchers * len(wanted))
        self.assertEqual(len(ledger.revisions), self.watchers)
        for watch, told in ledger.revisions.items():
            self.assertEqual(told, wanted, f"{watch}")
        harness.wait_until(
            lambda: self.node.metrics()["etcd_debugging_mvcc_slow_watcher_total"] == 0, "everybody up to date")

    def test_a_compaction_that_overtakes_them_ends_them_and_says_where(self):
        connections = self.silent()
        revisions = sorted(self.put_all(self.puts))
        compacted = revisions[-10]
        self.caller.compact(compacted)
        ledger = self.read(connections)
        ledger.until(lambda: len(ledger.ended) + sum(
            1 for told in ledger.revisions.values() if told and told[-1] == revisions[-1]) >= self.watchers)
        self.assertGreater(len(ledger.ended), 0)
        for watch, told in ledger.revisions.items():
            self.assertEqual(told, revisions[:len(told)], "without a gap up to where it ends")
            if watch in ledger.ended:
                self.assertEqual(ledger.ended[watch], compacted)
            else:
                self.assertEqual(told, revisions)


if __name__ == "__main__":
    unittest.main()
