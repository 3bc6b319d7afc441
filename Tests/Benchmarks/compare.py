"""Runs the loads in turn on both servers, round after round, and prints medians as a markdown table."""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile

import loads
import servers
import tools

ROUND_SECONDS = 2.5
QUICK_SECONDS = 1.0
HIT_KEYS = 16_384


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leasehold", required=True, help="the executable (Tests/Benchmarks/run builds it)")
    parser.add_argument("--etcd", help="another server in etcd 3.5.1's place, etcd's flags assumed")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="default 3, with --quick 1")
    parser.add_argument("--seconds", type=float, help=f"of each measurement; default about {ROUND_SECONDS}")
    parser.add_argument("--tls", action="store_true", help="mutual TLS on the client port")
    parser.add_argument("--only", default="", help="loads whose name contains this")
    parser.add_argument("--dir", help="where the data directories are made; default the temporary folder")
    return parser.parse_args()


class Sample:
    """One load on one server in one round."""

    def __init__(self, server, load):
        before = server.cpu_seconds()
        outcome = load.run(server)
        self.cpu_ms = (server.cpu_seconds() - before) * 1_000_000 / outcome.count
        self.rate = outcome.count / outcome.seconds
        self.p50_ms = outcome.p50_ms
        self.p99_ms = outcome.p99_ms


class Figures:
    """The medians of one load on one server. `cpu_ms`: per 1,000 requests; `rate`: requests a second."""

    def __init__(self, samples):
        def median(pick):
            values = [pick(s) for s in samples if pick(s) is not None]
            return statistics.median(values) if values else None

        self.cpu_ms = median(lambda s: s.cpu_ms)
        self.rate = median(lambda s: s.rate)
        self.p50_ms = median(lambda s: s.p50_ms)
        self.p99_ms = median(lambda s: s.p99_ms)


def measure(members, chosen, rounds):
    """`members`: the servers under comparison. Returns {load: [Figures of each server]}."""
    samples = {load.name: [[] for _ in members] for load in chosen}
    for number in range(rounds):
        for load in chosen:
            order = list(enumerate(members))
            for index, server in order if number % 2 == 0 else reversed(order):
                tools.say(f"round {number + 1}/{rounds}: {load.name}: {server.name}")
                samples[load.name][index].append(Sample(server, load))
    return {name: [Figures(of_server) for of_server in per_server] for name, per_server in samples.items()}


# ---- The table -------------------------------------------------------------------------------------------------------

def amount(value):
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    if value >= 1_000:
        return f"{value / 1000:.1f} k"
    return f"{value:.3g}"


def latencies(figures):
    if figures.p50_ms is None:
        return ""
    p50, p99 = (f"{ms:.2f}" if ms < 10 else f"{ms:.0f}" for ms in (figures.p50_ms, figures.p99_ms))
    return f"; p50 {p50} ms, p99 {p99} ms"


def print_comparison(results):
    print("| load | etcd 3.5.1: rate; CPU ms per 1,000 | leasehold: rate; CPU ms per 1,000 | CPU | rate |")
    print("|---|---|---|---|---|")
    for name, (etcd, own) in results.items():
        print(f"| {name} | {amount(etcd.rate)}/s; {etcd.cpu_ms:.3g}{latencies(etcd)} "
              f"| {amount(own.rate)}/s; {own.cpu_ms:.3g}{latencies(own)} "
              f"| {etcd.cpu_ms / max(own.cpu_ms, 1e-9):.1f} × less | {own.rate / etcd.rate:.2g} × |")


def print_hits(results):
    print("| leasehold's hook | hits/s | server CPU ms per 1,000 hits | hits per CPU second |")
    print("|---|---|---|---|")
    for name, (own,) in results.items():
        per_second = f"{amount(1_000_000 / own.cpu_ms)}" if own.cpu_ms > 0 else "-"
        print(f"| {name} | {amount(own.rate)} | {own.cpu_ms:.3g} | {per_second} |")


def machine():
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return f"{os.cpu_count()} cores of {cpu}, Linux {platform.release()}"


def command():
    """As it was typed: the wrapper adds the executable's path."""
    arguments = sys.argv[1:]
    if "--leasehold" in arguments:
        place = arguments.index("--leasehold")
        del arguments[place:place + 2]
    return " ".join(["Tests/Benchmarks/run", *arguments])


def main():
    chosen = options()
    seconds = chosen.seconds or (QUICK_SECONDS if chosen.quick else ROUND_SECONDS)
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    tool = tools.benchmark()
    if chosen.tls and not tool:
        raise SystemExit("--tls needs etcd's benchmark tool")
    etcd = chosen.etcd or tools.etcd()
    load_before = os.getloadavg()[0]
    folder = tempfile.mkdtemp(prefix="leasehold-benchmark.", dir=chosen.dir)
    running = []

    def start(kind, name, binary):
        running.append(kind(name, binary, os.path.join(folder, name.replace(" ", "-")), identity))
        running[-1].await_health()
        return running[-1]

    def named(candidates):
        return [load for load in candidates if chosen.only in load.name]

    def stop_all():
        while running:
            running.pop().stop()

    try:
        identity = servers.Identity(chosen.leasehold, os.path.join(folder, "pki")) if chosen.tls else None
        compared = named(loads.against_etcd(tool, seconds, chosen.tls))
        results = {}
        if compared:
            members = [start(servers.Etcd, "etcd", etcd), start(servers.Leasehold, "leasehold", chosen.leasehold)]
            for server in members:
                loads.prepare(server)
            results = measure(members, compared, rounds)
            stop_all()
        hooks = [] if chosen.tls else named(loads.hits(seconds))
        hit_results = {}
        if hooks:
            server = start(servers.LeaseholdWithSidecar, "leasehold with sidecar", chosen.leasehold)
            for cache in ("calm", "busy"):
                loads.register(server, cache, HIT_KEYS)
            hit_results = measure([server], hooks, rounds)
    finally:
        stop_all()
        shutil.rmtree(folder, ignore_errors=True)

    print(f"`{command()}`\n")
    print(f"One member{', mutual TLS' if chosen.tls else ', cleartext'}, loopback; {machine()}; medians of {rounds} "
          f"round{'s' if rounds > 1 else ''} of about {seconds:g} s; load average before and after "
          f"{load_before:.1f} and {os.getloadavg()[0]:.1f}"
          + ("" if tool else "; without etcd's benchmark tool, which cannot be built here") + ".\n")
    if results:
        print_comparison(results)
    if results and hit_results:
        print()
    if hit_results:
        print_hits(hit_results)


if __name__ == "__main__":
    main()
