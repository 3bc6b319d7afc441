"""One sequence on one server, step by step, with everything the server said."""

import dataclasses
import time

from comparison import RESTART, Call, Entry, ProgressRequest, WatchStart, known_answer
from concurrency import Burst
from harness import wait_until
from lease_times import LeaseTimes
from protocol import plain, with_plain_header
from servers import EVERYTHING
from watches import GUARD_ID, GUARD_KEY, TimedOut, Wanted, WatchStream

NO_START = WatchStart(revision=0, compacted=0)
# Revisions read back after a restart.
HISTORY_REVISIONS = 10
LEASE_END_SECONDS = 15
# When 3.4.23 is killed before its engine's next commit, it replays its log to another revision than it had.
CONTROL_COMMIT_SECONDS = 0.3
STATE_PARTS = ("keys", "history", "leases", "lease times and keys")


class Ended(Exception):
    """There is no use in going on."""


class Run:
    """`transcript` is what the server said. Both servers' transcripts are compared when both are there."""

    def __init__(self, side, resolver):
        self.side, self.resolve = side, resolver
        self.transcript = []
        self.streams = {}
        # Streams that are only to be closed.
        self.side_streams = []
        self.starts = {}
        self.index = 0
        self.requests = 0
        self.lease_times = LeaseTimes(side.is_control)
        self.hashes = {}
        # Every event of the sequence, in order: those before the last restart, then the recorder's.
        self.old_events = []
        self.may_lag = False

    def run(self, sequence):
        try:
            self.recorder = self.watch("recorder", {**EVERYTHING, "start_revision": "@base+0", "prev_kv": True})
            for self.index, step in enumerate(sequence):
                self._send(step)
                if step["method"] == "Burst":
                    # From here on the servers' stores differ.
                    return self
            self.index = len(sequence)
            self.ask("Put", {"key": GUARD_KEY})
            self.settle()
            self._record_watches()
        except Ended:
            pass
        except TimedOut as problem:
            self.record("waiting ended differently", None, {"timed out": str(problem), **self._so_far()})
        except AssertionError as problem:
            self.record("a server broke down", None, {"problem": str(problem)})
        finally:
            self._close_streams()
        return self

    def record(self, what, subject, answer):
        self.transcript.append(Entry(self.index, what, subject, answer))

    # Requests

    def _send(self, step):
        method, request = step["method"], step.get("request", {})
        special = {
            "WatchCreate": lambda: self.watch(step["stream"], request),
            "WatchCancel": lambda: self._cancel(step["stream"], request),
            "WatchProgress": lambda: self._ask_progress(step["stream"]),
            "LeaseKeepAlives": lambda: self._keep_alive(request.get("IDs", [])),
            "HashKV": lambda: self._hash(request),
            "LeaseEnd": lambda: self._await_lease_ends(request.get("leases", [])),
            "Restart": self._restart,
            "Burst": lambda: self._burst(request),
        }
        if method in special:
            self.requests += 1
            special[method]()
        else:
            self.ask(method, request)

    def ask(self, method, request):
        """Sends a request, keeps the answer and what follows from it, and returns the answer (None for an error)."""
        self.requests += 1
        call = Call(method, request)
        if method == "Compact":
            # A watch that still reads the past would be cancelled or not, as it happens.
            self.settle()
            self._wait_for_the_control_to_catch_up()
        known = known_answer(call) if self.side.is_control else None
        message = self.side.client.request(method, request, self.resolve)
        asked = time.monotonic()
        answer, error = (None, known) if known else self.side.client.call(method, message)
        self.lease_times.learn(method, answer, asked, time.monotonic())
        if method == "LeaseGrant" and not request.get("ID"):
            self.resolve.auto_leases.append(answer.ID if answer else 0)
        self.record("answers differ", call, with_plain_header(answer) if answer else error)
        if answer:
            self.resolve.now = max(self.resolve.now, answer.header.revision)
            if method == "Compact":
                self.resolve.compact = message.revision
        return answer

    def _hash(self, request):
        """Of two askings: the same hash, the one that this revision had before, and no other revision's."""
        call = Call(
            "HashKV", {**request, "resolved": self.resolve.number(request.get("revision", 0))}, self.resolve.compact)
        message = self.side.client.request("HashKV", request, self.resolve)
        answers = [self.side.client.call("HashKV", message) for _ in range(2)]
        complaints = []
        hashes = [answer.hash for answer, _ in answers if answer]
        if len(set(hashes)) > 1:
            complaints.append("two hashes of one revision")
        if hashes:
            place = (call.request["resolved"] or self.resolve.now, self.resolve.compact)
            if self.hashes.setdefault(place, hashes[0]) != hashes[0]:
                complaints.append("another hash than before")
            if self.resolve.base <= place[0] and any(
                    known == hashes[0] for other, known in self.hashes.items()
                    if other[0] != place[0] and other[1] == place[1] and min(other[0], place[0]) >= place[1]):
                complaints.append("the hash of another revision")
        self.record("hashes differ", call, {
            "answers": [plain(answer) if answer else error for answer, error in answers], "complaints": complaints})

    # Leases

    def _keep_alive(self, leases):
        """Several on one stream: answered in their order."""
        requests = [self.side.client.request("LeaseKeepAlive", {"ID": lease}, self.resolve) for lease in leases]
        asked = time.monotonic()
        answers, error = self.side.client.exchange("LeaseKeepAlive", requests)
        for answer in answers:
            self.lease_times.learn("LeaseKeepAlive", answer, asked, time.monotonic())
        self.record("answers differ", Call("LeaseKeepAlives", {"IDs": leases}), [
            *map(with_plain_header, answers), *([error] if error else [])])

    def _await_lease_ends(self, leases):
        """Grants leases of different TTLs, gives them keys and waits for their ends: never early, and nothing left."""
        asked, ends = {}, []
        for lease in leases:
            asked[lease["ID"]] = time.monotonic()
            grant = self.ask("LeaseGrant", {"ID": lease["ID"], "TTL": lease["TTL"]})
            for key in lease.get("keys", []):
                self.ask("Put", {"key": key, "value": "owned", "lease": lease["ID"]})
            if lease.get("is_renewed"):
                asked[lease["ID"]] = time.monotonic()
                self.ask("LeaseKeepAlive", {"ID": lease["ID"]})
            if grant:
                ends.append((lease["ID"], grant.TTL))
        early = []
        for lease, ttl in sorted(ends, key=lambda end: end[1]):
            wait_until(lambda: self._is_over(lease), f"the end of lease {lease}", LEASE_END_SECONDS + ttl, 0.05)
            lived = time.monotonic() - asked[lease]
            if lived < ttl:
                early.append(f"lease {lease} lived {lived} of {ttl} s")
        self.record("leases end differently", None, {"early": early})
        for method, request in (
                ("Range", EVERYTHING), ("LeaseLeases", {}),
                *(("LeaseTimeToLive", {"ID": lease["ID"], "keys": True}) for lease in leases)):
            self.ask(method, request)
        self.settle()

    def _is_over(self, lease):
        return self.side.answer("LeaseTimeToLive", {"ID": lease}, self.resolve).TTL < 0

    # Restarts

    def _restart(self):
        """kill -9, and the same data directory again: revisions, keys, history and leases must be as before."""
        self.settle()
        self._record_watches()
        self._close_streams()
        self.old_events += self.recorder.events
        self.streams = {}
        before = self._state()
        if self.side.is_control:
            time.sleep(CONTROL_COMMIT_SECONDS)
        began = time.monotonic()
        self.side.kill_and_start_again()
        self.lease_times.add_outage(time.monotonic() - began)
        after = self._state()
        changed = [part for part, was, now in zip(STATE_PARTS, before, after) if was != now]
        self.record(RESTART, None, {"changed": changed, "before": before, "after": after} if changed else {})
        if changed:
            raise Ended
        self.recorder = self.watch("recorder", {**EVERYTHING, "start_revision": "@now+1", "prev_kv": True})
        self.watch("replay", {**EVERYTHING, "start_revision": "@compact+1", "prev_kv": True})
        self.settle()

    def _state(self):
        """What must outlive a crash: answers without what passes with time."""
        def ask(method, fields):
            answer, error = self.side.client.call(method, self.side.client.request(method, fields, self.resolve))
            facts = error or plain(answer)
            # Leases are listed in the order in which they end, which the control forgets when it is killed.
            for name in ("leases", "keys"):
                if name in facts:
                    facts[name] = sorted(facts[name], key=str)
            facts.pop("TTL", None)
            return facts

        leases = ask("LeaseLeases", {})
        first = max(self.resolve.compact - 1, self.resolve.now - HISTORY_REVISIONS)
        return [
            ask("Range", EVERYTHING),
            [ask("Range", {**EVERYTHING, "revision": revision}) for revision in range(first, self.resolve.now + 1)],
            leases,
            [ask("LeaseTimeToLive", {"ID": lease["ID"], "keys": True}) for lease in leases.get("leases", [])]]

    # Many requests at a time

    def _burst(self, request):
        self.settle()
        self._record_watches()
        self.record("a burst broke a promise", None, {"complaints": Burst(self, request).run()})

    # Watches

    def stream(self, name):
        if name not in self.streams:
            self.streams[name] = WatchStream(self.side.client, self.resolve)
            self.watch(name, {"key": GUARD_KEY, "watch_id": GUARD_ID})
        return self.streams[name]

    def watch(self, stream, fields):
        watch = self.stream(stream).create(fields)
        start = watch.start or watch.created.header.revision + 1
        self.starts[watch] = WatchStart(start, self.resolve.compact)
        watch.wanted = Wanted(fields)
        # How far the events have been counted that this watch must see, and how many there are.
        watch.counted = watch.expected = 0
        self.may_lag |= watch.start != 0
        self.record("answers to a watch's creation differ", Call("WatchCreate", fields), watch.created)
        return watch

    def _cancel(self, name, fields):
        stream = self.stream(name)
        self.settle()
        stream.cancel(fields)
        self.settle()

    def _ask_progress(self, name):
        stream = self.stream(name)
        self.settle()
        waits = any(
            not watch.is_refused and not watch.cancelled and watch.start > self.resolve.now
            for watch in stream.watches)
        answers = stream.ask_progress(is_answered=self.side.is_control or not waits)
        self.record("answers to a progress request differ", ProgressRequest(waits), answers)

    @property
    def events(self):
        return self.old_events + self.recorder.events

    @property
    def last_revision(self):
        return self.recorder.last_revision or (self.old_events[-1].kv.mod_revision if self.old_events else 0)

    def settle(self):
        """Waits until the server has sent every event up to the present revision to every watch that is to have it."""
        self.streams["recorder"].wait(
            lambda: self.last_revision >= self.resolve.now, f"the event of revision {self.resolve.now}")
        events = self.events
        for stream in self.streams.values():
            for watch in stream.watches:
                if watch is not self.recorder and not watch.is_refused and not watch.cancelled:
                    stream.wait(self._is_settled(watch, events), f"an event for the watch {watch.request}")

    def _is_settled(self, watch, events):
        start = self.starts.get(watch, NO_START)
        if start.revision < start.compacted:
            return lambda: watch.cancelled
        for event in events[watch.counted:]:
            revision = event.kv.mod_revision
            watch.expected += revision >= start.revision and revision > start.compacted and watch.wanted(event)
        watch.counted = len(events)
        expected = watch.expected
        # Of the compacted revision each key's last event is left; a DELETE is awaited from the product alone.
        last = {event["kv"]["key"]: event for event in self._with_compacted_events(watch).compacted_events}
        owed = sum(not self.side.is_control or not event.get("type") for event in last.values())

        def is_settled():
            told = 0
            while told < len(watch.events) and watch.events[told].kv.mod_revision <= start.compacted:
                told += 1
            return watch.cancelled or told >= owed and len(watch.events) - told >= expected
        return is_settled

    def _with_compacted_events(self, watch):
        """Where the watch began, once the recorder has seen what came before."""
        start = self.starts.get(watch, NO_START)
        if start.revision != start.compacted:
            return start
        names = self.resolve.lease_names
        return dataclasses.replace(start, compacted_events=tuple(
            {name: value for name, value in plain(event, names).items() if name != "prev_kv"}
            for event in self.events if event.kv.mod_revision == start.revision and watch.wanted(event)))

    def _wait_for_the_control_to_catch_up(self):
        """The control looks for what watches of the past have missed ten times a second, and takes one for up to date
        only then, even when there was nothing for it."""
        if self.may_lag and self.side.is_control:
            wait_until(
                lambda: self.side.server.metrics()["etcd_debugging_mvcc_slow_watcher_total"] == 0,
                "the control's watches catching up", interval=0.02)
        self.may_lag = False

    def _record_watches(self):
        for name, stream in self.streams.items():
            for watch in stream.watches:
                self.record(f"a watch differs: {watch.request}", self._with_compacted_events(watch), watch.so_far())
            self.record(f"a watch stream differs: {name}", None, stream.facts())

    def _so_far(self):
        names = self.resolve.lease_names
        return {
            f"stream {name}": [{"request": watch.request, **watch.facts(names)} for watch in stream.watches]
            for name, stream in self.streams.items()}

    def _close_streams(self):
        for stream in [*self.streams.values(), *self.side_streams]:
            stream.close()
