"""Puts at a fixed pace, each timed from the moment it was due: `prober.py PORT PUTS_PER_SECOND FILE`, until its standard
input ends. A process of its own, so that nothing else this benchmark does delays a measurement.

FILE gets a pair of doubles for each put: when it was due (monotonic seconds) and its latency (seconds; infinite when it
was refused)."""

import math
import os
import selectors
import struct
import subprocess
import sys
import time

import http2
from generators import field

CONNECTIONS = 4
KEYS = 64
VALUE = b"v" * 64


def key(number):
    return b"probe/%04d" % (number % KEYS)


class Prober:
    def __init__(self, server, path, per_second=500):
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), str(server.port), str(per_second), path], stdin=subprocess.PIPE)

    def stop(self):
        """The samples: [(due, latency)] in seconds."""
        self.process.stdin.close()
        if self.process.wait(timeout=60) != 0:
            raise SystemExit("the prober failed")
        with open(self.path, "rb") as file:
            return [pair for pair in struct.iter_unpack("<dd", file.read())]


def p99_ms(samples, begin, end):
    latencies = sorted(latency for due, latency in samples if begin <= due < end)
    if not latencies:
        return float("nan")
    return latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1000


def main():
    port, pace, path = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    selector = selectors.DefaultSelector()
    connections = [http2.Connection(port, "/etcdserverpb.KV/Put", may_refuse=True) for _ in range(CONNECTIONS)]
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    samples = []
    number = 0
    begin = time.monotonic()
    is_over = False
    while not is_over or any(connection.calls for connection in connections):
        due = begin + number / pace
        wait = 1.0 if is_over else due - time.monotonic()
        if wait <= 0:
            connection = connections[number % CONNECTIONS]
            connection.start(due, http2.grpc_frame(field(1, key(number)) + field(2, VALUE)))
            connection.flush()
            number += 1
            continue
        for ready, _ in selector.select(timeout=wait):
            if ready.data is None:
                is_over = True
                selector.unregister(sys.stdin)
                continue
            now = time.monotonic()
            samples += [(call.tag, now - call.tag if call.answer else math.inf) for call in ready.data.receive()]
    with open(path, "wb") as out:
        for sample in samples:
            out.write(struct.pack("<dd", *sample))


if __name__ == "__main__":
    main()
