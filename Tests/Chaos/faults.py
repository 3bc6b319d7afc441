"""What goes wrong, and how it is put right: each fault is a function (chaos, random) that makes it happen and yields
what it has done; what follows the yield ends it. `hold` is how long it lasts."""

import contextlib
import shutil
import signal
import socket
import time

import shared
from etcd_client import rpc


class Fault:
    """`hold`: seconds from … to. `needs`: what the run must have for it. `weight`: how often, beside the others."""

    def __init__(self, make, hold=(1.0, 6.0), needs=None, weight=1.0):
        self.make, self.hold, self.needs, self.weight = make, hold, needs, weight


SILENT_CLIENTS = 200
FAULTS = {}


def fault(name, **options):
    def register(make):
        FAULTS[name] = Fault(make, **options)
        return make
    return register


def minority(count):
    return (count - 1) // 2


# ---- Processes -------------------------------------------------------------------------------------------------------

def _killing(victims):
    for member in victims:
        member.process.send_signal(signal.SIGKILL)
    for member in victims:
        member.kill()
    yield f"kill -9 of {victims}"
    for member in victims:
        member.start()


def _stopping(victims):
    for member in victims:
        member.pause()
    yield f"SIGSTOP of {victims}"
    for member in victims:
        member.resume()


@fault("kill-one", hold=(0.1, 6.0))
def kill_one(chaos, random):
    yield from _killing([random.choice(chaos.cluster.members)])


@fault("kill-leader", hold=(0.1, 6.0), weight=1.5)
def kill_leader(chaos, random):
    yield from _killing([chaos.leader(random)])


@fault("kill-quorum", hold=(0.1, 4.0))
def kill_quorum(chaos, random):
    count = len(chaos.cluster.members)
    yield from _killing(random.sample(chaos.cluster.members, count - minority(count)))


@fault("kill-all", hold=(0.1, 2.0))
def kill_all(chaos, random):
    yield from _killing(chaos.cluster.members)


@fault("kill-again", hold=(0.1, 1.0))
def kill_again(chaos, random):
    """While it starts."""
    victim = random.choice(chaos.cluster.members)
    for _ in range(random.randint(2, 4)):
        victim.kill()
        time.sleep(random.uniform(0, 0.5))
        victim.start()
        time.sleep(random.uniform(0, 0.6))
    yield f"kill -9 of {victim} again and again"


@fault("stop-one", hold=(1.0, 30.0))
def stop_one(chaos, random):
    yield from _stopping([random.choice(chaos.cluster.members)])


@fault("stop-leader", hold=(1.0, 30.0))
def stop_leader(chaos, random):
    yield from _stopping([chaos.leader(random)])


@fault("stop-moments", hold=(0.0, 0.1))
def stop_moments(chaos, random):
    """Of about an election time-out, of anybody in turn."""
    end = time.monotonic() + random.uniform(3, 6)
    while time.monotonic() < end:
        victim = random.choice(chaos.cluster.members)
        victim.pause()
        time.sleep(random.uniform(0, 2 * chaos.cluster.election_seconds))
        victim.resume()
        time.sleep(random.uniform(0, 0.3))
    yield "SIGSTOP for moments"


# ---- Network ---------------------------------------------------------------------------------------------------------

def _ruling(chaos, rules, what):
    chaos.cluster.network.set_rules(rules)
    yield what
    chaos.cluster.network.heal()


def _between(some, others, rule, both_ways=True):
    rules = {(a.slot, b.slot): rule for a in some for b in others}
    if both_ways:
        rules.update({(b.slot, a.slot): rule for a in some for b in others})
    return rules


DROP = {"drop": True}


def _without(chaos, some):
    return [member for member in chaos.cluster.members if member not in some]


@fault("partition-leader", hold=(1.0, 10.0), needs="rules")
def partition_leader(chaos, random):
    leader = chaos.leader(random)
    yield from _ruling(chaos, _between([leader], _without(chaos, [leader]), DROP), f"{leader}, the leader, is cut off")


@fault("partition-halves", hold=(1.0, 10.0), needs="rules")
def partition_halves(chaos, random):
    members = chaos.cluster.members
    some = random.sample(members, random.randint(1, minority(len(members)) or 1))
    yield from _ruling(chaos, _between(some, _without(chaos, some), DROP), f"{some} are cut off from the others")


