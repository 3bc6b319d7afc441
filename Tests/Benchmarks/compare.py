"""The table of what one member does, or three, beside etcd 3.5.1 (and Redis 7 where leases have it as their peer), as
markdown.

Sections, in their order:
  requests   put, txn, range, lease grant, keepalive
  callers    put by 100, 1,000 and 10,000 callers
  leases     grants with a key, renewals
  storm      a million leases due within one second
  footprint  memory of live leases, idle CPU, restart
  watch      many watchers, and watchers that do not read
  hits       the sidecar's hook
  cluster    what requests has, on three members of each; some minutes more, so only where --only names it

Three members are all on this machine; CPU is their sum. The load's connections are shared out evenly among them, by
etcd's tool with three --endpoints and by an h2load for each; a member that answers sooner is asked more. Puts by one
caller go to the leader, and again to a follower. With --tls the members speak mutual TLS to each other too."""

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import traceback

import footprint
import loads
import sampling
import servers
import storm
import tables
import tools

ROUND_SECONDS = 2.5
QUICK_SECONDS = 1.0
HIT_KEYS = 16_384
QUICK_LEASES = 100_000
SMALLER_LEASES = 1_000_000
WATCH_MODULES = ("watchers", "slow_watchers")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leasehold", required=True, help="the executable (Tests/Benchmarks/run builds it)")
    parser.add_argument("--etcd", help="another server in etcd 3.5.1's place, etcd's flags assumed")
    parser.add_argument("--quick", action="store_true", help="one short round, a tenth of the leases")
    parser.add_argument("--rounds", type=int, help="default 3, with --quick 1")
    parser.add_argument("--seconds", type=float, help=f"of each measurement; default about {ROUND_SECONDS}")
    parser.add_argument("--tls", action="store_true", help="mutual TLS, for what can show a certificate")
    parser.add_argument("--only", default="", metavar="NAMES",
                        help="sections, or parts of loads' names, separated by commas")
    parser.add_argument("--leases", type=int, help="live leases of the footprint; default 1,000,000. With more, such as "
                        "10,000,000, both are measured")
    parser.add_argument("--dir", help="where the data directories are made; default the temporary folder")
    return parser.parse_args()


class Context:
    """What a section needs to know, and the servers that it may start."""

    def __init__(self, chosen, folder):
        self.quick = chosen.quick
        self.tls = chosen.tls
        self.folder = folder
        self.seconds = chosen.seconds or (QUICK_SECONDS if chosen.quick else ROUND_SECONDS)
        self.rounds = chosen.rounds or (1 if chosen.quick else 3)
        self.leasehold = chosen.leasehold
        self.tool = tools.benchmark()
        self.etcd = chosen.etcd or tools.etcd()
        self.names = [name.strip() for name in chosen.only.split(",") if name.strip()]
        most = chosen.leases or (QUICK_LEASES if chosen.quick else SMALLER_LEASES)
        self.lease_counts = sorted({min(most, SMALLER_LEASES), most})
        self.identity = servers.Identity(chosen.leasehold, os.path.join(folder, "pki")) if chosen.tls else None

    def wants(self, section):
        return not self.names or section in self.names

    def named(self, section, candidates):
        """The loads of a section that were asked for."""
        if self.wants(section):
            return candidates
        return [load for load in candidates
                if any(name in load.name for name in self.names if name not in SECTIONS)]

    @contextlib.contextmanager
    def own(self, thing):
        """Stops `thing` at the end."""
        try:
            yield thing
        finally:
            thing.stop()

    @contextlib.contextmanager
    def serving(self, kind, name):
        """A fresh member, or cluster, on an empty directory, healthy; gone with its data at the end."""
        folder = tempfile.mkdtemp(dir=self.folder)
        binary = self.etcd if kind in (servers.Etcd, servers.EtcdCluster) else self.leasehold
        server = kind(name, binary, os.path.join(folder, name.replace(" ", "-")), self.identity)
        try:
            server.await_health()
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def compare(self, chosen, prepare, what="load"):
        """Runs loads on etcd and on leasehold by turns and prints them side by side."""
        with self.serving(servers.Etcd, "etcd") as etcd, self.serving(servers.Leasehold, "leasehold") as leasehold:
            self.compare_both([etcd, leasehold], chosen, prepare, what)

    def compare_both(self, both, chosen, prepare, what):
        for server in both:
            prepare(server)
        tables.print_comparison(sampling.measure(both, chosen, self.rounds), what)


# ---- The sections ----------------------------------------------------------------------------------------------------

def requests(context):
    chosen = context.named("requests", loads.against_etcd(context.tool, context.seconds, context.tls))
    return chosen and (lambda: context.compare(chosen, loads.prepare))


def callers(context):
    chosen = context.named("callers", loads.callers(context.tool, context.seconds))
    return chosen and (lambda: context.compare(chosen, lambda _: None, "callers at once"))


def leases(context):
    if context.tls:
        return None
    chosen = context.named("leases", loads.leases(context.seconds, context.lease_counts[0]))
    return chosen and (lambda: leases_and_redis(context, chosen))


def leases_and_redis(context, chosen):
    context.compare(chosen, lambda server: loads.prepare_leases(server, context.lease_counts[0]), "leases")
    loads.print_redis_renewals(context)


