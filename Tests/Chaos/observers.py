"""Watches that outlive their connections: the witnesses, from which history is known, and watchers of parts of it.

A witness follows the whole keyspace and goes on at another member where it has ended. A part's watcher keeps what
each of its watches has delivered, for `watch_promises` to compare with history.
"""

import random
import threading
import time

import grpc

import shared
from etcd_client import rpc
from ledger import DELETE, Observer, digest
from members import MemberClient

SILENCE_SECONDS = 2.0
TURN_SECONDS = (4.0, 15.0)


class Witness(threading.Thread):
    """Feeds the ledger. `caught_up_to` is what it has seen without a gap."""

    def __init__(self, cluster, ledger, seed):
        super().__init__(daemon=True)
        self.cluster, self.ledger = cluster, ledger
        self.random = random.Random(seed)
        self.caught_up_to = 1
        self.problems = []
        self.turns = 0
        self._stopping = threading.Event()

    def run(self):
        while not self._stopping.is_set():
            member = self.random.choice(self.cluster.running or self.cluster.members)
            client = MemberClient(self.cluster, member)
            try:
                self._turn(client)
            finally:
                client.close()

    def _turn(self, client):
        self.turns += 1
        observer = Observer(client, self.ledger, self.caught_up_to + 1)
        until = time.monotonic() + self.random.uniform(*TURN_SECONDS)
        heard = time.monotonic()
        while observer.is_alive() and not self._stopping.is_set() and time.monotonic() < until:
            time.sleep(0.02)
            if observer.caught_up_to > self.caught_up_to:
                self.caught_up_to, heard = observer.caught_up_to, time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                break
        observer.stop()
        self.caught_up_to = max(self.caught_up_to, observer.caught_up_to)
        if observer.compacted:
            self.problems.append(
                f"a watch at {client.member} from revision {observer.start_revision} says compacted at "
                f"{observer.compacted}; at most {self.ledger.compacted_at_most} was asked for")
        if observer.problem:
            self.problems.append(f"a watch at {client.member} has failed: {observer.problem!r}")
        if not observer.is_created:
            time.sleep(0.1)

    def stop(self):
        self._stopping.set()
        self.join(15)


class Watch:
    """One watch at one member and what it has delivered: groups of events by revision, in the order of arrival."""

    def __init__(self, member, start):
        self.member, self.start = member, start
        self.groups = []        # (revision, [event])
        self.progress = []      # (revision of a progress notification, how many groups had come)
        self.compacted = None
        self.canceled = None

    def take(self, response):
        if response.canceled:
            self.compacted, self.canceled = response.compact_revision, response.cancel_reason or "no reason"
        if not response.events and not response.created and not response.canceled:
            self.progress.append((response.header.revision, len(self.groups)))
        is_first = True
        for event in response.events:
            # A revision that comes in two responses makes two groups.
            if is_first or self.groups[-1][0] != event.kv.mod_revision:
                self.groups.append((event.kv.mod_revision, []))
            is_first = False
            self.groups[-1][1].append(plain(event))

    @property
    def last(self):
        return self.groups[-1][0] if self.groups else self.start - 1


def plain(event):
    """(kind, key, what was written, what was there before)"""
    before = (digest(event.prev_kv.value), event.prev_kv.mod_revision) if event.HasField("prev_kv") else None
    if event.type == DELETE:
        return DELETE, event.kv.key, None, before
    made = (digest(event.kv.value), event.kv.lease, event.kv.create_revision, event.kv.mod_revision, event.kv.version)
    return event.type, event.kv.key, made, before


class PartWatcher(threading.Thread):
    """Watches [key, range_end), one watch after another: the next where the last has ended, or from further back."""

    def __init__(self, cluster, ledger, seed, key, range_end, filters=(), has_previous=False):
        super().__init__(daemon=True)
        self.cluster, self.ledger = cluster, ledger
        self.random = random.Random(seed)
        self.key, self.range_end, self.filters, self.has_previous = key, range_end, list(filters), has_previous
        self.watches = []
        self.problems = []
        self.wishes_to_end = threading.Event()
        self._stopping = threading.Event()

    def run(self):
        following = 2
        while not self._stopping.is_set():
            member = self.random.choice(self.cluster.running or self.cluster.members)
            start = following
            if self.random.random() < 0.3 and not self.wishes_to_end.is_set():
                start = max(2, self.ledger.compacted + 1, following - self.random.randrange(300))
                start = min(start, following)
            watch = Watch(member.name, start)
            self.watches.append(watch)
            self._follow(member, watch)
            following = max(following, watch.last + 1)
            if watch.compacted:
                following = max(following, watch.compacted + 1)

    def _follow(self, member, watch):
        client = MemberClient(self.cluster, member)
        ending = threading.Event()
        create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(
            key=self.key, range_end=self.range_end, start_revision=watch.start, filters=self.filters,
            prev_kv=self.has_previous))
        progress = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())

        def requests():
            yield create
            while not ending.wait(1.0):
                yield progress

        call = client.watch(requests())
        timer = threading.Timer(self.random.uniform(*TURN_SECONDS), call.cancel)
        timer.start()
        self._call = call
        try:
            for response in call:
                watch.take(response)
                if response.canceled:
                    break
        except grpc.RpcError:
            time.sleep(0.05)
        except Exception as problem:
            self.problems.append(f"a watch at {member} has failed: {problem!r}")
        finally:
            ending.set()
            timer.cancel()
            call.cancel()
            client.close()

    def has_come_to(self, revision):
        return any(watch.last >= revision for watch in self.watches[-3:])

    def stop(self):
        self._stopping.set()
        call = getattr(self, "_call", None)
        if call:
            call.cancel()
        self.join(15)
