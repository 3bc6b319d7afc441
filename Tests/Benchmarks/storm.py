"""All leases run out together: how long until the last is gone, and what puts feel of it."""

import math
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
ETCD_PATIENT_TTL_SECONDS = 60
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


def check_pace(due):
    if time.monotonic() > due - CALM_SECONDS:
        raise TooSlow("filling was too slow for a calm before the storm")


def leasehold(server, count, folder, is_patient):
    pace = PATIENT_FILL_PER_SECOND if is_patient else LEAST_FILL_PER_SECOND
    due = time.monotonic() + count / pace + CALM_SECONDS + 2
    batches = 0

    def ttl_ms():
        nonlocal batches
        batches += 1
        check_pace(due)
        return int((due + batches % 10 * SPREAD_SECONDS / 9 - time.monotonic()) * 1000)

    leases.fill_leasehold(server, count, ttl_ms)
    return weather(server, count, due, folder)


def etcd(server, count, folder, is_patient):
    ttl_seconds = ETCD_PATIENT_TTL_SECONDS if is_patient else ETCD_TTL_SECONDS
    due = time.monotonic() + ttl_seconds
    leases.fill_etcd(server, count, ttl_seconds)
    return weather(server, count, due, folder)


def patiently(context, kind, name, make, count):
    """On a fresh server; once more, with more time to fill it, where the machine is too busy."""
    for is_patient in (False, True):
        with context.serving(kind, name) as server:
            try:
                return make(server, count, context.folder, is_patient)
            except TooSlow as problem:
                tools.say(f"storm: {name}: {problem}")
    raise SystemExit(f"{name}: this machine is too busy for the storm")


def weather(server, count, due, folder):
    check_pace(due)
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

    def redis():
        with context.own(redis_peer.Redis(os.path.join(context.folder, "redis-storm"))) as server:
            return server.storm(count)

    contenders = [
        ("etcd 3.5.1", lambda: patiently(context, servers.Etcd, "etcd", etcd, ETCD_LEASES),
         lambda storm: f"1,000,000 would take {1_000_000 / storm.rate:,.0f} s"),
        ("leasehold", lambda: patiently(context, servers.Leasehold, "leasehold", leasehold, count), lambda storm: "durable"),
    ]
    if redis_peer.is_there():
        contenders.insert(1, ("Redis 7", redis, lambda storm: "not durable: synced every second"))
    print("| leases due within one second, a key each | number | s until the last is gone | expired/s "
          "| put p99, calm | put p99 meanwhile | |")
    print("|---|---|---|---|---|---|---|")
    failed = []
    for name, measure, note in contenders:
        tools.say(f"storm: {name}")
        try:
            storm = measure()
        except (Exception, SystemExit) as problem:
            failed.append(f"{name}: {problem}")
            continue
        print(f"| {name} | {storm.count:,} | {storm.seconds:.1f} | {storm.rate:,.0f} | {shown(storm.calm_p99_ms)} "
              f"| {shown(storm.p99_ms)} | {note(storm)} |", flush=True)
    if failed:
        raise SystemExit("; ".join(failed))


def shown(milliseconds):
    if math.isnan(milliseconds):
        return "-"
    return "refused" if math.isinf(milliseconds) else f"{milliseconds:.2f} ms"
