"""The processes of a cluster: started with etcd's flags, killed, stopped, replaced; and who leads them."""

import contextlib
import os
import shutil
import signal
import threading
import time

import grpc

import shared
import etcd_client
from certificates import Certificates
from etcd_client import EtcdClient, rpc
from harness import spawn, tail, wait_until

ADMIN_SECONDS = 5.0


def _except_closed(problem, otherwise=threading.excepthook):
    """A channel's poller may look once more at a channel that has just been closed; grpc says so on the terminal."""
    if "Cannot monitor channel state" not in str(problem.exc_value):
        otherwise(problem)


threading.excepthook = _except_closed


class MemberClient(EtcdClient):
    """A connection to one member. `options` come before etcd_client's."""

    def __init__(self, cluster, member, seconds=2.0, options=()):
        self.member = member
        self.seconds = seconds
        self._callables = {}
        options = [*options, *etcd_client.OPTIONS]
        target = member.place.client
        if cluster.pki:
            self.channel = grpc.secure_channel(target, cluster.pki.credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(target, options=options)
        # Someone must poll while no call is under way, or a connection that is being made is never noticed.
        self.channel.subscribe(lambda state: None, try_to_connect=True)

    def close(self):
        """Does not wait: the poller's last look may take its time."""
        threading.Thread(target=self.channel.close, daemon=True).start()


class Member:
    """One member through all its restarts. Its slot is its place in the network; its ID is the cluster's name for
    it."""

    def __init__(self, cluster, slot, name):
        self.cluster, self.slot, self.name = cluster, slot, name
        self.place = cluster.network.place(slot)
        self.folder = cluster.space / name
        self.log = cluster.space / f"{name}.log"
        self.process = None
        self.is_stopped = self.is_removed = False
        self.id = None
        self.environment = {}
        self.prefix = []

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def peer_url(self):
        return f"{self.cluster.scheme}://{self.place.advertised}"

    def flags(self, initial, state):
        cluster, client = self.cluster, f"{self.cluster.scheme}://{self.place.client}"
        flags = [
            "--name", self.name, "--data-dir", self.folder,
            "--listen-peer-urls", f"{cluster.scheme}://{self.place.peer}",
            "--initial-advertise-peer-urls", self.peer_url,
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--initial-cluster", ",".join(f"{name}={url}" for name, url in initial),
            "--initial-cluster-token", cluster.token, "--initial-cluster-state", state,
            "--heartbeat-interval", cluster.heartbeat_ms, "--election-timeout", cluster.election_ms]
        if cluster.pki:
            flags += cluster.pki.flags(self.slot)
        return flags

    def create(self, initial, state):
        """The first start; the same flags serve all later ones, beside the sidecar's, which moves."""
        self.command = [
            *self.cluster.profile.command, *self.flags(initial, state), *self.cluster.profile.extra,
            *self.cluster.extra]
        return self.start()

    def start(self):
        command = [*self.place.prefix, *self.prefix, *self.command]
        if self.cluster.sidecar:
            command += self.cluster.sidecar.flags(self)
        self.process = spawn(command, self.log, env={**os.environ, **self.environment})
        self.is_stopped = False
        self.cluster.network.started(self.slot, self.process.pid)
        return self

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.is_stopped = False

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.is_stopped = True

    def resume(self):
        if self.is_stopped and self.is_running:
            self.process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def terminate(self, seconds=30):
        """As an operator stops it."""
        self.process.terminate()
        self.process.wait(seconds)

    def __repr__(self):
        return self.name


class Cluster:
    """Members by slot. `extra`: flags beside the profile's."""

    def __init__(self, space, profile, network_kind, count, tls=False, heartbeat_ms=100, election_ms=500, extra=()):
        self.space, self.profile, self.extra = space, profile, list(extra)
        self.heartbeat_ms, self.election_ms = heartbeat_ms, election_ms
        self.count = count
        self.token = f"chaos-{os.getpid()}"
        # One place more than members, so that one can be added before another goes.
        self.slots = list(range(1, count + 2))
        self.network = space.own(network_kind(space, self.slots))
        self.scheme = "https" if tls else "http"
        self.pki = Certificates(space, {slot: self.network.place(slot).hosts for slot in self.slots}) if tls else None
        self.sidecar = None     # a CacheLoad: which member starts with the sidecar
        self.lock = threading.Lock()
        self.by_slot = {}
        self._created = 0
        self._admins = {}
        self.on_new_member = lambda member: None

    @property
    def members(self):
        with self.lock:
            return list(self.by_slot.values())

    @property
    def running(self):
        return [member for member in self.members if member.is_running and not member.is_stopped]

    @property
    def election_seconds(self):
        return self.election_ms / 1e3

    def new_member(self, slot):
        self._created += 1
        member = Member(self, slot, f"m{self._created}")
        self.on_new_member(member)
        return member

    def start(self, seconds=30):
        made = [self.new_member(slot) for slot in self.slots[:self.count]]
        initial = [(member.name, member.peer_url) for member in made]
        for member in made:
            member.create(initial, "new")
        with self.lock:
            self.by_slot = {member.slot: member for member in made}
        self.wait_served(seconds)
        return self

    # Asking

    def admin(self, member):
        """This thread's connection for questions of the cluster's own."""
        # Not one that was made with certificates of before.
        key = (member.name, threading.get_ident(), self.pki and self.pki.credentials)
        if key not in self._admins:
            self._admins[key] = MemberClient(self, member, ADMIN_SECONDS)
        return self._admins[key]

    def status(self, member, seconds=0.5):
        if not member.is_running or member.is_stopped:
            return None
        return self.admin(member).call("Status", rpc.StatusRequest(), seconds).answer

    def leader(self):
        """The member that leads the newest term that anyone knows of; None when there is none to be seen."""
        newest = None
        for member in self.members:
            status = self.status(member)
            if status is None:
                continue
            member.id = status.header.member_id
            if status.leader and status.leader == member.id and (newest is None or status.raftTerm > newest[0]):
                newest = (status.raftTerm, member)
        return newest and newest[1]

    def wait_leader(self, seconds=20):
        return wait_until(self.leader, "a leader", seconds, 0.05)

    def serves(self, member):
        call = self.admin(member).call(
            "Range", rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=1, keys_only=True), 1.0)
        if call.answer is not None:
            member.id = call.answer.header.member_id
        return call.answer is not None

    def wait_served(self, seconds=30):
        """Every member answers a linearizable read."""
        for member in self.members:
            def is_served():
                if not member.is_running and not (self.sidecar and self.sidecar.restarts(member)):
                    raise AssertionError(f"{member} ended with {member.process.returncode}:\n{tail(member.log)}")
                return self.serves(member)
            wait_until(is_served, f"an answer of {member} (its log: {member.log})", seconds, 0.05)

    def ask(self, name, request, seconds=30, member=None):
        """An answer from whoever gives one. Only for what may happen twice, or is looked up before it is tried
        again."""
        end = time.monotonic() + seconds
        while True:
            error = "no member runs"
            for candidate in [member] if member else self.running:
                call = self.admin(candidate).call(name, request, ADMIN_SECONDS)
                if call.answer is not None:
                    return call.answer
                error = f"{candidate}: {call.error}"
            if time.monotonic() > end:
                raise AssertionError(f"{name} was not answered within {seconds} s: {error}")
            time.sleep(0.1)

    def listed(self, member=None):
        return {entry.ID: entry for entry in self.ask("MemberList", rpc.MemberListRequest(), member=member).members}

    # Changing

    def remove(self, member, seconds=30):
        """Takes a member out of the cluster and away, with all its data."""
        asked = [other for other in self.running if other is not member]
        end = time.monotonic() + seconds
        while True:
            for other in asked:
                call = self.admin(other).call("MemberRemove", rpc.MemberRemoveRequest(ID=member.id), ADMIN_SECONDS)
                if call.answer is not None or (call.refusal and "not found" in call.refusal):
                    break
            else:
                if time.monotonic() > end:
                    raise AssertionError(f"{member} could not be removed within {seconds} s: {call.error}")
                time.sleep(0.2)
                continue
            break
        with self.lock:
            del self.by_slot[member.slot]
        member.kill()
        member.is_removed = True
        shutil.rmtree(member.folder, ignore_errors=True)

    def add(self, is_learner=False, seconds=30):
        """A fresh member at the free place, started."""
        slot = next(slot for slot in self.slots if slot not in self.by_slot)
        member = self.new_member(slot)
        member.id = self._add_to_list(member, is_learner, seconds)
        initial = [
            (entry.name if entry.ID != member.id else member.name, url)
            for entry in self.listed().values() for url in entry.peerURLs]
        member.create(initial, "existing")
        with self.lock:
            self.by_slot[slot] = member
        return member

    def _add_to_list(self, member, is_learner, seconds):
        end = time.monotonic() + seconds
        while True:
            # What was not answered may have happened.
            for entry in self.listed().values():
                if member.peer_url in entry.peerURLs:
                    return entry.ID
            call = None
            for other in self.running:
                call = self.admin(other).call(
                    "MemberAdd", rpc.MemberAddRequest(peerURLs=[member.peer_url], isLearner=is_learner), ADMIN_SECONDS)
                if call.answer is not None:
                    return call.answer.member.ID
            if time.monotonic() > end:
                raise AssertionError(f"{member} could not be added within {seconds} s: {call and call.error}")
            time.sleep(0.2)

    def promote(self, member, seconds=60):
        """A learner becomes a voter once it has caught up."""
        end = time.monotonic() + seconds
        while True:
            entry = self.listed().get(member.id)
            if entry is not None and not entry.isLearner:
                return
            error = None
            for other in self.running:
                if other is not member:
                    error = self.admin(other).call(
                        "MemberPromote", rpc.MemberPromoteRequest(ID=member.id), ADMIN_SECONDS).error
                    if error is None:
                        return
            if time.monotonic() > end:
                raise AssertionError(f"{member} could not be promoted within {seconds} s: {error}")
            time.sleep(0.2)

    def move_leader(self, target=None):
        """Asks the leader to hand over; (whether it says so, from, to)."""
        leader = self.leader()
        others = [member for member in self.running if member is not leader]
        if leader is None or not others:
            return False, leader, None
        target = target or others[0]
        if target.id is None:
            self.serves(target)
        call = self.admin(leader).call("MoveLeader", rpc.MoveLeaderRequest(targetID=target.id or 0), ADMIN_SECONDS)
        return call.answer is not None, leader, target

    def heal(self):
        """No rule, everybody runs."""
        if self.network.has_rules:
            self.network.heal()
        for member in self.members:
            if not member.is_running:
                member.start()
            member.resume()

    def stop(self):
        for member in self.members:
            with contextlib.suppress(ProcessLookupError):
                member.kill()
        for client in self._admins.values():
            client.close()


