"""Many requests at a time, on few keys. The order is the server's, so each server is judged by itself: what it answered
must be what the events that it sent say, revision by revision."""

import random

from protocol import as_bytes, plain
from watches import IMPOSSIBLE, WatchStream

PREFIX = {"key": "burst/", "range_end": "burst0"}
KEYS = 4
# Comparisons with the version of a key: what makes one of several transactions win.
COMPARES = {0: lambda left, right: left == right, 1: lambda left, right: left > right,
            2: lambda left, right: left < right, 3: lambda left, right: left != right}


class Burst:
    """`request`: {"seed": …, "operations": …, "rounds": …}. All operations of a round are under way at once."""

    def __init__(self, run, request):
        self.run_, self.resolve, self.client = run, run.resolve, run.side.client
        self.random = random.Random(request.get("seed", 0))
        self.operations, self.rounds = request.get("operations", 16), request.get("rounds", 1)
        self.complaints = []
        self.done = []

    def run(self):
        """What was wrong."""
        self.call("DeleteRange", PREFIX)
        self.start = self.call("Put", {"key": "burst/0", "value": "first"}).header.revision
        watches = []
        for round in range(self.rounds):
            self._send_round(round, watches)
        self.resolve.now = self.call("Range", PREFIX).header.revision
        self.run_.settle()
        self.events = [event for event in self.run_.recorder.events if event.kv.mod_revision >= self.start]
        self._play_back()
        for method, request, answer in self.done:
            getattr(self, f"_check_{method}")(request, answer)
        self._check_every_revision_has_one_author()
        for fields, stream, watch in watches:
            self._check_watch(fields, stream, watch)
        return self.complaints

    def call(self, method, fields):
        answer, error = self.client.call(method, self.client.request(method, fields, self.resolve))
        if error:
            raise AssertionError(f"{method} {fields}: {error}")
        return answer

    def complain(self, text, request, answer):
        if len(self.complaints) < 5:
            self.complaints.append(f"{text}: {request} was answered {plain(answer)}")

    # Sending

    def _send_round(self, round, watches):
        under_way = []
        for number in range(self.operations):
            method, fields = self._operation(f"{round}.{number}")
            under_way.append(
                (method, fields, self.client.start(method, self.client.request(method, fields, self.resolve))))
            if number == self.operations // 2:
                watches.append(self._watch())
        for method, fields, finish in under_way:
            answer, error = finish()
            if error:
                self.complaints.append(f"{method} {fields}: {error}")
            else:
                self.done.append((method, fields, answer))

    def _operation(self, name):
        key = {"key": f"burst/{self.random.randrange(KEYS)}"}
        kind = self.random.random()
        if kind < 0.35:
            return "Put", {**key, "value": name, "prev_kv": True}
        if kind < 0.5:
            return "DeleteRange", {**(key if self.random.random() < 0.7 else PREFIX), "prev_kv": True}
        if kind < 0.75:
            compare = {**key, "result": self.random.randrange(4), "target": 0, "version": self.random.randrange(4)}
            return "Txn", {
                "compare": [compare], "success": [{"request_put": {**key, "value": name}}],
                "failure": [{"request_range": PREFIX}]}
        return "Range", {**PREFIX, "serializable": self.random.random() < 0.5}

    def _watch(self):
        fields = {**PREFIX, "start_revision": self.start, "prev_kv": True, "fragment": True}
        stream = WatchStream(self.client, self.resolve)
        self.run_.side_streams.append(stream)
        return fields, stream, stream.create(fields)

    # Checking

    def _play_back(self):
        """The keys at every revision, as the recorder's events tell it, and each revision's events."""
        self.states, self.at = {self.start - 1: {}}, {}
        state = {}
        for event in self.events:
            if not event.kv.key.startswith(b"burst/"):
                continue
            state = dict(state)
            if event.type:
                state.pop(event.kv.key, None)
            else:
                state[event.kv.key] = event.kv
            self.states[event.kv.mod_revision] = state
            self.at.setdefault(event.kv.mod_revision, []).append(event)
        self.authors = {self.start: 1}

    def _author(self, revision):
        self.authors[revision] = self.authors.get(revision, 0) + 1

    def _check_Put(self, request, answer):
        revision = answer.header.revision
        self._author(revision)
        events = self.at.get(revision, [])
        if [(event.type, event.kv.key, event.kv.value) for event in events] != [
                (0, as_bytes(request["key"]), as_bytes(request["value"]))]:
            self.complain("another event at the answer's revision", request, answer)
            return
        before = self.states.get(revision - 1, {}).get(events[0].kv.key)
        if (answer.prev_kv if answer.HasField("prev_kv") else None) != before:
            self.complain("not the value before", request, answer)

    def _check_DeleteRange(self, request, answer):
        revision = answer.header.revision
        if not answer.deleted:
            if self._among(request, revision):
                self.complain("deleted nothing", request, answer)
            return
        self._author(revision)
        before = self._among(request, revision - 1)
        if list(answer.prev_kvs) != before or answer.deleted != len(before):
            self.complain("deleted other keys than there were", request, answer)
        if [(event.type, event.kv.key) for event in self.at.get(revision, [])] != [(1, kv.key) for kv in before]:
            self.complain("other events than deletions", request, answer)

    def _among(self, request, revision):
        state = self.states.get(revision, {})
        keys = state if "range_end" in request else [as_bytes(request["key"])]
        return [state[key] for key in sorted(keys) if key in state]

    def _check_Txn(self, request, answer):
        revision = answer.header.revision
        [compare] = request["compare"]
        if answer.succeeded:
            self._author(revision)
        state = self.states.get(revision - 1 if answer.succeeded else revision, {})
        record = state.get(as_bytes(compare["key"]))
        holds = COMPARES[compare["result"]](record.version if record else 0, compare["version"])
        if holds != answer.succeeded:
            self.complain("took the wrong branch", request, answer)
        if not answer.succeeded and list(answer.responses[0].response_range.kvs) != self._among(PREFIX, revision):
            self.complain("read something else than its revision", request, answer)

    def _check_Range(self, request, answer):
        if list(answer.kvs) != self._among(PREFIX, answer.header.revision):
            self.complain("not the keys of the answer's revision", request, answer)
        if answer.header.revision < self.start:
            self.complain("older than what was acknowledged before", request, answer)

    def _check_every_revision_has_one_author(self):
        wanted = {revision: 1 for revision in self.at}
        if self.authors != wanted and not self.complaints:
            self.complaints.append(f"events at {sorted(wanted)}, acknowledged {sorted(self.authors.items())}")

    def _check_watch(self, fields, stream, watch):
        wanted = [event for event in self.events if event.kv.key.startswith(b"burst/")]
        stream.wait(lambda: len(watch.events) >= len(wanted), f"an event for the watch {fields}")
        stream.create(IMPOSSIBLE)
        if watch.events != wanted or watch.complaints:
            self.complaints.append(
                f"a watch that began amid the requests saw {[plain(event) for event in watch.events]} "
                f"instead of {[plain(event) for event in wanted]}; {watch.complaints}")
