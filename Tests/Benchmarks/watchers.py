"""Events told to many watchers, a second and per CPU second, and the time from a put to its last event.

  python3 Tests/Benchmarks/watchers.py --leasehold PATH [--etcd PATH] [--watchers N] [--puts N] [--rounds N]

Every shape is run on both servers in turn. `measure` is for other benchmarks."""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "EndToEnd"))

import servers
import tools
import watch_wire
from generators import field, frame

# A run of bytes that a key, a header or a length cannot hold; the value begins with it.
MARK = b"\xff\xfe\xfdEVENT"
VALUE = MARK.ljust(64, b"v")
PATIENCE_SECONDS = 120
PACED_PUTS = 300
PACE_SECONDS = 0.01
WARM_UP_PUTS = 50


class Shape:
    """`streams` on each of `connections`, `watches` on each stream, all on one key."""

    def __init__(self, name, connections, streams, watches):
        self.name, self.connections, self.streams, self.watches = name, connections, streams, watches

    @property
    def watchers(self):
        return self.connections * self.streams * self.watches


def shapes(watchers):
    return [
        Shape(f"{watchers:,} watchers on 10 streams", 10, 1, watchers // 10),
        Shape(f"{watchers:,} watchers on streams of their own, 10 connections", 10, watchers // 10, 1),
    ]


class Watching:
    """The watchers of one shape at one server, counted as their events come."""

    def __init__(self, server, shape, key):
        self.connections = [watch_wire.Connection(server.port) for _ in range(shape.connections)]
        self.reader = watch_wire.Reader(self.connections)
        self.each = shape.streams * shape.watches
        self.counts = {connection: 0 for connection in self.connections}
        self._tails = {}
        for connection in self.connections:
            streams = [connection.open() for _ in range(shape.streams)]
            for stream in streams:
                for _ in range(shape.watches):
                    stream.send(watch_wire.create(key))
            created = 0
            while created < self.each:
                connection.receive()
                created += sum(len(stream.messages()) for stream in streams)

    def count(self, stream, data):
        """A mark may be torn between two frames."""
        whole = self._tails.get(stream, b"") + data
        self.counts[stream.connection] += whole.count(MARK)
        tail = whole[1 - len(MARK):]
        self._tails[stream] = tail if MARK not in tail else b""

    @property
    def total(self):
        return sum(self.counts.values())

    def await_total(self, wanted, what):
        end = time.monotonic() + PATIENCE_SECONDS
        while self.total < wanted:
            self.reader.turn(1, self.count)
            if time.monotonic() > end:
                raise SystemExit(f"{what}: {self.total} of {wanted} events came in {PATIENCE_SECONDS} s")

    def close(self):
        self.reader.close()
        for connection in self.connections:
            connection.close()


class Figures:
    """`events_per_second`, `cpu_us` (the server's, per event), and milliseconds from a put to its last event."""


def flood(server, watching, puts, key):
    """As many puts as the server takes from 100 callers; until every watcher knows of all."""
    before, start, cpu = watching.total, time.monotonic(), server.cpu_seconds()
    with tempfile.NamedTemporaryFile() as body:
        body.write(frame(field(1, key) + field(2, VALUE)))
        body.flush()
        load = subprocess.Popen(
            ["h2load", "-n", str(puts), "-c", "4", "-m", "25", "-d", body.name, "-H", "content-type: application/grpc",
             "-H", "te: trailers", server.url + "/etcdserverpb.KV/Put"], stdout=subprocess.DEVNULL)
        watching.await_total(before + puts * len(watching.connections) * watching.each, server.name)
        load.wait()
    seconds = time.monotonic() - start
    events = watching.total - before
    return events / seconds, (server.cpu_seconds() - cpu) * 1e6 / events


def paced(server, watching, puts, key):
    """A put every 10 ms; for each put and connection the milliseconds until its last watcher knew."""
    client = watch_wire.Connection(server.port)
    base = dict(watching.counts)
    sent, latencies, done = [], [], {connection: 0 for connection in watching.connections}
    next_put = time.monotonic()
    end = next_put + PATIENCE_SECONDS
    while len(latencies) < puts * len(watching.connections):
        now = time.monotonic()
        if now > end:
            raise SystemExit(f"{server.name}: the events of paced puts did not come")
        if len(sent) < puts and now >= next_put:
            sent.append(time.monotonic())
            client.open("/etcdserverpb.KV/Put").send(field(1, key) + field(2, VALUE), ends=True)
            next_put += PACE_SECONDS
        watching.reader.turn(max(0, min(next_put - time.monotonic(), 1)) if len(sent) < puts else 1, watching.count)
        now = time.monotonic()
        for connection in watching.connections:
            known = (watching.counts[connection] - base[connection]) // watching.each
            while done[connection] < known:
                latencies.append((now - sent[done[connection]]) * 1000)
                done[connection] += 1
    client.close()
    latencies.sort()
    return latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]


def measure(server, shape, puts):
    """One server under one shape: a `Figures`."""
    key = b"watched"
    watching = Watching(server, shape, key)
    figures = Figures()
    try:
        flood(server, watching, WARM_UP_PUTS, key)
        figures.events_per_second, figures.cpu_us = flood(server, watching, puts, key)
        figures.p50_ms, figures.p99_ms = paced(server, watching, PACED_PUTS, key)
    finally:
        watching.close()
    return figures


def compare(members, watchers, puts, rounds):
    """{shape: {server: [Figures]}}, the servers in turn."""
    found = {}
    for number in range(rounds):
        for shape in shapes(watchers):
            for server in members if number % 2 == 0 else reversed(members):
                tools.say(f"round {number + 1}/{rounds}: {shape.name}: {server.name}")
                found.setdefault(shape.name, {}).setdefault(server.name, []).append(measure(server, shape, puts))
    return found


def median(samples, pick):
    return statistics.median(getattr(sample, pick) for sample in samples)


def print_table(found):
    print("| watchers of one key | server | events/s | server CPU µs per event "
          "| put to last event, paced: p50, p99 ms |")
    print("|---|---|---|---|---|")
    for shape, by_server in found.items():
        for name, samples in by_server.items():
            print(f"| {shape} | {name} | {median(samples, 'events_per_second') / 1000:,.0f} k "
                  f"| {median(samples, 'cpu_us'):.3f} | {median(samples, 'p50_ms'):.2f}, "
                  f"{median(samples, 'p99_ms'):.2f} |")


def run(context):
    """The section of the table."""
    watch_wire.raise_file_limit()
    with context.serving(servers.Etcd, "etcd") as etcd, context.serving(servers.Leasehold, "leasehold") as leasehold:
        print_table(compare([etcd, leasehold], 1_000, 1_000 if context.quick else 3_000, context.rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leasehold", required=True)
    parser.add_argument("--etcd", help="default: etcd 3.5.1 as Tests/Benchmarks/run fetches it")
    parser.add_argument("--only", choices=("etcd", "leasehold"))
    parser.add_argument("--watchers", type=int, default=1_000)
    parser.add_argument("--puts", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    watch_wire.raise_file_limit()
    folder = tempfile.mkdtemp(prefix="leasehold-benchmark.")
    running = []
    try:
        if chosen.only != "leasehold":
            running.append(servers.Etcd("etcd", chosen.etcd or tools.etcd(), os.path.join(folder, "etcd"), None))
        if chosen.only != "etcd":
            running.append(servers.Leasehold("leasehold", chosen.leasehold, os.path.join(folder, "leasehold"), None))
        for server in running:
            server.await_health()
        found = compare(running, chosen.watchers, chosen.puts, chosen.rounds)
    finally:
        for server in running:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print_table(found)


if __name__ == "__main__":
    main()
