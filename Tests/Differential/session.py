"""A pair of servers, and one sequence sent to both of them step by step."""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "EndToEnd"))

from harness import Etcd, Node, Workspace, wait_until

from comparison import ProgressRequest, WatchStart, adapted
from protocol import Client, Resolver, plain
from watches import GUARD_ID, GUARD_KEY, TimedOut, WatchStream, is_wanted

FIRST_REVISIONS = 10
NO_START = WatchStart(revision=0, compacted=0)
EVERYTHING = {"key": "\0", "range_end": "\0"}


class Difference(Exception):
    """The two servers disagree. `index` is the step's place in the sequence."""

    def __init__(self, index, step, what, control, product):
        super().__init__(what)
        self.index, self.step, self.what, self.control, self.product = index, step, what, control, product

    @property
    def kind(self):
        """Two differences of one kind are taken for one when a sequence is shrunk."""
        return self.step["method"], self.what.split(":")[0]


class OutOfStep(Exception):
    """The servers' stores are no longer alike: new servers are needed before the next sequence."""


class Pair:
    """The control and the product, each a single member without TLS on a data directory of its own."""

    def __init__(self, methods):
        self.methods = methods
        self.space = None

    def start(self):
        self.space = Workspace()
        self.servers = [
            self.space.own(server(self.space, None, "differential", tls=False)).spawn() for server in (Etcd, Node)]
        for server in self.servers:
            server.wait_ready()
        self.clients = [Client(server.port, self.methods) for server in self.servers]
        # "@base-5" means the same on new servers as on old ones only when there are that many revisions.
        for client in self.clients:
            for _ in range(FIRST_REVISIONS):
                _answer(client, "Put", {"key": GUARD_KEY}, Resolver(0))

    def stop(self):
        if self.space:
            for client in self.clients:
                client.close()
            self.space.close()
            self.space = None

    def restart(self):
        self.stop()
        self.start()

    def both(self, method, fields, resolvers):
        finishes = [
            client.start(method, client.request(method, fields, resolve))
            for client, resolve in zip(self.clients, resolvers)]
        return [finish() for finish in finishes]

    def reset(self):
        """No leases, no key but the guard's, everything before it compacted; the revision is the same at both."""
        resolvers = [Resolver(0), Resolver(0)]
        for client, resolve in zip(self.clients, resolvers):
            for lease in _answer(client, "LeaseLeases", {}, resolve).leases:
                _answer(client, "LeaseRevoke", {"ID": lease.ID}, resolve)
            _answer(client, "DeleteRange", EVERYTHING, resolve)
            resolve.base = resolve.now = _answer(client, "Put", {"key": GUARD_KEY}, resolve).header.revision
            _answer(client, "Compact", {"revision": "@now+0", "physical": True}, resolve)
        if resolvers[0].now != resolvers[1].now:
            raise OutOfStep(f"revisions {resolvers[0].now} and {resolvers[1].now} after the same requests")
        return resolvers


def _answer(client, method, fields, resolve):
    answer, error = client.start(method, client.request(method, fields, resolve))()
    if error:
        raise OutOfStep(f"{method} {fields}: {error}")
    return answer


