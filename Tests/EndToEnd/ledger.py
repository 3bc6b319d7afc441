"""The ledger: every write of a load with its fate, every event of the store, and whether the two explain each other.

History is replayed revision by revision from the first. Each revision must be the whole effect of exactly one operation:
an acknowledged one at the revision of its answer, one whose fate is unknown (all of it, or nothing), or the end of a
lease, which takes all keys that are attached at that moment and no other. Acknowledged operations that are missing,
events that differ from what was written (value, lease, create revision, version), torn transactions, gaps, history that
reads differently the second time and a state that is not the replayed one are violations.
"""

import threading
import time
import zlib

import grpc

from etcd_client import rpc

PUT, DELETE = 0, 1
# Revisions around another one that are looked at to learn its moment.
NEIGHBOURS = 40


def digest(value):
    """What is kept of a value: all of a short one."""
    return value if len(value) <= 64 else (value[:24], len(value), zlib.crc32(value))


def value_for(number, size=0):
    """A value that names its operation; filled up with zeros."""
    return b"%d." % number + bytes(max(0, size - 16))


def operation_number(value):
    text = value if isinstance(value, bytes) else value[0]
    return int(text.split(b".", 1)[0])


class Operation:
    """One write. `parts`: ("put", key, value, lease) and ("delete", key, range end) in order."""

    __slots__ = ("number", "kind", "parts", "lease", "start", "end", "fate", "revision", "deleted")

    def __init__(self, number, kind, parts=(), lease=0):
        self.number, self.kind, self.parts, self.lease = number, kind, parts, lease
        self.start = self.end = self.revision = self.deleted = None
        self.fate = "unknown"


class State:
    """The keyspace as replayed: key → (value, lease, create revision, mod revision, version)."""

    def __init__(self):
        self.keys = {}
        self.attached = {}

    def effect(self, operation, revision):
        """The events that an operation must cause here."""
        expected, created = [], {}
        for part in operation.parts:
            if part[0] == "put":
                _, key, value, lease = part
                old = created.get(key) or self.keys.get(key)
                made = (value, lease, old[2] if old else revision, revision, old[4] + 1 if old else 1)
                created[key] = made
                expected.append((PUT, key, made))
            else:
                _, key, end = part
                gone = sorted(known for known in self.keys if key <= known < end) if end else (
                    [key] if key in self.keys else [])
                expected += [(DELETE, known, None) for known in gone]
        return expected

    def apply(self, events):
        for kind, key, made in events:
            old = self.keys.pop(key, None)
            if old and old[1]:
                self.attached[old[1]].discard(key)
            if kind == PUT:
                self.keys[key] = made
                if made[1]:
                    self.attached.setdefault(made[1], set()).add(key)


