"""What live leases cost: memory, the idle node's CPU, and a restart, after which the remaining times must be right."""

import os
import time

import http2
import leases
import redis_peer
import servers
import tools

TTL_SECONDS = 86_400
SAMPLED_LEASES = 100
START_SECONDS = 600
# Anonymous memory counts as settled when it has changed by less than this in `SETTLE_SECONDS`.
SETTLED_BYTES = 4 << 20
SETTLE_SECONDS = 3
SETTLE_PATIENCE = 20


class Footprint:
    def __init__(self, server, count, idle_seconds):
        say = lambda text: tools.say(f"footprint: {server.name}, {count:,} leases: {text}")
        self.name, self.count = server.name, count
        empty, _ = server.memory()
        say("filling")
        self.fill_seconds = leases.fill(server, count, TTL_SECONDS)
        say("settling")
        self.anonymous, self.file_backed = settled_memory(server)
        self.peak = server.peak_bytes()
        self.bytes_per_lease = (self.anonymous - empty) / count
        self.disk = server.disk_bytes()
        say(f"idle for {idle_seconds:g} s")
        before = server.cpu_seconds()
        time.sleep(idle_seconds)
        self.idle_percent = (server.cpu_seconds() - before) / idle_seconds * 100
        say("kill -9 and restart")
        self.restart(server)
        self.anonymous_restarted, _ = settled_memory(server)

    def restart(self, server):
        sampled = [number * self.count // SAMPLED_LEASES for number in range(SAMPLED_LEASES)]
        before = leases.remaining_ms(server, sampled)
        seen_at = time.monotonic()
        server.kill()
        killed_at = time.monotonic()
        server.spawn()
        self.restart_seconds = await_read(server, killed_at)
        self.restart_cpu_seconds = server.cpu_seconds()
        outage = time.monotonic() - killed_at
        after = leases.remaining_ms(server, sampled)
        elapsed = time.monotonic() - seen_at
        self.remaining_before, self.remaining_after = before[0] / 1000, after[0] / 1000
        # How much later than without the restart the leases end, and how much of that the outage does not explain.
        late = [(new - old) / 1000 + elapsed for old, new in zip(before, after)]
        self.early_seconds = max(0.0, -min(late))
        self.late_seconds = max(late) - outage
        if (alive := leases.count_keys(server)) != self.count:
            raise SystemExit(f"{server.name}: {alive} of {self.count} keys are there after the restart")


def settled_memory(server):
    anonymous = server.memory()[0]
    for _ in range(SETTLE_PATIENCE):
        time.sleep(SETTLE_SECONDS)
        last, anonymous = anonymous, server.memory()[0]
        if abs(anonymous - last) < SETTLED_BYTES:
            break
    return server.memory()


def await_read(server, since):
    """Seconds from `since` to the answer of the first linearizable read."""
    while True:
        try:
            if leases.read_one(server):
                return time.monotonic() - since
            raise SystemExit(f"{server.name}: a key is gone after the restart")
        except (OSError, http2.Refused):
            if server.process.poll() is not None or time.monotonic() > since + START_SECONDS:
                tail = open(server.log_path, errors="replace").read()[-2000:]
                raise SystemExit(f"{server.name} does not come back\n{tail}") from None
            time.sleep(0.005)


# ---- The section -----------------------------------------------------------------------------------------------------

def run(context):
    idle_seconds = 5 if context.quick else 20
    found = []
    with context.serving(servers.Etcd, "etcd") as server:
        found.append(("etcd 3.5.1", Footprint(server, 20_000 if context.quick else 300_000, idle_seconds)))
    for count in context.lease_counts:
        with context.serving(servers.Leasehold, "leasehold") as server:
            found.append(("leasehold", Footprint(server, count, idle_seconds)))
    print("| live leases, a key of 60 and a value of 100 bytes each | number | anonymous memory; a lease | file-backed "
          "| peak resident while filling | after the restart | on disk | idle CPU of a core |")
    print("|---|---|---|---|---|---|---|---|")
    for name, it in found:
        print(f"| {name} | {it.count:,} | {size(it.anonymous)}; {it.bytes_per_lease:,.0f} B | {size(it.file_backed)} "
              f"| {size(it.peak)} | {size(it.anonymous_restarted)} | {size(it.disk)} | {it.idle_percent:.2f} % |")
    print_redis(context)
    print()
    print("| kill -9, then start | leases | s to the first linearizable read (CPU s) | remaining TTL, s: before → after "
          "| late beyond the outage, s | early, s |")
    print("|---|---|---|---|---|---|")
    for name, it in found:
        print(f"| {name} | {it.count:,} | {it.restart_seconds:.2f} ({it.restart_cpu_seconds:.1f}) "
              f"| {it.remaining_before:,.1f} → {it.remaining_after:,.1f} | {it.late_seconds:.2f} "
              f"| {it.early_seconds:.2f} |")


def print_redis(context):
    if not redis_peer.is_there():
        return
    count = min(context.lease_counts)
    tools.say(f"footprint: redis, {count:,} keys")
    with context.own(redis_peer.Redis(os.path.join(context.folder, "redis-footprint"))) as redis:
        counted, anonymous = redis.bytes_per_key(count)
        print(f"| {redis.title} | {count:,} | {size(anonymous * count)}; {anonymous:,.0f} B (it counts {counted:,.0f} B) "
              "| - | - | - | - | - |")


def size(count):
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