class LeaderMonitor(threading.Thread):
    """Asks all members again and again who leads, and remembers each new term with a leader."""

    def __init__(self, cluster, interval_seconds=0.1):
        super().__init__(daemon=True)
        self.cluster, self.interval = cluster, interval_seconds
        self.reigns = []        # (seen at, term, member ID)
        self.violations = []
        self._leaders = {}      # term → who claims to lead it
        self._claims = {}       # member → its last claim
        self._stopping = threading.Event()

    def run(self):
        while not self._stopping.wait(self.interval):
            for member in self.cluster.members:
                status = self.cluster.status(member, 0.3)
                claim = status and (status.raftTerm, status.leader)
                # Twice in a row: etcd reads term and leader at two moments.
                if status and status.leader == status.header.member_id and self._claims.get(member.name) == claim:
                    self._note(*claim)
                self._claims[member.name] = claim

    def _note(self, term, leader):
        known = self._leaders.setdefault(term, leader)
        if known != leader:
            self.violations.append(f"term {term} has two leaders: {known:x} and {leader:x}")
        if not self.reigns or term > self.reigns[-1][1]:
            self.reigns.append((time.monotonic(), term, leader))

    @property
    def changes(self):
        return max(0, len(self.reigns) - 1)

    def stop(self):
        self._stopping.set()
        self.join(10)