class Ledger:
    def __init__(self, oracle):
        self.oracle = oracle
        self.lock = threading.Lock()
        self.violations = []
        self.operations = {}
        self.acknowledged = {}      # revision → operation
        self.revokes = []           # acknowledged ones that were not compared yet
        self.events = {}            # revision → [(kind, key, made)]
        self.seen = {}              # revision → when it was received
        self.last = 1               # the newest revision whose events are known; an empty store is at 1
        self.state = State()
        self.replayed = 1
        self.verified = 1           # the present watch has come so far; what is behind it may be compacted
        self.compacted = 0          # acknowledged
        self.compacted_at_most = 0  # asked for
        self.compactions = []       # (acknowledged at, revision)
        self._next = 0

    # Told by a load

    def begin(self, kind, make_parts=lambda number: (), lease=0):
        with self.lock:
            self._next += 1
            operation = Operation(self._next, kind, make_parts(self._next), lease)
            self.operations[operation.number] = operation
        operation.start = time.monotonic()
        return operation

    def finish(self, operation, fate, revision=None, deleted=None):
        with self.lock:
            operation.end = time.monotonic()
            operation.fate, operation.revision, operation.deleted = fate, revision, deleted
            if fate != "acknowledged":
                return
            if operation.kind == "revoke":
                self.revokes.append(operation)
            elif operation.kind != "delete" or deleted:
                other = self.acknowledged.setdefault(revision, operation)
                if other is not operation:
                    self.violations.append(f"revision {revision} was answered to {other.kind} and {operation.kind}")

    # Told by a watch

    def observe(self, events, received):
        """All events of one revision, in order."""
        revision = events[0].kv.mod_revision
        plain = [
            (DELETE, event.kv.key, None) if event.type == DELETE else (
                PUT, event.kv.key, (digest(event.kv.value), event.kv.lease, event.kv.create_revision,
                                    event.kv.mod_revision, event.kv.version))
            for event in events]
        with self.lock:
            known = self.events.get(revision)
            if known is None:
                if revision != self.last + 1:
                    self.violations.append(f"the watch went from revision {self.last} to {revision}")
                self.events[revision] = plain
                self.seen[revision] = received
                self.last = max(self.last, revision)
            elif known != plain:
                self.violations.append(f"revision {revision} has changed from {known} to {plain}")

    # The reckoning

    def replay(self, revision):
        """Compares history up to `revision`. Call when no operation is under way."""
        while self.replayed < revision:
            self.replayed += 1
            found = self.events.get(self.replayed)
            if found is None:
                self.violations.append(f"nobody was told of revision {self.replayed}")
                continue
            self._explain(self.replayed, found)
            self.state.apply(found)
        remaining = []
        for operation in self.revokes:
            if operation.revision > self.replayed:
                remaining.append(operation)
            elif self.state.attached.get(operation.lease):
                self.violations.append(
                    f"lease {operation.lease:x} was revoked at revision {operation.revision}, and at {self.replayed} "
                    f"it has {sorted(self.state.attached[operation.lease])}")
        self.revokes = remaining

    def _explain(self, revision, found):
        operation = self.acknowledged.get(revision)
        if operation is None:
            operation = self._unacknowledged(found, revision)
        if operation is None:
            return self._explain_vanishing(revision, found)
        expected = self.state.effect(operation, revision)
        if found != expected:
            self.violations.append(
                f"revision {revision} is {operation.kind} {operation.number} ({operation.fate}): it should be "
                f"{expected} and is {found}")
        operation.revision = revision

    def _unacknowledged(self, found, revision):
        """The operation of unknown fate that a put names, or that deletes exactly this."""
        named = [made for kind, _, made in found if kind == PUT]
        if named:
            operation = self.operations.get(operation_number(named[0][0]))
            if operation is None or operation.fate != "unknown" or operation.revision is not None:
                self.violations.append(f"revision {revision} is not explained: {found}, {operation and operation.fate}")
            return operation
        for operation in self.operations.values():
            if operation.kind == "delete" and operation.fate == "unknown" and operation.revision is None:
                if self.state.effect(operation, revision) == found:
                    return operation
        return None

    def _explain_vanishing(self, revision, found):
        lease = self.state.keys.get(found[0][1], (None, 0))[1]
        expected = [(DELETE, key, None) for key in sorted(self.state.attached.get(lease, ()))]
        if not lease or found != expected:
            self.violations.append(
                f"revision {revision} deletes {[key for _, key, _ in found]}; lease {lease:x} has "
                f"{[key for _, key, _ in expected]}")
            return
        known, lived_until = self._moments(revision)
        self.oracle.vanished(lease, revision, known, len(found), lived_until)

    def _moments(self, revision):
        """A moment at which a revision was there for certain, and one at which it was not: revisions are made in their
        order, so it came before a later one was answered, and after an earlier one was asked for."""
        near = range(1, NEIGHBOURS + 1)
        later = [self.acknowledged[revision + n].end for n in near if revision + n in self.acknowledged]
        earlier = [self.acknowledged[revision - n].start for n in near if revision - n in self.acknowledged]
        return min([self.seen[revision], *later]), max(earlier, default=None)

    def check_state(self, revision, pairs):
        """Compares a whole read at one revision, made when no operation was under way."""
        self.replay(revision)
        found = {
            pair.key: (digest(pair.value), pair.lease, pair.create_revision, pair.mod_revision, pair.version)
            for pair in pairs}
        if found != self.state.keys:
            differing = [
                (key, self.state.keys.get(key), found.get(key)) for key in found.keys() | self.state.keys.keys()
                if self.state.keys.get(key) != found.get(key)]
            self.violations.append(f"at revision {revision} {len(differing)} keys differ: {differing[:3]}")
        lost = [operation.number for at, operation in self.acknowledged.items() if at > revision]
        if lost:
            self.violations.append(f"at revision {revision} acknowledged operations are missing: {lost[:5]}")


class Observer(threading.Thread):
    """A watch over the whole keyspace from a revision on, feeding the ledger until the connection ends."""

    def __init__(self, client, ledger, start):
        super().__init__(daemon=True)
        self.ledger = ledger
        self.compacted = None       # set when the start was compacted
        self.problem = None
        self.ended = None           # how the connection ended
        self.start_revision = start
        self.caught_up_to = ledger.verified = start - 1
        self.is_created = False
        request = rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start))
        self._ending = threading.Event()
        self._call = client.watch(self._requests(request))
        self.start()

    def _requests(self, first):
        yield first
        self._ending.wait()

    def run(self):
        try:
            for response in self._call:
                received = time.monotonic()
                self.is_created |= response.created
                if response.canceled:
                    self.compacted = response.compact_revision
                    return
                self._take(response.events, received)
        except grpc.RpcError as error:
            self.ended = f"{error.code().name}: {error.details()}"
        except Exception as problem:
            self.problem = problem
        finally:
            self._ending.set()

    def _take(self, events, received):
        group = []
        for event in events:
            revision = event.kv.mod_revision
            if group and group[0].kv.mod_revision != revision:
                self._give(group, received)
                group = []
            group.append(event)
        if group:
            self._give(group, received)

    def _give(self, group, received):
        revision = group[0].kv.mod_revision
        if revision != self.caught_up_to + 1:
            self.ledger.violations.append(f"a watch went from revision {self.caught_up_to} to {revision}")
        self.ledger.observe(group, received)
        self.caught_up_to = self.ledger.verified = revision

    def stop(self):
        self._ending.set()
        self._call.cancel()
        self.join(10)
