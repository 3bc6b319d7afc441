"""Disks that are slow, stuck, full or broken under a running member, and what was written that is not there any more.

The library failing_disk.so is loaded into every member; a file per member says what its disk does. A member that ends,
as it must when its log cannot be synced, is started again on a healthy disk; one whose data are damaged is replaced.
"""

import time

import shared
from faults import fault
from harness import tail, used_bytes, wait_until

# Two until the leader sees that its disk is stuck, and some for the change.
YIELD_ELECTION_TIMEOUTS = 4
ENDED_SECONDS = 30.0
# What was under way when the fault began is answered by then.
SETTLED_SECONDS = 0.5
# A write must come within this much of a fault that leaves a quorum alone.
QUORUM_SECONDS = 8.0
TORN_BYTES = (1, 400)
SECTOR_BYTES, ZEROS_BYTES = 512, 8_192
REFUSAL_SECONDS = 10.0
LOG, STORE = "/member/wal/", "/member/state/"


def _disk(chaos, member, what):
    """What the member's disk does from now on: (call, error, part of the path), or None for a healthy one."""
    setting = chaos.equipment.disk_setting(member)
    if what is None:
        setting.unlink(missing_ok=True)
        return
    fresh = setting.with_suffix(".new")
    fresh.write_text(" ".join(what))
    fresh.rename(setting)


def _expect_a_write(chaos, since, victim):
    """A quorum is well."""
    if chaos.cluster.count > 1:
        wait_until(lambda: chaos.load.acknowledgements[-1] > since + SETTLED_SECONDS, f"a write without {victim}",
                   QUORUM_SECONDS, 0.01)


def _victim(chaos, random):
    return random.choice([chaos.leader(random), random.choice(chaos.cluster.members)])


@fault("disk-slow", hold=(2.0, 8.0), needs="disk")
def disk_slow(chaos, random):
    victim = _victim(chaos, random)
    delay = random.choice((20, 100, 400))
    _disk(chaos, victim, ("fdatasync", f"slow={delay}", LOG))
    yield f"each sync of {victim}'s log takes {delay} ms more"
    _disk(chaos, victim, None)


@fault("disk-stuck", hold=(2.0, 10.0), needs="disk")
def disk_stuck(chaos, random):
    """A sync that does not return until the disk is itself again."""
    victim = _victim(chaos, random)
    what = random.choice((("fdatasync", "stuck", LOG), ("fdatasync", "stuck", STORE), ("write", "stuck", LOG)))
    leads = ", the leader," if victim is chaos.cluster.leader() else ""
    _disk(chaos, victim, what)
    start = time.monotonic()
    _expect_a_write(chaos, start, victim)
    took = chaos.load.acknowledgements[-1] - start
    yield f"{victim}{leads} {' '.join(what)}; writes went on after {took:.1f} s"
    _disk(chaos, victim, None)
    if leads:
        # Until it hands over it ends no lease, for it cannot take its own entries.
        last = start + YIELD_ELECTION_TIMEOUTS * chaos.cluster.election_ms / 1000
        chaos.oracle.outage(start, min(time.monotonic(), last) if chaos.profile.stuck_leader_yields else time.monotonic())


@fault("disk-fails", hold=(0.1, 3.0), needs="disk", weight=2.0)
def disk_fails(chaos, random):
    """The member ends; the others go on without it; on a healthy disk it comes back."""
    victim = _victim(chaos, random)
    what = random.choice((
        ("fdatasync", "EIO", LOG), ("write", "EIO", LOG), ("write", "ENOSPC", LOG), ("fdatasync", "EIO", STORE)))
    before = victim.log.stat().st_size
    _disk(chaos, victim, what)
    try:
        wait_until(lambda: not victim.is_running, f"the end of {victim}, whose disk fails", ENDED_SECONDS)
        with open(victim.log, "rb") as log:
            log.seek(before)
            if b"leasehold stops: " not in log.read():
                raise AssertionError(f"{victim} ended without a word on its disk:\n{tail(victim.log)}")
        ended = time.monotonic()
        _expect_a_write(chaos, ended, victim)
        yield f"{victim} ended: {' '.join(what)}"
    finally:
        _disk(chaos, victim, None)
    victim.start()


@fault("disk-full-store", hold=(2.0, 6.0), needs="disk")
def disk_full_store(chaos, random):
    """No room for the store: the log covers what it could not take, and the member serves on."""
    victim = random.choice(chaos.cluster.members)
    _disk(chaos, victim, ("write", "ENOSPC", STORE))
    yield f"{victim} has no room for its store"
    _disk(chaos, victim, None)


# ---- Damage ----------------------------------------------------------------------------------------------------------

def _flip(path, random):
    """One bit, among the bytes in use."""
    at = random.randrange(used_bytes(path))
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 1 << random.randrange(8),)))
    return at


def _newest(folder, pattern="*"):
    files = [path for path in folder.glob(pattern) if path.is_file() and used_bytes(path) > 0]
    return max(files, key=lambda path: path.stat().st_mtime)


@fault("bit-flip", hold=(0.1, 1.0), needs="damage")
def bit_flip(chaos, random):
    """In the log or the store of a member that stands still. It refuses to start, or shows that it has noticed nothing
    that matters; then it is replaced, as its operator would."""
    victim = random.choice(chaos.cluster.members)
    victim.kill()
    folder = victim.folder / "member" / random.choice(("wal", "state"))
    path = _newest(folder, "*.wal" if folder.name == "wal" else "*")
    at = _flip(path, random)
    before = victim.log.stat().st_size
    victim.start()
    end = time.monotonic() + REFUSAL_SECONDS
    while victim.is_running and time.monotonic() < end and not chaos.cluster.serves(victim):
        time.sleep(0.1)
    fate = "it served on" if victim.is_running else "it refused"
    if not victim.is_running:
        with open(victim.log, "rb") as log:
            log.seek(before)
            words = log.read().decode(errors="replace").strip().splitlines()
        if victim.process.returncode < 0 or not words:
            raise AssertionError(
                f"{victim} ended with {victim.process.returncode} after a bit of {path} at {at} was turned over:\n"
                + "\n".join(words[-8:]))
        fate = f"it refused: {words[-1][:100]}"
    victim.kill()
    chaos.cluster.remove(victim)
    fresh = chaos.cluster.add()
    chaos.wait_until_served(fresh)
    yield f"a bit of {victim}'s {folder.name}/{path.name} at {at} was turned over; {fate}; replaced by {fresh}"


@fault("torn-tail", hold=(0.1, 1.0), needs="damage")
def torn_tail(chaos, random):
    """What a power cut leaves of a batch that was on its way: later sectors of it, the first ones blank. It was never
    acknowledged, so the member cuts it off and serves."""
    victim = random.choice(chaos.cluster.members)
    victim.kill()
    path = _newest(victim.folder / "member" / "wal", "*.wal")
    # The last record may end in zeros.
    at = (used_bytes(path) + ZEROS_BYTES) // SECTOR_BYTES * SECTOR_BYTES
    count = random.randint(*TORN_BYTES)
    what = f"{count} bytes of a torn batch" if at + count < path.stat().st_size else "no room for a torn batch"
    if at + count < path.stat().st_size:
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(bytes(random.randrange(1, 256) for _ in range(count)))
    victim.start()
    chaos.wait_until_served(victim)
    yield f"{victim} has {what} behind its log"