def whole(name, module):
    """A section that is measured as one, in cleartext."""
    return lambda context: None if context.tls or not context.wants(name) else (lambda: module.run(context))


def watch(context):
    """Each of the modules that are there: `run(context)` prints its own table."""
    if context.tls or not context.wants("watch"):
        return None
    here = os.path.dirname(os.path.abspath(__file__))
    present = [name for name in WATCH_MODULES if os.path.exists(os.path.join(here, f"{name}.py"))]

    def run():
        for place, name in enumerate(present):
            if place > 0:
                print()
            importlib.import_module(name).run(context)

    return run if present else None


def hits(context):
    chosen = [] if context.tls else context.named("hits", loads.hits(context.seconds))

    def run():
        with context.serving(servers.LeaseholdWithSidecar, "leasehold with sidecar") as server:
            for cache in ("calm", "busy"):
                loads.register(server, cache, HIT_KEYS)
            tables.print_hits(sampling.measure([server], chosen, context.rounds))

    return run if chosen else None


def cluster(context):
    if "cluster" not in context.names:
        return None
    chosen = loads.cluster(context.tool, context.seconds, context.tls)

    def run():
        with context.serving(servers.EtcdCluster, "etcd") as etcd, \
                context.serving(servers.LeaseholdCluster, "leasehold") as leasehold:
            both = [etcd, leasehold]
            before = [server.leader_changes() for server in both]
            context.compare_both(both, chosen, loads.prepare, "load on three members")
            changes = [server.leader_changes() - seen for server, seen in zip(both, before)]
        if any(changes):
            print("\nThe leader changed meanwhile: "
                  + ", ".join(f"{server.name} {number} ×" for server, number in zip(both, changes)) + ".")

    return run


SECTIONS = {
    "requests": requests, "callers": callers, "leases": leases, "storm": whole("storm", storm),
    "footprint": whole("footprint", footprint), "watch": watch, "hits": hits, "cluster": cluster}

# What the figures of a section are held against.
TARGETS = {
    "requests": "range: a fifth of etcd's CPU, a tenth with mutual TLS, and three times its rate where the client is not "
    "the limit; put and txn: a quarter, an eighth with mutual TLS, p50 of one caller not above etcd's; grant: a "
    "fifteenth; keepalive: four times the rate on streams of their own, twice when pipelined",
    "callers": "no slower by 10,000 callers than by 100",
    "leases": "renewals durable, and not slower than etcd's and Redis', which are not",
    "storm": "1,000,000 gone durably within 7 s; put p99 meanwhile at most twice the calm one",
    "footprint": "10,000,000 leases in 4 GiB of anonymous memory; 10 s to the first linearizable read; at most 1 s late "
    "beyond the outage, never early; under 1 % of a core with 1,000,000 idle leases",
    "watch": "twice etcd's events/s at 1,000 watchers; put to event p99 not above etcd's; puts at 0.8 of their calm rate "
    "beside 1,000 watchers that never read",
    "cluster": "put and txn: a quarter of etcd's CPU, an eighth with mutual TLS, p50 of one caller not above etcd's; range: "
    "a fifth, a tenth with mutual TLS; keepalive: four times the rate on streams of their own, twice when pipelined",
    "hits": "coalesced: 50 k/s on one core singly, 500 k/s in batches; renewing: 20 k/s singly, 200 k/s in batches",
}


def command():
    """As it was typed: the wrapper adds the executable's path."""
    arguments = sys.argv[1:]
    if "--leasehold" in arguments:
        place = arguments.index("--leasehold")
        del arguments[place:place + 2]
    return " ".join(["Tests/Benchmarks/run", *arguments])


def give_up(*_):
    raise KeyboardInterrupt


def main():
    chosen = options()
    # Servers and data directories go away with a run that is ended from outside too.
    signal.signal(signal.SIGTERM, give_up)
    folder = tempfile.mkdtemp(prefix="leasehold-benchmark.", dir=chosen.dir)
    failed = []
    try:
        context = Context(chosen, folder)
        if chosen.tls and not context.tool:
            raise SystemExit("--tls needs etcd's benchmark tool")
        print(f"`{command()}`\n")
        members = "Three members" if context.names == ["cluster"] else "One member"
        print(f"{members}{', mutual TLS' if chosen.tls else ', cleartext'}, loopback; {tables.machine()}; medians of "
              f"{context.rounds} round{'s' if context.rounds > 1 else ''} of about {context.seconds:g} s, storms and "
              f"footprints once; load average before {os.getloadavg()[0]:.1f}"
              + ("" if context.tool else "; without etcd's benchmark tool, which cannot be built here") + ".",
              flush=True)
        run = 0
        for name, section in SECTIONS.items():
            measured = section(context)
            if not measured:
                continue
            run += 1
            print()
            # One that fails must not take the others' figures along.
            try:
                measured()
                if name in TARGETS:
                    print(f"\nTarget: {TARGETS[name]}.")
            except (Exception, SystemExit) as problem:
                traceback.print_exc(file=sys.stderr)
                print(f"{name}: not measured: {problem}")
                failed.append(name)
            sys.stdout.flush()
        if run == 0:
            raise SystemExit(f"nothing is called {chosen.only!r}; sections: {', '.join(SECTIONS)}")
        print(f"\nLoad average at the end {os.getloadavg()[0]:.1f}.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