@fault("partition-all", hold=(0.5, 4.0), needs="rules")
def partition_all(chaos, random):
    members = chaos.cluster.members
    yield from _ruling(
        chaos, {(a.slot, b.slot): DROP for a in members for b in members if a is not b}, "nobody reaches anybody")


@fault("partition-one-way", hold=(1.0, 10.0), needs="rules", weight=2.0)
def partition_one_way(chaos, random):
    """From one member to the others, or from them to it, or on one link only; often the leader's."""
    one = random.choice([chaos.leader(random), random.choice(chaos.cluster.members)])
    others = _without(chaos, [one])
    if random.random() < 0.3:
        others = [random.choice(others)]
    if random.random() < 0.5:
        yield from _ruling(chaos, _between([one], others, DROP, False), f"nothing goes from {one} to {others}")
    else:
        yield from _ruling(chaos, _between(others, [one], DROP, False), f"nothing comes to {one} from {others}")


@fault("partition-bridge", hold=(1.0, 10.0), needs="rules")
def partition_bridge(chaos, random):
    """Two sides that do not reach each other, and one member that both reach."""
    members = random.sample(chaos.cluster.members, len(chaos.cluster.members))
    bridge, rest = members[0], members[1:]
    some, others = rest[:len(rest) // 2], rest[len(rest) // 2:]
    yield from _ruling(chaos, _between(some, others, DROP), f"{some} and {others} reach {bridge} only")


@fault("partition-flapping", hold=(0.0, 0.1), needs="rules")
def partition_flapping(chaos, random):
    """Links come and go, faster than elections."""
    members = chaos.cluster.members
    end = time.monotonic() + random.uniform(3, 8)
    while time.monotonic() < end:
        chaos.cluster.network.set_rules({
            (a.slot, b.slot): DROP for a in members for b in members if a is not b and random.random() < 0.3})
        time.sleep(random.uniform(0.05, 0.7))
    yield "links came and went"
    chaos.cluster.network.heal()


def _everywhere(chaos, rule):
    members = chaos.cluster.members
    return {(a.slot, b.slot): rule for a in members for b in members if a is not b}


@fault("delay", hold=(2.0, 8.0), needs="rules")
def delay(chaos, random):
    rule = {"delay": random.choice((0.005, 0.03, 0.1)), "jitter": random.choice((0, 0.01, 0.1))}
    yield from _ruling(chaos, _everywhere(chaos, rule), f"{rule} everywhere")


@fault("slow-member", hold=(2.0, 8.0), needs="rules")
def slow_member(chaos, random):
    one = random.choice([chaos.leader(random), random.choice(chaos.cluster.members)])
    rule = {"delay": random.choice((0.1, 0.3, 1.0)), "jitter": 0.1}
    yield from _ruling(chaos, _between([one], _without(chaos, [one]), rule), f"{rule} to and from {one}")


@fault("loss", hold=(2.0, 8.0), needs="rules")
def loss(chaos, random):
    rule = {"loss": random.choice((0.02, 0.1, 0.3)), "duplicate": random.choice((0, 0.05)), "jitter": 0.004}
    yield from _ruling(chaos, _everywhere(chaos, rule), f"{rule} everywhere")


# ---- Membership ------------------------------------------------------------------------------------------------------

@fault("replace", hold=(0.1, 1.0), needs="peers", weight=1.5)
def replace(chaos, random):
    """A dead member goes, a fresh one comes; sometimes the leader goes, alive."""
    victim = random.choice([chaos.leader(random), random.choice(chaos.cluster.members)])
    if random.random() < 0.5:
        victim.kill()
    chaos.cluster.remove(victim)
    fresh = chaos.cluster.add()
    chaos.wait_until_served(fresh)
    yield f"{victim} was replaced by {fresh}"


@fault("learner", hold=(0.1, 1.0), needs="peers")
def learner(chaos, random):
    """A learner comes, catches up under load and becomes a voter; then another member goes."""
    fresh = chaos.cluster.add(is_learner=True)
    chaos.cluster.promote(fresh)
    chaos.wait_until_served(fresh)
    victim = random.choice(_without(chaos, [fresh]))
    chaos.cluster.remove(victim)
    yield f"{fresh} became a voter, {victim} was removed"


@fault("move-leader", hold=(0.1, 1.0), needs="peers")
def move_leader(chaos, random):
    done = []
    for _ in range(random.randint(1, 4)):
        leader = chaos.leader(random)
        target = random.choice(_without(chaos, [leader]))
        said, _, _ = chaos.cluster.move_leader(target)
        done.append(f"{leader} → {target}{'' if said else ' (refused)'}")
        time.sleep(random.uniform(0, 0.5))
    yield "leadership moved: " + ", ".join(done)


@fault("sidecar-moves", hold=(0.1, 1.0), needs="sidecar", weight=1.5)
def sidecar_moves(chaos, random):
    """Its host goes on without it, or dies and is replaced; another member takes over what is owed."""
    host = chaos.cache.host
    target = random.choice(_without(chaos, [host]))
    if random.random() < 0.3:
        host.kill()
    chaos.cache.move(target)
    for member in (host, target):
        chaos.wait_until_served(member)
    yield f"the sidecar moved from {host} to {target}"


@fault("kill-sidecar", hold=(0.0, 3.0), needs="sidecar")
def kill_sidecar(chaos, random):
    yield from _killing([chaos.cache.host])


# ---- Upkeep ----------------------------------------------------------------------------------------------------------

@fault("compact", hold=(0.1, 0.5))
def compact(chaos, random):
    kept = random.choice((50, 500, 2_000))
    with chaos.client(random.choice(chaos.cluster.running)) as client:
        chaos.load.compact(client, kept, is_physical=random.random() < 0.3)
    yield f"compaction of all but {kept} revisions"


@fault("defragment", hold=(0.1, 0.5))
def defragment(chaos, random):
    member = random.choice(chaos.cluster.running)
    with chaos.client(member) as client:
        client.call("Defragment", rpc.DefragmentRequest(), 20)
    yield f"{member} defragments"


@fault("clock", hold=(2.0, 6.0), needs="clock")
def clock(chaos, random):
    """The wall clock of one member jumps, and stays there."""
    member = random.choice(chaos.cluster.members)
    seconds = random.choice((-3_600, -60, 60, 3_600))
    chaos.equipment.shift_clock(member, seconds)
    if random.random() < 0.5:
        member.kill()
        member.start()
    yield f"the clock of {member} jumps by {seconds} s"


@fault("silent-clients", hold=(2.0, 8.0))
def silent_clients(chaos, random):
    """Connections that say nothing, or a byte and no more, on which no handshake ever ends."""
    place = random.choice(chaos.cluster.members).place
    crowd = []
    for _ in range(SILENT_CLIENTS):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((place.host, place.client_port))
        crowd.append(connection)
    time.sleep(0.5)
    for connection in crowd[::2]:
        with contextlib.suppress(OSError):
            connection.send(random.choice((b"\x16", b"P", b"\0")))
    yield f"{SILENT_CLIENTS} connections to {place.client} say nothing"
    for connection in crowd:
        connection.close()


# ---- Proof -----------------------------------------------------------------------------------------------------------

@fault("sabotage-amnesia", hold=(0.5, 1.0), needs="sabotage")
def sabotage_amnesia(chaos, random):
    """All members forget some seconds that they have acknowledged: no server survives this, and the checks must say so.
    Only when it is asked for by name."""
    members = chaos.cluster.members
    for change in (_keep_copy, _put_back):
        for member in members:
            member.kill()
        for member in members:
            change(member)
            member.start()
        chaos.cluster.wait_served()
        time.sleep(3)
    yield f"{members} have forgotten three seconds"


def _keep_copy(member):
    shutil.copytree(member.folder, f"{member.folder}.copy")


def _put_back(member):
    shutil.rmtree(member.folder)
    shutil.move(f"{member.folder}.copy", member.folder)


def possible(chaos, names=None):
    """The faults that this run can have, by name; or those that are asked for."""
    has_peers = chaos.cluster.count > 1
    able = {
        "rules": chaos.cluster.network.has_rules and has_peers, "peers": has_peers,
        "clock": bool(chaos.equipment.clock_library), "disk": bool(chaos.equipment.disk_library),
        "damage": chaos.profile.has_known_files and has_peers, "tls": bool(chaos.cluster.pki),
        "sidecar": bool(chaos.cache) and has_peers, "sabotage": bool(names), None: True}
    if names:
        unknown = [name for name in names if name not in FAULTS]
        if unknown:
            raise SystemExit(f"unknown faults: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
        missing = [name for name in names if not able[FAULTS[name].needs]]
        if missing:
            raise SystemExit(f"not possible here: {', '.join(missing)}")
        return {name: FAULTS[name] for name in names}
    return {name: fault for name, fault in FAULTS.items() if able[fault.needs]}
