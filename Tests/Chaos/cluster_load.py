"""The mixed load of the end-to-end tests on a cluster, with shared registers beside it.

Each thread holds one connection to a member of its choice and looks for another when it gets no answer. Whatever was
answered goes to the ledger, the lease oracle and the list of readings; what was not is of unknown fate from then on.
"""

import contextlib
import math
import random
import threading
import time

import shared
from etcd_client import rpc
from lease_oracle import LeaseOracle
from ledger import Ledger, PUT, digest, operation_number, value_for
from linearizable import ANY, NONE, RegisterOperation
from members import MemberClient
from mixed_load import LEASE_NOT_FOUND, MixedLoad

CALL_SECONDS = 1.5
RETRY_SECONDS = 0.03
# Registers are left behind for fresh ones, so that the search for an order stays short.
GENERATION_SECONDS = 15.0
REGISTERS = 5
REGISTER_THREADS = 6
# How long a request may live on in a cluster after its client has gone, once nothing is stopped or cut off.
AFTERLIFE_SECONDS = 5.0
PAUSE_BETWEEN_LISTS_SECONDS = 2.0
LEASES_PER_SECOND = 8.0
KEPT_REVISIONS = 4_000
# Answers that show that the cluster takes writes. A serializable read shows only that a member runs.
COMMITTED = {"Put", "DeleteRange", "Txn", "LeaseGrant"}


class Reading:
    """A read that was answered: by whom, of what, as of which revision, and what it found."""

    __slots__ = ("member", "start", "end", "key", "range_end", "asked_revision", "revision", "found", "is_serializable")

    def __init__(self, member, call, request):
        self.member, self.start, self.end = member.name, call.start, call.end
        self.key, self.range_end, self.asked_revision = request.key, request.range_end, request.revision
        self.is_serializable = request.serializable
        self.revision = call.answer.header.revision
        self.found = {
            pair.key: (digest(pair.value), pair.lease, pair.create_revision, pair.mod_revision, pair.version)
            for pair in call.answer.kvs}


# What a member with a sidecar keeps in the store for itself; no client's operation explains it.
SIDECAR_PREFIX = b"/leasehold/"


class ClusterLedger(Ledger):
    """Finds an unanswered delete without looking at every operation there ever was. What the sidecar writes is replayed
    and compared like everything else, and needs no explanation; only, it never comes in one revision with others'."""

    def __init__(self, oracle):
        super().__init__(oracle)
        self.lost_deletes = []
        self.suspects = {}          # revision of a delete that nobody was told of → the lost ones that it may have been

    def finish(self, operation, fate, revision=None, deleted=None):
        super().finish(operation, fate, revision, deleted)
        if fate == "unknown" and operation.kind == "delete":
            self.lost_deletes.append(operation)

    def _explain(self, revision, found):
        own = [key.startswith(SIDECAR_PREFIX) for _, key, _ in found]
        if any(own) and revision not in self.acknowledged:
            if not all(own):
                self.violations.append(f"revision {revision} is the sidecar's and somebody's: {found}")
            return
        super()._explain(revision, found)

    def _unacknowledged(self, found, revision):
        if any(kind == PUT for kind, _, _ in found):
            return super()._unacknowledged(found, revision)
        self.suspects[revision] = [
            operation for operation in self.lost_deletes if self.state.effect(operation, revision) == found]
        return self._assign(revision, set())

    def _assign(self, revision, asked):
        """Finds a lost delete for a revision. Several may look the same there, and one that was taken for an earlier
        revision may be needed for this one: then another takes its place (an augmenting path of the matching)."""
        for operation in self.suspects[revision]:
            if operation.number in asked:
                continue
            asked.add(operation.number)
            if operation.revision is None or self._assign(operation.revision, asked):
                operation.revision = revision
                return operation
        return None


