"""What is measured. Every load runs on one server for some seconds and says how many requests it made."""

import os

import generators
import leases as leases_with_keys
import pipelined
import redis_peer
import servers
import tables
import tools
from generators import field, frame

KEY = b"benchmark/key-0001"
VALUE = b"v" * 64
LEASE = 7_000_001
LEASE_SECONDS = 86_400

BATCH_KEYS = 1_000

# As etcd's tool is told them.
PUT = ["put", "--key-size=16", "--val-size=64", "--key-space-size=100000"]
TRANSACTION = ["txn-put", "--key-size=16", "--val-size=64", "--key-space-size=100000", "--txn-ops=10"]


class Load:
    def __init__(self, name, run):
        self.name = name
        self.run = run


def prepare(server):
    """The key that is read and the lease that is kept alive."""
    server.call("/etcdserverpb.Lease/LeaseGrant", field(1, LEASE_SECONDS) + field(2, LEASE))
    server.call("/etcdserverpb.KV/Put", field(1, KEY) + field(2, VALUE))


# ---- Against etcd ----------------------------------------------------------------------------------------------------

def against_etcd(tool, seconds, tls):
    """`tool`: etcd's benchmark, or None. h2load cannot show a client certificate, so with TLS the tool is needed."""
    loads = []
    if tool:
        loads += by_tool(tool, seconds)
        if tls:
            return loads + reads_by_tool(tool, seconds)
    else:
        put = frame(field(1, KEY) + field(2, VALUE))
        loads.append(grpc("put, 1,000 callers (h2load)", "/etcdserverpb.KV/Put", put, seconds, 10, 100, 5))
        loads.append(grpc("put, 1 caller (h2load)", "/etcdserverpb.KV/Put", put, seconds, 1, 1, 5))
    return loads + by_h2load(seconds)


def tool_load(tool, name, connections, callers, total, arguments, at=lambda server: server):
    """`at`: the member of a cluster that has the load, instead of all of them."""
    return Load(name, lambda server: generators.benchmark(
        tool, at(server), connections, callers, max(1, int(total)), arguments))


def by_tool(tool, seconds):
    # The tool takes a number of requests: about what etcd does in this time.
    return [
        tool_load(tool, "put, 1,000 callers", 100, 1_000, 17_000 * seconds, PUT),
        tool_load(tool, "put, 1 caller", 1, 1, 2_000 * seconds, PUT),
        tool_load(tool, "txn of 10 puts, 100 callers", 10, 100, 4_000 * seconds, TRANSACTION),
    ]


def reads_by_tool(tool, seconds):
    def load(name, consistency):
        return tool_load(tool, name, 100, 1_000, 8_000 * seconds,
                         ["range", KEY.decode(), f"--consistency={consistency}"])

    return [load("range, linearizable", "l"), load("range, serializable", "s")]


def grpc(name, method, body, seconds, connections, streams, least_answer_bytes, messages=1):
    return Load(name, lambda server: generators.h2load_grpc(
        server, method, body, seconds, connections, streams, least_answer_bytes, messages))


def by_h2load(seconds, connections=8, pipelined_connections=2, pipelined_keepalives=1_000):
    answer = len(VALUE)
    keepalive = frame(field(1, LEASE))
    return [
        grpc("range, linearizable", "/etcdserverpb.KV/Range", frame(field(1, KEY)), seconds, connections, 100, answer),
        grpc("range, serializable", "/etcdserverpb.KV/Range", frame(field(1, KEY) + field(7, 1)), seconds, connections,
             100, answer),
        grpc("lease grant", "/etcdserverpb.Lease/LeaseGrant", frame(field(1, LEASE_SECONDS)), seconds, connections, 100,
             10),
        grpc("keepalive, a stream each", "/etcdserverpb.Lease/LeaseKeepAlive", keepalive, seconds, connections, 100,
             10),
        grpc(f"keepalive, {pipelined_connections * 10} streams, pipelined", "/etcdserverpb.Lease/LeaseKeepAlive",
             keepalive * pipelined_keepalives, seconds, pipelined_connections, 10, 10 * pipelined_keepalives,
             messages=pipelined_keepalives),
    ]


