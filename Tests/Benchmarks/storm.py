"""All leases run out together: how long until the last is gone, and what puts feel of it."""

import os
import time

import leases
import prober
import redis_peer
import servers
import tools

# Deadlines are spread over this, as leases of clients that started together are.
SPREAD_SECONDS = 0.9
CALM_SECONDS = 5.0
# The slowest filling that still ends before the first deadline; the second is for machines that are busy otherwise.
LEAST_FILL_PER_SECOND = 40_000
PATIENT_FILL_PER_SECOND = 8_000
ETCD_LEASES = 5_000
ETCD_TTL_SECONDS = 15
POLL_SECONDS = 0.05
# Beyond this a storm is not going to end.
PATIENCE_SECONDS = 300


class Storm:
    """`samples`: (monotonic seconds, keys of leases that are left), from before the first deadline on."""

    def __init__(self, count, due, samples, puts=()):
        self.count = count
        self.seconds = samples[-1][0] - due
        self.rate = self.slope(samples)
        self.calm_p99_ms = prober.p99_ms(puts, due - CALM_SECONDS, due)
        self.p99_ms = prober.p99_ms(puts, due, samples[-1][0])

    def slope(self, samples):
        """Expired a second, between the moments at which a tenth and nine tenths were gone."""
        begin = next(sample for sample in samples if sample[1] <= self.count * 0.9)
        end = next(sample for sample in samples if sample[1] <= self.count * 0.1)
        if end[0] <= begin[0]:
            return self.count / max(self.seconds, 1e-9)
        return (begin[1] - end[1]) / (end[0] - begin[0])


def follow(left, count, due):
    """Samples `left()` until it is 0. No lease may go before the first deadline."""
    time.sleep(max(0.0, due - 0.3 - time.monotonic()))
    early = count - left()
    if time.monotonic() < due and early > 0:
        raise SystemExit(f"{early} of {count} leases ended early")
    samples = []
    while True:
        remaining = left()
        samples.append((time.monotonic(), remaining))
        if remaining <= 0:
            return samples
        if time.monotonic() > due + PATIENCE_SECONDS:
            raise SystemExit(f"{remaining} of {count} leases are left {PATIENCE_SECONDS} s after their deadline")
        time.sleep(POLL_SECONDS)


class TooSlow(Exception):
    pass


def leasehold(server, count, folder, fill_per_second=LEAST_FILL_PER_SECOND):
    due = time.monotonic() + count / fill_per_second + CALM_SECONDS + 2
    batches = 0

    def ttl_ms():
        nonlocal batches
        batches += 1
        return int((due + batches % 10 * SPREAD_SECONDS / 9 - time.monotonic()) * 1000)

    leases.fill_leasehold(server, count, ttl_ms)
    if time.monotonic() > due - CALM_SECONDS:
        raise TooSlow("filling was too slow for a calm before the storm")
    return weather(server, count, due, folder)


def leasehold_patiently(context, count):
    for pace in (LEAST_FILL_PER_SECOND, PATIENT_FILL_PER_SECOND):
        with context.serving(servers.Leasehold, "leasehold") as server:
            try:
                return leasehold(server, count, context.folder, pace)
            except TooSlow as problem:
                tools.say(f"storm: {problem}")
    raise SystemExit("this machine is too busy for the storm")


def etcd(server, count, folder):
    due = time.monotonic() + ETCD_TTL_SECONDS
    leases.fill_etcd(server, count, ETCD_TTL_SECONDS)
    if time.monotonic() > due - CALM_SECONDS:
        raise SystemExit("filling etcd was too slow for a calm before the storm")
    return weather(server, count, due, folder)


def weather(server, count, due, folder):
    if (alive := leases.count_keys(server)) != count:
        raise SystemExit(f"{server.name}: {alive} keys after {count} were put")
    puts = prober.Prober(server, os.path.join(folder, f"{server.name}.puts"))
    samples = follow(lambda: server.keys() - prober.KEYS, count, due)
    taken = puts.stop()
    # The gauge shows what is applied; this what is committed and durable.
    if left := leases.count_keys(server):
        raise SystemExit(f"{server.name}: {left} keys are left after the storm")
    return Storm(count, due, samples, taken)


# ---- The section -----------------------------------------------------------------------------------------------------

def run(context):
    count = 100_000 if context.quick else 1_000_000
    rows = []
    tools.say(f"storm: etcd, {ETCD_LEASES:,} leases")
    with context.serving(servers.Etcd, "etcd") as server:
        storm = etcd(server, ETCD_LEASES, context.folder)
        rows.append(("etcd 3.5.1", storm, f"1,000,000 would take {1_000_000 / storm.rate:,.0f} s"))
    if redis_peer.is_there():
        tools.say(f"storm: redis, {count:,} keys")
        with context.own(redis_peer.Redis(os.path.join(context.folder, "redis"))) as redis:
            rows.append((redis.title, redis.storm(count), "not durable: synced every second"))
    tools.say(f"storm: leasehold, {count:,} leases")
    rows.append(("leasehold", leasehold_patiently(context, count), ""))
    print("| leases due within one second, a key each | number | s until the last is gone | expired/s "
          "| put p99, calm | put p99 meanwhile | |")
    print("|---|---|---|---|---|---|---|")
    for name, storm, note in rows:
        print(f"| {name} | {storm.count:,} | {storm.seconds:.1f} | {storm.rate:,.0f} | {shown(storm.calm_p99_ms)} "
              f"| {shown(storm.p99_ms)} | {note} |")


def shown(milliseconds):
    return "-" if milliseconds != milliseconds else f"{milliseconds:.2f} ms"
