"""A mixed load on a store: puts, deletes and transactions with and without leases, short leases that are renewed, left
to expire and revoked at awkward moments, lists, compactions and, if wanted, large values that fill segments.

Everything that is sent and answered goes to the ledger and to the lease oracle. Threads survive the death of the server:
they go on asking, also while it recovers.
"""

import contextlib
import heapq
import itertools
import random
import threading
import time

from etcd_client import EtcdClient, rpc
from ledger import digest, value_for

LEASE_NOT_FOUND = "etcdserver: requested lease not found"
BULK_BYTES = 512 * 1024
KEPT_REVISIONS = 300
RETRY_SECONDS = 0.02


class MixedLoad:
    def __init__(self, port, ledger, oracle, seed, ttl_seconds=(1, 5)):
        self.port, self.ledger, self.oracle = port, ledger, oracle
        self.ttl_seconds = ttl_seconds
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.active = {}                # leases that were granted and not seen dead: TTL
        self.lasting = []               # leases that outlive the test; nobody renews or revokes them
        self.agenda = []                # heap of (when, serial, what, lease)
        self.bulk = threading.Event()   # while set, large values are written
        self.counts = {}
        self.failures = []
        self._serial = itertools.count(1)
        self._open = threading.Event()
        self._stopping = False
        self._idle = 0
        self._threads = []

    # Running

    def start(self):
        self._open.set()
        for work in (self._write, self._write, self._grant, self._keep, self._keep, self._tidy, self._fill):
            thread = threading.Thread(
                target=self._run, args=(work, random.Random(self.random.random()), len(self._threads)), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def pause(self):
        """Returns when no request is under way."""
        self._open.clear()
        end = time.monotonic() + 70
        while self._idle < len(self._threads):
            if time.monotonic() > end:
                raise AssertionError("a request of the load was not answered within 70 s")
            time.sleep(0.002)

    def resume(self):
        self._open.set()

    def stop(self):
        if not self._stopping:
            self._stopping = True
            self._open.set()
            for thread in self._threads:
                thread.join(70)

    def _run(self, work, random, index):
        client = EtcdClient(self.port)
        with contextlib.closing(client):
            while not self._stopping:
                if not self._open.is_set():
                    with self.lock:
                        self._idle += 1
                    self._open.wait()
                    with self.lock:
                        self._idle -= 1
                    continue
                try:
                    work(client, random, index)
                except Exception as problem:
                    self.failures.append(f"{work.__name__}: {type(problem).__name__} {problem}")
                    time.sleep(0.1)

    # Requests

    def _count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def _send(self, client, name, request, operation=None):
        call = client.call(name, request)
        if call.answer is not None:
            self._count(name)
            self.oracle.acknowledged(call.end)
            if operation:
                self.ledger.finish(
                    operation, "acknowledged", call.answer.header.revision, getattr(call.answer, "deleted", None))
        elif call.refusal is not None:
            self._count(f"{name} refused")
            if operation:
                self.ledger.finish(operation, "refused")
            if LEASE_NOT_FOUND not in call.refusal and "compacted" not in call.refusal:
                self.failures.append(f"{name}: {call.error}")
        else:
            self._count("unanswered")
            if operation:
                self.ledger.finish(operation, "unknown")
            if "DEADLINE" in call.error:
                self.failures.append(f"{name}: {call.error}")
            time.sleep(RETRY_SECONDS)
        return call

    def put(self, client, key, lease=0, size=0):
        operation = self.ledger.begin("put", lambda number: [("put", key, digest(value_for(number, size)), lease)])
        call = self._send(
            client, "Put", rpc.PutRequest(key=key, value=value_for(operation.number, size), lease=lease), operation)
        self._judge(call, [lease] if lease else [], "a put")
        return call

    def delete(self, client, key, end=b""):
        operation = self.ledger.begin("delete", lambda number: [("delete", key, end)])
        return self._send(client, "DeleteRange", rpc.DeleteRangeRequest(key=key, range_end=end), operation)

    def transact(self, client, puts, deletes=()):
        """`puts`: (key, lease) pairs. The transaction's comparison always holds."""
        operation = self.ledger.begin(
            "txn", lambda number: [("put", key, value_for(number), lease) for key, lease in puts]
            + [("delete", key, b"") for key in deletes])
        value = value_for(operation.number)
        request = rpc.TxnRequest(
            compare=[rpc.Compare(result=rpc.Compare.GREATER, target=rpc.Compare.VERSION, key=puts[0][0], version=-1)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))
                     for key, lease in puts]
            + [rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key)) for key in deletes])
        call = self._send(client, "Txn", request, operation)
        if call.answer is not None and not call.answer.succeeded:
            self.failures.append(f"txn {operation.number} took the other branch")
        self._judge(call, {lease for _, lease in puts if lease}, "a transaction")
        return call

    def _judge(self, call, leases, what):
        for lease in leases:
            if call.answer is not None:
                self.oracle.alive(lease, call.start, call.end, f"{what} found it")
            elif call.refusal is not None and len(leases) == 1:
                self.oracle.dead(lease, call.end, f"{what} did not find it")

    def keep_alive(self, client, lease):
        call = self._send(client, "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=lease))
        if call.answer is not None:
            self.oracle.keepalive(lease, call.answer.TTL, call.start, call.end)
            return call.answer.TTL > 0
        self.oracle.keepalive(lease, None, call.start, None, call.end)
        return None

    def revoke(self, client, lease):
        operation = self.ledger.begin("revoke", lease=lease)
        call = self._send(client, "LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease), operation)
        self.oracle.revoke(
            lease, call.start, None if call.is_unknown else call.end, found=call.refusal is None)
        return call

    def time_to_live(self, client, lease):
        call = self._send(client, "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease))
        if call.answer is not None:
            self.oracle.remaining(lease, call.answer.TTL, call.start, call.end)

    def list_leases(self, client):
        call = self._send(client, "LeaseLeases", rpc.LeaseLeasesRequest())
        if call.answer is not None:
            self.oracle.listed([status.ID for status in call.answer.leases], call.start, call.end)

    # The threads' work, one turn each

    def _write(self, client, random, index):
        """Its own keys, so that what it knows of them is true."""
        keys = [b"w%d/%03d" % (index, random.randrange(60)) for _ in range(random.randint(1, 6))]
        kind = random.random()
        if kind < 0.5:
            self.put(client, keys[0], size=random.choice((0, 0, 0, 100, 3_000)))
        elif kind < 0.65:
            self.delete(client, keys[0])
        elif kind < 0.7:
            self.delete(client, b"w%d/%02d" % (index, random.randrange(6)), b"w%d/%02d\xff" % (index, random.randrange(6)))
        else:
            keys = sorted(set(keys))
            lease = self._some_lease(random) if random.random() < 0.3 else 0
            self.transact(client, [(key, lease) for key in keys[: len(keys) - len(keys) // 3]],
                          keys[len(keys) - len(keys) // 3:])
        time.sleep(random.uniform(0, 0.006))

    def _some_lease(self, random):
        with self.lock:
            return random.choice(list(self.active)) if self.active else 0

    def _grant(self, client, random, index):
        lease = 0x1000_0000 + next(self._serial)
        lasts = len(self.lasting) < 24 and random.random() < 0.2
        ttl = random.randint(120, 600) if lasts else random.randint(*self.ttl_seconds)
        call = self._send(client, "LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl, ID=lease))
        if call.answer is None:
            self.oracle.grant(lease, ttl, call.start, None, call.end)
            return
        if call.answer.TTL != ttl or call.answer.ID != lease:
            self.failures.append(f"a grant of {ttl} s under {lease} was answered {call.answer.TTL}, {call.answer.ID}")
        self.oracle.grant(lease, ttl, call.start, call.end)
        keys = [b"l/%x/%d" % (lease, number) for number in range(random.randint(0, 4))]
        if len(keys) > 1 and random.random() < 0.5:
            self.transact(client, [(key, lease) for key in keys])
        else:
            for key in keys:
                self.put(client, key, lease)
        if lasts:
            with self.lock:
                self.lasting.append(lease)
        else:
            with self.lock:
                self.active[lease] = ttl
            self._plan(random, lease, ttl, call.start)
        time.sleep(random.uniform(0, 0.05))

    def _plan(self, random, lease, ttl, start):
        """What will happen to a lease after its grant or a renewal: often something close to its end."""
        kind = random.random()
        if kind < 0.3:
            self._note(start + ttl + random.gauss(0, 0.01), "keepalive", lease)     # the race
        elif kind < 0.6:
            self._note(start + ttl * random.uniform(0.1, 0.95), "keepalive", lease)
        elif kind < 0.7:
            self._note(start + ttl * random.uniform(0, 1.01), "revoke", lease)
        elif kind < 0.8:
            self._note(start + ttl * random.uniform(0.5, 1.05), "time to live", lease)
        else:
            self._note(start + ttl + random.uniform(0.0, 1.0), "farewell", lease)   # it expires

    def _note(self, when, what, lease):
        with self.lock:
            heapq.heappush(self.agenda, (when, next(self._serial), what, lease))

    def _keep(self, client, random, index):
        now = time.monotonic()
        with self.lock:
            due = heapq.heappop(self.agenda) if self.agenda and self.agenda[0][0] <= now else None
        if due is None:
            time.sleep(0.002)
            return
        _, _, what, lease = due
        ttl = self.active.get(lease)
        if what == "keepalive":
            start = time.monotonic()
            kept = self.keep_alive(client, lease)
            if kept and ttl:
                self._plan(random, lease, ttl, start)
            elif kept is None:
                self._note(now + 0.05, "keepalive", lease)
            else:
                self._forget(lease)
        elif what == "revoke":
            self.revoke(client, lease)
            self._forget(lease)
            self.keep_alive(client, lease)
        elif what == "time to live":
            self.time_to_live(client, lease)
            self._note(now + random.uniform(0, 2), "farewell", lease)
        else:
            self._forget(lease)
            self.keep_alive(client, lease) if random.random() < 0.3 else self.time_to_live(client, lease)

    def _forget(self, lease):
        with self.lock:
            self.active.pop(lease, None)

    def _tidy(self, client, random, index):
        self.list_leases(client)
        for lease in random.sample(self.lasting, min(4, len(self.lasting))):
            self.time_to_live(client, lease)
        target = self.ledger.verified - KEPT_REVISIONS
        if target > self.ledger.compacted and random.random() < 0.3:
            self.ledger.compacted_at_most = max(self.ledger.compacted_at_most, target)
            call = self._send(client, "Compact", rpc.CompactionRequest(
                revision=target, physical=random.random() < 0.3))
            if call.answer is not None:
                self.ledger.compacted = max(self.ledger.compacted, target)
                self.ledger.compactions.append((call.end, target))
        time.sleep(random.uniform(0.1, 0.5))

    def _fill(self, client, random, index):
        if self.bulk.is_set():
            self.put(client, b"bulk/%d" % random.randrange(3), size=BULK_BYTES)
        else:
            time.sleep(0.01)