# ---- Many callers ----------------------------------------------------------------------------------------------------

def callers(tool, seconds):
    """The same puts by ever more callers: neither server may fall off."""
    if not tool:
        return []

    def load(number):
        # At least five puts each, or the start of the callers is what is measured.
        total = max(int(17_000 * seconds), 5 * number)
        return Load(f"put, {number:,} callers on 100 connections", lambda server: generators.benchmark(
            tool, server, 100, number, total, PUT, may_refuse=True))

    return [load(number) for number in (100, 1_000, 10_000)]


# ---- Three members ---------------------------------------------------------------------------------------------------

# An etcd that does not lead asks the leader about each keepalive by itself. A call under way when the time is over does
# not count: short ones, or what it had done would be missing.
CLUSTER_PIPELINED_KEEPALIVES = 50


def cluster(tool, seconds, tls):
    """The connections are shared out evenly among the members. One caller has one: to the leader, and to another."""
    loads = []
    if tool:
        loads += [
            tool_load(tool, "put, 1,000 callers", 100, 1_000, 12_000 * seconds, PUT),
            tool_load(tool, "put, 1 caller, to the leader", 1, 1, 1_000 * seconds, PUT, servers.Cluster.leader),
            tool_load(tool, "put, 1 caller, to a follower", 1, 1, 1_000 * seconds, PUT, servers.Cluster.follower),
            tool_load(tool, "txn of 10 puts, 100 callers", 12, 100, 2_000 * seconds, TRANSACTION),
        ]
        if tls:
            return [
                *loads, *reads_by_tool(tool, seconds),
                # Each caller is granted a lease first: few callers.
                tool_load(tool, "keepalive, a stream each, 100 callers", 12, 100, 5_000 * seconds, ["lease-keepalive"]),
            ]
    return loads + by_h2load(seconds, 9, 3, CLUSTER_PIPELINED_KEEPALIVES)


# ---- Leases by the thousand ------------------------------------------------------------------------------------------

# What etcd can be given in a few seconds.
ETCD_LIVE_LEASES = 20_000
FRESH_LEASES = 100_000_000


def prepare_leases(server, own_count):
    """The leases that are renewed."""
    server.live_leases = ETCD_LIVE_LEASES if server.name == "etcd" else own_count
    tools.say(f"{server.name}: {server.live_leases:,} leases")
    leases_with_keys.fill(server, server.live_leases, LEASE_SECONDS)
    server.next_lease = FRESH_LEASES


def leases(seconds, own_count):
    """`count` is leases. "Own means": each server is asked in its own best way."""
    def grant_and_put(fill, per_second):
        def run(server):
            count = max(1_000, int(per_second[server.name] * seconds))
            elapsed = fill(server, count, LEASE_SECONDS, server.next_lease)
            server.next_lease += count
            return generators.Outcome(count, elapsed)
        return run

    def renew(server):
        own = server.name != "etcd"
        renewing = leases_with_keys.renew_leasehold if own else leases_with_keys.renew_etcd
        done, batch = renewing(server, server.live_leases, seconds)
        return generators.Outcome(done.count * batch, done.seconds)

    some = b"".join(frame(field(1, leases_with_keys.FIRST_LEASE + number)) for number in range(1_000))
    return [
        Load("grant and put, own means (etcd: two calls a lease; ours: 1,000 leases a call)",
             grant_and_put(leases_with_keys.fill, {"etcd": 4_000, "leasehold": 120_000})),
        Load("grant and put, etcd's two calls on both",
             grant_and_put(leases_with_keys.fill_etcd, {"etcd": 4_000, "leasehold": 20_000})),
        Load(f"renew random ones, own means (etcd: keepalives on 20 streams, any of {ETCD_LIVE_LEASES:,}; ours: 1,000 a "
             f"call, any of {own_count:,}, durable)", renew),
        grpc("keepalive of 1,000 leases, 20 streams, pipelined (h2load)", "/etcdserverpb.Lease/LeaseKeepAlive", some,
             seconds, 2, 10, 10_000, messages=1_000),
    ]


