"""What a thousand watchers that never read cost: the rate of puts and the memory, without them and with them.

  python3 Tests/Benchmarks/slow_watchers.py --leasehold PATH [--watchers N] [--seconds S] [--rounds N] [--etcd PATH]

A third of the watchers grants a window of 0, the others have connections of their own that are never read: half of
those with a window without end, half with HTTP/2's customary 64 KiB. Exit code 1 when puts fall below 0.8 of their calm
rate."""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "EndToEnd"))

import generators
import servers
import tools
import watch_wire
from generators import field, frame

LEAST_RATIO = 0.8
CUSTOMARY_WINDOW = 65_535
STREAMS_PER_CONNECTION = 100
VALUE_BYTES = 256


def resident_mib(server):
    for line in open(f"/proc/{server.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"{server.name} has no resident memory")


class Phase:
    """Puts by 100 callers for some seconds: their rate, their server CPU (ms per 1,000) and the memory after them."""

    def __init__(self, server, seconds):
        cpu = server.cpu_seconds()
        body = frame(field(1, b"watched") + field(2, b"v" * VALUE_BYTES))
        outcome = generators.h2load_grpc(server, "/etcdserverpb.KV/Put", body, seconds, 4, 25, 5)
        self.rate = outcome.count / outcome.seconds
        self.cpu_ms = (server.cpu_seconds() - cpu) * 1e6 / outcome.count
        self.mib = resident_mib(server)


def silent_watchers(server, count):
    """The connections, which nobody reads."""
    without_window = count // 3
    connections = []
    for first in range(0, without_window, STREAMS_PER_CONNECTION):
        connection = watch_wire.Connection(server.port, window=0)
        connections.append(connection)
        for _ in range(min(STREAMS_PER_CONNECTION, without_window - first)):
            connection.open().send(watch_wire.create(b"watched"))
    for number in range(count - without_window):
        window = watch_wire.LARGEST_WINDOW if number % 2 else CUSTOMARY_WINDOW
        connections.append(watch_wire.Connection(server.port, window=window))
        connections[-1].open().send(watch_wire.create(b"watched"))
    return connections


def metric(server, name):
    for line in server.request("GET", "/metrics").decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise SystemExit(f"{server.name} has no metric {name}")


def await_watchers(server, count):
    deadline = time.monotonic() + 60
    while metric(server, "etcd_debugging_mvcc_watcher_total") != count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{server.name} does not come to {count} watches")
        time.sleep(0.1)


def measure(server, watchers, seconds, rounds):
    """[(calm phase, phase under silence)], in turn because the machine has other work: each silence begins with new
    watchers, whose every buffer has to be filled."""
    Phase(server, seconds / 2)
    found = []
    for _ in range(rounds):
        calm = Phase(server, seconds)
        connections = silent_watchers(server, watchers)
        try:
            await_watchers(server, watchers)
            found.append((calm, Phase(server, seconds)))
        finally:
            for connection in connections:
                connection.close()
        await_watchers(server, 0)
    return found


def print_head():
    print("| server | phase | puts/s | of calm | server CPU ms per 1,000 | RSS MiB |")
    print("|---|---|---|---|---|---|")


def print_rows(name, found, watchers):
    for number, phases in enumerate(found):
        for title, phase in zip(("calm", f"{watchers:,} silent watchers"), phases):
            print(f"| {name} | {number + 1}. {title} | {phase.rate:,.0f} | {phase.rate / phases[0].rate:.2f} "
                  f"| {phase.cpu_ms:.1f} | {phase.mib:.0f} |", flush=True)


def ratio_of(found):
    return statistics.median(silent.rate / calm.rate for calm, silent in found)


def run(context):
    """The section of the table: of leasehold alone, whose promise it is."""
    watch_wire.raise_file_limit()
    with context.serving(servers.Leasehold, "leasehold") as server:
        found = measure(server, 1_000, context.seconds * 2, context.rounds)
    print_head()
    print_rows("leasehold", found, 1_000)
    print(f"\nPuts under silence: {ratio_of(found):.2f} of calm; at least {LEAST_RATIO} is demanded.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leasehold", required=True)
    parser.add_argument("--etcd", help="measure this server (etcd's flags) as well")
    parser.add_argument("--watchers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    watch_wire.raise_file_limit()
    folder = tempfile.mkdtemp(prefix="leasehold-benchmark.")
    kinds = [(servers.Leasehold, "leasehold", chosen.leasehold)]
    if chosen.etcd:
        kinds.append((servers.Etcd, "etcd", chosen.etcd))
    print_head()
    ratio = None
    for kind, name, binary in kinds:
        server = kind(name, binary, os.path.join(folder, name), None)
        try:
            server.await_health()
            found = measure(server, chosen.watchers, chosen.seconds, chosen.rounds)
        finally:
            server.stop()
        print_rows(name, found, chosen.watchers)
        ratio = ratio_of(found) if ratio is None else ratio
    shutil.rmtree(folder, ignore_errors=True)
    print(f"\nputs under silence: {ratio:.2f} of calm (at least {LEAST_RATIO} is demanded)")
    sys.exit(0 if ratio >= LEAST_RATIO else 1)


if __name__ == "__main__":
    main()