class PatientOracle(LeaseOracle):
    """In a cluster a request without an answer may take effect when a cut heals or a stopped member goes on. How long
    that can be is known afterwards: until then such renewals wait."""

    def __init__(self, **options):
        super().__init__(**options)
        self._waiting = []

    def grant(self, lease, ttl, start, end, latest=math.inf):
        if end is None:
            self._waiting.append((super().grant, lease, ttl, start, latest))
        else:
            super().grant(lease, ttl, start, end, latest)

    def keepalive(self, lease, ttl, start, end, latest=math.inf):
        if end is None:
            self._waiting.append((super().keepalive, lease, ttl, start, latest))
        else:
            super().keepalive(lease, ttl, start, end, latest)

    def settle(self, troubles):
        """`troubles`: (start, end) of all faults."""
        for tell, lease, ttl, start, latest in self._waiting:
            reach = max((end for begin, end in troubles if begin <= latest + AFTERLIFE_SECONDS and end >= start),
                        default=latest)
            tell(lease, ttl, start, None, max(reach, latest) + AFTERLIFE_SECONDS)
        self._waiting = []


class _Own(threading.local):
    """A thread's own: how many calls of its present turn were not answered."""

    failures = 0


class ClusterLoad(MixedLoad):
    """`pace`: seconds that each thread rests between two turns, on the average."""

    def __init__(self, cluster, ledger, oracle, seed, pace=0.03):
        super().__init__(None, ledger, oracle, seed)
        self.cluster, self.pace = cluster, pace
        self.registers = {}         # key → [RegisterOperation]
        self.readings = []
        self.writes = []            # (start, end, revision, what) of acknowledged writes
        self.acknowledgements = []  # moments, one at most for each 10 ms
        self.seen_by_all = lambda: self.ledger.verified
        self._begun = time.monotonic()
        self._own = _Own()

    # Running

    def start(self):
        self._open.set()
        works = [self._write, self._write, self._grant, self._keep, self._keep, self._tidy]
        for work in works + [self._register] * REGISTER_THREADS:
            thread = threading.Thread(
                target=self._run, args=(work, random.Random(self.random.random()), len(self._threads)), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def _run(self, work, random, index):
        client = None
        while not self._stopping:
            if not self._open.is_set():
                self._wait_for_opening()
                continue
            if client is None or client.member not in self.cluster.members:
                client = self._connect(client, random)
            self._own.failures = 0
            try:
                work(client, random, index)
            except Exception as problem:
                self.failures.append(f"{work.__name__}: {type(problem).__name__} {problem}")
                time.sleep(0.1)
            # Whom nobody answers goes elsewhere, sooner or later; others move now and then.
            if random.random() < (0.4 if self._own.failures else 0.004):
                client = self._connect(client, random)
            time.sleep(random.expovariate(1 / self.pace))
        if client:
            client.close()

    def _wait_for_opening(self):
        with self.lock:
            self._idle += 1
        self._open.wait()
        with self.lock:
            self._idle -= 1

    def _connect(self, old, random):
        if old:
            old.close()
        return MemberClient(self.cluster, random.choice(self.cluster.members), CALL_SECONDS)

    # Requests

    def _send(self, client, name, request, operation=None):
        # A client that does not wait: cut off after it has sent.
        seconds = random.uniform(0.0005, 0.004) if random.random() < 0.004 else None
        call = client.call(name, request, seconds)
        if call.refusal is not None and LEASE_NOT_FOUND not in call.refusal and "compacted" not in call.refusal:
            self._refused_for_now(name, request, call)
        if call.answer is not None:
            self._count(name)
            if name in COMMITTED:
                self._acknowledged(call.end)
            if operation:
                revision = call.answer.header.revision
                self.ledger.finish(operation, "acknowledged", revision, getattr(call.answer, "deleted", None))
                self._note_write(client, call, operation.kind, getattr(call.answer, "deleted", 1))
        elif call.refusal is not None:
            self._count(f"{name} refused")
            if operation:
                self.ledger.finish(operation, "refused")
        else:
            self._count("unanswered")
            self._own.failures += 1
            if operation:
                self.ledger.finish(operation, "unknown")
            time.sleep(RETRY_SECONDS)
        return call

    def _refused_for_now(self, name, request, call):
        """Too many requests, and the like: not answered, as far as leases are concerned."""
        self._count(f"{name}: {call.refusal}"[:60])
        # A member that lags may not know the revision yet that a serializable read asks for.
        is_behind = name == "Range" and request.serializable and "future revision" in call.refusal
        # A learner answers only serializable reads until it is a voter.
        is_learner = "not supported for learner" in call.refusal
        if "too many requests" not in call.refusal and not is_behind and not is_learner:
            self.failures.append(f"{name}: {call.error}")
        call.refusal = None

    def _acknowledged(self, at):
        self.oracle.acknowledged(at)
        if not self.acknowledgements or at > self.acknowledgements[-1] + 0.01:
            self.acknowledgements.append(at)

    def _note_write(self, client, call, kind, changed):
        """Of KV writes only: a lease's answer carries the member's revision, which may be any."""
        if kind in ("put", "txn", "delete"):
            self.writes.append((
                call.start, call.end, call.answer.header.revision, bool(changed), f"{kind} by {client.member}"))

    # The registers

    def _register(self, client, random, index):
        generation = int((time.monotonic() - self._begun) / GENERATION_SECONDS)
        keys = [b"r/%06d/%d" % (generation, number) for number in range(REGISTERS)]
        key = random.choice(keys)
        kind = random.random()
        if kind < 0.35:
            self._read(client, rpc.RangeRequest(key=key))
        elif kind < 0.45:
            self._read(client, rpc.RangeRequest(key=key, serializable=True))
        elif kind < 0.5:
            self._read(client, rpc.RangeRequest(
                key=b"r/%06d/" % generation, range_end=b"r/%06d0" % generation, serializable=random.random() < 0.3))
        elif kind < 0.53:
            back = max(self.ledger.compacted + 1, self.ledger.verified - random.randrange(200), 1)
            self._read(client, rpc.RangeRequest(
                key=b"r/%06d" % max(0, generation - 1), range_end=b"r0", revision=back,
                serializable=random.random() < 0.3))
        elif kind < 0.68:
            self._exchange(client, key)
        elif kind < 0.75:
            self._remove(client, key)
        elif kind < 0.92:
            self._compare(client, random, key)
        else:
            self._exchange_many(client, sorted(random.sample(keys, random.randint(2, 3))))

    def _done(self, key, kind, client, call, **details):
        end = call.end if call.answer is not None else None
        operation = RegisterOperation(
            kind, call.start, end, note=f"by {client.member}" + (f", {call.error}" if call.error else ""), **details)
        with self.lock:
            self.registers.setdefault(key, []).append(operation)

    def _read(self, client, request):
        call = self._send(client, "Range", request)
        if call.answer is None:
            return
        self.readings.append(Reading(client.member, call, request))
        if not request.serializable and not request.revision and not request.range_end:
            self._done(request.key, "read", client, call, observed=value_in(call.answer.kvs))

    def _exchange(self, client, key):
        operation = self.ledger.begin("put", lambda number: [("put", key, value_for(number), 0)])
        call = self._send(
            client, "Put", rpc.PutRequest(key=key, value=value_for(operation.number), prev_kv=True), operation)
        if call.refusal is None:
            seen = ANY
            if call.answer is not None:
                seen = value_in([call.answer.prev_kv] if call.answer.HasField("prev_kv") else [])
            self._done(key, "write", client, call, value=operation.number, observed=seen)

    def _remove(self, client, key):
        operation = self.ledger.begin("delete", lambda number: [("delete", key, b"")])
        call = self._send(client, "DeleteRange", rpc.DeleteRangeRequest(key=key, prev_kv=True), operation)
        if call.answer is not None:
            self._done(key, "delete", client, call, observed=value_in(call.answer.prev_kvs),
                       succeeded=call.answer.deleted == 1)
        elif call.is_unknown:
            self._done(key, "delete", client, call)

    def _compare(self, client, random, key):
        """Reads, then writes if nothing has come between, as far as the value tells."""
        before = self._send(client, "Range", rpc.RangeRequest(key=key, serializable=random.random() < 0.5))
        if before.answer is None:
            return
        expected = value_in(before.answer.kvs)
        condition = rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=key, create_revision=0)
        if expected is not NONE:
            condition = rpc.Compare(
                result=rpc.Compare.EQUAL, target=rpc.Compare.VALUE, key=key, value=before.answer.kvs[0].value)
        operation = self.ledger.begin("txn", lambda number: [("put", key, value_for(number), 0)])
        look = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        call = self._send(client, "Txn", rpc.TxnRequest(
            compare=[condition], failure=[look], success=[look, rpc.RequestOp(
                request_put=rpc.PutRequest(key=key, value=value_for(operation.number)))]))
        if call.answer is None:
            self.ledger.finish(operation, "unknown" if call.is_unknown else "refused")
            if call.is_unknown:
                self._done(key, "compare", client, call, expected=expected, value=operation.number)
            return
        won = call.answer.succeeded
        self.ledger.finish(operation, "acknowledged" if won else "refused", call.answer.header.revision)
        self._note_write(client, call, "txn", won)
        self._done(key, "compare", client, call, expected=expected, value=operation.number, succeeded=won,
                   observed=value_in(call.answer.responses[0].response_range.kvs))

    def _exchange_many(self, client, keys):
        """Reads and writes several registers at one revision. Each of them sees an exchange."""
        operation = self.ledger.begin("txn", lambda number: [("put", key, value_for(number), 0) for key in keys])
        parts = []
        for key in keys:
            parts.append(rpc.RequestOp(request_range=rpc.RangeRequest(key=key)))
            parts.append(rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value_for(operation.number))))
        call = self._send(client, "Txn", rpc.TxnRequest(success=parts), operation)
        if call.refusal is not None:
            return
        for place, key in enumerate(keys):
            seen = ANY
            if call.answer is not None:
                seen = value_in(call.answer.responses[2 * place].response_range.kvs)
            self._done(key, "write", client, call, value=operation.number, observed=seen)

    # What the single node's load does too often or not at all

    def _grant(self, client, random, index):
        super()._grant(client, random, index)
        time.sleep(random.expovariate(LEASES_PER_SECOND))

    def time_to_live(self, client, lease):
        call = self._send(client, "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease))
        if call.answer is not None:
            self.oracle.remaining(lease, call.answer.TTL, call.start, call.end)
            if call.answer.TTL < 0:
                with self.lock, contextlib.suppress(ValueError):
                    self.lasting.remove(lease)

    def _tidy(self, client, random, index):
        self.list_leases(client)
        for lease in random.sample(self.lasting, min(4, len(self.lasting))):
            self.time_to_live(client, lease)
        time.sleep(PAUSE_BETWEEN_LISTS_SECONDS * random.uniform(0.5, 1.5))

    def compact(self, client, kept=KEPT_REVISIONS, is_physical=False):
        """Of what all observers have seen, all but the newest."""
        target = self.seen_by_all() - kept
        if target <= self.ledger.compacted:
            return
        self.ledger.compacted_at_most = max(self.ledger.compacted_at_most, target)
        call = self._send(client, "Compact", rpc.CompactionRequest(revision=target, physical=is_physical))
        if call.answer is not None:
            self.ledger.compacted = max(self.ledger.compacted, target)

    @property
    def answered(self):
        return sum(count for name, count in self.counts.items() if name != "unanswered")


def value_in(pairs):
    return operation_number(pairs[0].value) if pairs else NONE