def print_redis_renewals(context):
    if not redis_peer.is_there():
        return
    keys = 100_000 if context.quick else 1_000_000
    print("\n| the same with Redis (not durable) | rate; CPU ms per 1,000 |")
    print("|---|---|")
    with context.own(redis_peer.Redis(os.path.join(context.folder, "redis-renewals"))) as redis:
        tools.say(f"{redis.title}: {keys:,} keys")
        elapsed = redis.fill_for_a_day(keys)
        print(f"| {redis.title}: SET with a TTL, pipelined | {tables.amount(keys / elapsed)}/s |")
        for name, depth in (("unpipelined", 1), ("16 pipelined", 16)):
            rate, cpu = redis.renewals(keys, context.seconds, depth)
            print(f"| {redis.title}: EXPIRE, 50 connections, {name} | {tables.amount(rate)}/s; {cpu * 1e6:.3g} |")


# ---- Leasehold alone: the hook ---------------------------------------------------------------------------------------

def hits(seconds):
    """`count` is hits. For the renewing loads most of them must have renewed, or the figure would be another's."""
    return [
        Load("hit, coalesced, one a request (h2load, 64 connections)", lambda s: single_coalesced(s, seconds)),
        Load("hit, coalesced, one a request, 16 pipelined", lambda s: single_pipelined(s, seconds)),
        Load("hit, coalesced, 1,000 a request", lambda s: batches(s, "calm", seconds, connections=4)),
        Load("hit that renews, one a request", lambda s: renewing(s, lambda: single_renewing(s, seconds))),
        Load("hit that renews, 1,000 a request",
             lambda s: renewing(s, lambda: batches(s, "busy", seconds, connections=8))),
    ]


def path(cache, number):
    return f"/v1/caches/{cache}/hit/objects/{number:08x}"


def register(server, cache, count):
    """Every key's first hit, which registers it."""
    for first in range(0, count, BATCH_KEYS):
        server.request("POST", f"/v1/caches/{cache}/hits", port=server.api_port,
                       body=b"\n".join(b"objects/%08x" % n for n in range(first, first + BATCH_KEYS)))


def single_coalesced(server, seconds):
    return generators.h2load_hits(server.api_port, [path("calm", n) for n in range(1_000)], b"\n", seconds, 64)


def single_pipelined(server, seconds):
    requests = [[pipelined.post(path("calm", n)) for n in range(first, first + 64)] for first in range(0, 1_024, 64)]
    return generators.Outcome(*pipelined.run(server.api_port, requests, 16, seconds))


def single_renewing(server, seconds):
    requests = [[pipelined.post(path("busy", n)) for n in range(first, first + 64)] for first in range(0, 16_384, 64)]
    return generators.Outcome(*pipelined.run(server.api_port, requests, 2, seconds))


def batches(server, cache, seconds, connections):
    def body(first):
        return b"\n".join(b"objects/%08x" % n for n in range(first, first + BATCH_KEYS))

    requests = [[pipelined.post(f"/v1/caches/{cache}/hits", body(number * BATCH_KEYS))]
                for number in range(connections)]
    answers, elapsed = pipelined.run(server.api_port, requests, 1, seconds)
    return generators.Outcome(answers * BATCH_KEYS, elapsed)


def renewing(server, run):
    before = server.metric("leasehold_renewals_total")
    outcome = run()
    renewals = server.metric("leasehold_renewals_total") - before
    if renewals < 0.9 * outcome.count:
        raise SystemExit(f"only {renewals:.0f} of {outcome.count} hits renewed: the renewal window is too long")
    return outcome