class Session:
    """One sequence on both servers. Raises `Difference` at the first step whose answers differ."""

    def __init__(self, pair):
        self.pair = pair
        self.resolvers = pair.reset()
        self.compacted = self.resolvers[0].base
        self.streams = {}
        self.starts = {}
        self.requests = 0
        self.index, self.step = 0, {"method": "(start)"}

    def run(self, sequence):
        try:
            self.recorders = self._create("recorder", {**EVERYTHING, "start_revision": "@base+0", "prev_kv": True})
            for self.index, self.step in enumerate(sequence):
                self._send(self.step)
            self.index, self.step = len(sequence), {"method": "(end)"}
            self._send({"method": "Put", "request": {"key": GUARD_KEY}})
            self._settle()
        except TimedOut as problem:
            self._differ(str(problem), self._progress_so_far(0), self._progress_so_far(1))
        finally:
            for pair in self.streams.values():
                for stream in pair:
                    stream.close()

    def _differ(self, what, control, product):
        raise Difference(self.index, self.step, what, control, product)

    def _compare(self, what, subject, control, product):
        adapted_control, adapted_product = adapted(subject, control, product)
        if adapted_control != adapted_product:
            self._differ(what, control, product)

    def _send(self, step):
        self.requests += 1
        method = step["method"]
        if method.startswith("Watch"):
            {"WatchCreate": self._watch, "WatchCancel": self._cancel, "WatchProgress": self._ask_progress}[method](step)
            return
        if method == "Compact":
            # A watch that still reads the past would be cancelled or not, as it happens.
            self._settle()
            self._wait_for_the_control_to_catch_up()
        answers = self.pair.both(method, step["request"], self.resolvers)
        if method == "LeaseGrant" and not step["request"].get("ID"):
            for (answer, _), resolve in zip(answers, self.resolvers):
                resolve.auto_leases.append(answer.ID if answer else 0)
        shown = [
            error or plain(answer, resolve.lease_names) for (answer, error), resolve in zip(answers, self.resolvers)]
        self._compare("answers differ", step, *shown)
        for (answer, _), resolve in zip(answers, self.resolvers):
            if answer:
                resolve.now = answer.header.revision
        if method == "Compact" and answers[0][0]:
            self.compacted = _compacted_at(step, self.resolvers[0])

    # Watches

    def _stream(self, name):
        if name not in self.streams:
            self.streams[name] = [
                WatchStream(client, resolve) for client, resolve in zip(self.pair.clients, self.resolvers)]
            self._create(name, {"key": GUARD_KEY, "watch_id": GUARD_ID})
        return self.streams[name]

    def _create(self, name, fields):
        watches = [stream.create(fields) for stream in self._stream(name)]
        created = watches[0].created
        start = watches[0].request["start"] or created["header"]["revision"] + 1
        self.starts[watches[0]] = WatchStart(start, self.compacted)
        self._compare("answers to a watch's creation differ", dict(method="WatchCreate"), *[
            watch.created for watch in watches])
        return watches

    def _with_compacted_events(self, watch):
        """Where the watch began, once the recorder has seen what came before."""
        start = self.starts.get(watch, NO_START)
        if start.revision != start.compacted:
            return start
        return dataclasses.replace(start, compacted_events=tuple(
            {name: value for name, value in event.items() if name != "prev_kv"}
            for event in self.recorders[0].events
            if event["kv"]["mod_revision"] == start.revision and is_wanted(watch.request, event)))

    def _watch(self, step):
        self._create(step["stream"], step["request"])

    def _cancel(self, step):
        streams = self._stream(step["stream"])
        self._settle()
        for stream in streams:
            stream.cancel(step["request"])
        self._settle()

    def _ask_progress(self, step):
        streams = self._stream(step["stream"])
        self._settle()
        waits = any(
            not watch.created.get("canceled") and not watch.cancelled
            and self.starts.get(watch, NO_START).revision > self.resolvers[0].now and watch.request["start"]
            for watch in streams[0].watches)
        answers = [
            streams[0].ask_progress(is_answered=True), streams[1].ask_progress(is_answered=not waits)]
        self._compare("answers to a progress request differ", ProgressRequest(waits), *answers)

    def _settle(self):
        """Waits until both servers have sent every event up to the present revision, then compares all watches."""
        for recorder, stream, resolve in zip(self.recorders, self.streams["recorder"], self.resolvers):
            stream.wait(lambda: recorder.last_revision >= resolve.now, f"the event of revision {resolve.now}")
        for name, streams in self.streams.items():
            for pair in zip(*[stream.watches for stream in streams]):
                start = self._with_compacted_events(pair[0])
                for side, (stream, watch) in enumerate(zip(streams, pair)):
                    stream.wait(self._is_settled(side, watch, start), f"an event for the watch {watch.request}")
                self._compare(f"a watch differs: {pair[0].request}", start, *[watch.facts() for watch in pair])
            self._compare(f"a watch stream differs: {name}", None, *[stream.facts() for stream in streams])

    def _wait_for_the_control_to_catch_up(self):
        """The control looks for what watches of the past have missed ten times a second, and takes one for up to date
        only then, even when there was nothing for it."""
        if any(watch.request["start"] for streams in self.streams.values() for watch in streams[0].watches):
            wait_until(
                lambda: self.pair.servers[0].metrics()["etcd_debugging_mvcc_slow_watcher_total"] == 0,
                "the control's watches catching up", interval=0.01)

    def _is_settled(self, side, watch, start):
        if watch.created.get("canceled") or watch.cancelled:
            return lambda: True
        if start.revision < start.compacted:
            return lambda: watch.cancelled
        expected = sum(
            event["kv"]["mod_revision"] >= start.revision and is_wanted(watch.request, event)
            for event in self.recorders[0].events if event["kv"]["mod_revision"] > start.compacted)
        # Of the compacted revision each key's last event is left; a DELETE is awaited from the product alone.
        last = {event["kv"]["key"]: event for event in start.compacted_events}
        expected += sum(side == 1 or not event.get("type") for event in last.values())
        return lambda: watch.cancelled or len(watch.events) >= expected

    def _progress_so_far(self, side):
        return {
            f"stream {name}": [{"request": watch.request, **watch.facts()} for watch in streams[side].watches]
            for name, streams in self.streams.items() if name != "recorder" or len(self.streams) == 1}


def _compacted_at(step, resolve):
    revision = step["request"].get("revision", 0)
    return resolve(revision) if isinstance(revision, str) else revision
