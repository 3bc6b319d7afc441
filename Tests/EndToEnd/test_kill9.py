"""kill -9 at random moments, under load: nothing that was answered is lost, nothing ends early, nothing lives on for long.

10,000 entries are registered while the process is killed again and again. Half of them are long-lived ("long"), half run
out during the test ("short"), and a few hundred of both are hit all the time ("hot"). One subscriber acknowledges every
second eviction and leaves the others unacknowledged. What was answered is kept in a model, and after each restart:

* every entry whose registration was answered is there, unless its eviction's acknowledgement was sent;
* no entry is there whose acknowledgement was answered `ok`;
* every eviction seen and not acknowledged is still owed, and is delivered again under its sequence number;
* no eviction came before the entry's TTL had passed since its last answered hit, by this process's monotonic clock;
* remaining TTLs have gone on: not shorter than time has passed, longer by at most the outage + 1 s (+ 10 s when idle).

The seed of the moments is printed; KILL9_SEED repeats them. A killed process loses no page cache: what survives a power
cut is the business of the simulated disk's tests.
"""

import collections
import contextlib
import http.client
import json
import os
import random
import threading
import time
import unittest

from harness import PKI, Node, Workspace, wait_until

ROUNDS = int(os.environ.get("KILL9_ROUNDS", "40" if "SOAK" in os.environ else "20"))
ENTRIES = 10_000
SHORT_TTL_SECONDS = (3, 50)
HOT = 400
HOT_TTL_SECONDS = 6
WINDOW_SECONDS = 1.0
LONG_TTL_SECONDS = 3_600
CACHE = "/v1/caches/c"
NETWORK = (OSError, http.client.HTTPException, ValueError)


class Entry:
    """What this process knows of a key, in its own monotonic seconds."""

    __slots__ = ("key", "ttl", "hit_at", "seq", "acknowledgement", "deleted")

    def __init__(self, key, ttl):
        self.key, self.ttl = key, ttl
        self.deleted = False          # asked for, whatever its TTL
        self.hit_at = None            # when the last answered registration or hit was sent
        self.seq = None               # of its eviction, once delivered
        self.acknowledgement = None   # None, "sent", "ok"


class Model:
    def __init__(self, random):
        self.lock = threading.Lock()
        self.random = random
        self.waiting = [Entry(f"long/{n}", LONG_TTL_SECONDS) for n in range(ENTRIES // 2)]
        self.waiting += [Entry(f"short/{n}", random.randint(*SHORT_TTL_SECONDS)) for n in range(ENTRIES // 2)]
        random.shuffle(self.waiting)
        self.cold = {}        # registered, answered, never hit again
        self.hot = {f"hot/{n}": Entry(f"hot/{n}", HOT_TTL_SECONDS) for n in range(HOT)}
        self.limbo = set()    # registrations that got no answer: their events mean nothing
        self.early = []
        self.renamed = 0

    def evicted(self, event, received):
        """A delivered eviction. True when it is to be acknowledged."""
        key, seq = event["key"], event["seq"]
        with self.lock:
            entry = self.cold.get(key) or self.hot.get(key)
            if entry is None or entry.hit_at is None:
                return True
            # A hot entry may have been hit again since the eviction was decided; its lives are checked by the lists.
            if key in self.cold:
                if event["why"] == "expired" and received < entry.hit_at + entry.ttl and entry.seq is None:
                    self.early.append(f"{key}: {received - entry.hit_at:.3f} s after its last hit, TTL {entry.ttl} s")
                if entry.seq not in (None, seq):
                    self.early.append(f"{key}: evicted under {entry.seq} and under {seq}, without a hit between")
                entry.seq = seq
                if is_acknowledged(key):
                    entry.acknowledgement = entry.acknowledgement or "sent"
                    return True
                return False
            return True

    def owed(self):
        with self.lock:
            return {entry.seq: entry.key for entry in self.cold.values()
                    if entry.seq is not None and entry.acknowledgement is None}


def is_acknowledged(key):
    """Every second entry's eviction is acknowledged."""
    return int(key.rsplit("/", 1)[1].split("-")[0]) % 2 == 0


class Subscriber(threading.Thread):
    """Reads the stream, records evictions in the model, acknowledges half of them. Ends when the connection does."""

    def __init__(self, node, model):
        super().__init__(daemon=True)
        self.model = model
        self.lines = node.subscribe("keeper", inflight=65536, batch=500, ackwait="1h")
        self.seen = set()
        self.sent = collections.deque()     # keys of acknowledgements without answer, in order
        self.failures = []
        self.start()

    def run(self):
        with contextlib.suppress(*NETWORK):
            while not self.lines.is_closed:
                self.lines.receive(1.0)
                received = time.monotonic()
                lines, self.lines.lines = self.lines.lines, []
                for line in lines:
                    self.take(line, received)

    def take(self, line, received):
        kind = line["t"]
        if kind == "evict":
            events = line.get("items", [line])
            wanted = [event for event in events if self.model.evicted(event, received)]
            self.seen |= {event["seq"] for event in events}
            if wanted:
                self.sent.append([event["key"] for event in wanted])
                self.lines.send({"op": "ack", "seqs": [event["seq"] for event in wanted]})
        elif kind == "cancel":
            self.sent.append([])
            self.lines.send({"op": "ack", "seqs": [line["seq"]]})
        elif kind == "ok":
            keys = self.sent.popleft()
            with self.model.lock:
                for key in keys:
                    if key in self.model.cold:
                        self.model.cold[key].acknowledgement = "ok"
        elif kind == "err":
            keys = self.sent.popleft()
            # A hot entry came back to life: its acknowledgement is stale, and that is right.
            cold = [key for key in keys if key in self.model.cold]
            if line["code"] != "stale" or (cold and len(cold) == len(keys)):
                self.failures.append(f"{line} for {keys[:3]}")
        elif kind == "gap":
            self.failures.append(f"{line}")

    def stop(self):
        self.lines.stop()


class Load(threading.Thread):
    """Registers what waits and hits what is hot, until the process under it dies or `stop`."""

    def __init__(self, node, model, seed):
        super().__init__(daemon=True)
        self.node, self.model = node, model
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.hits = 0
        self.start()

    def run(self):
        with contextlib.suppress(*NETWORK), contextlib.closing(self.node.api()) as api:
            while not self.stopping.is_set():
                self.register(api)
                self.hit(api)
                self.stopping.wait(0.02)

    def register(self, api):
        with self.model.lock:
            batch = [self.model.waiting.pop() for _ in range(min(20, len(self.model.waiting)))]
        if not batch:
            return
        sent = time.monotonic()
        answered = False
        try:
            body = "".join(json.dumps({"key": entry.key, "ttl": f"{entry.ttl}s"}) + "\n" for entry in batch)
            status, answer = api.call("POST", f"{CACHE}/hits", body)
            answered = status == 200 and answer["registered"] == len(batch)
            if status == 200 and not answered:
                raise AssertionError(f"a new key was known: {answer}")
        finally:
            with self.model.lock:
                for entry in batch:
                    if answered:
                        entry.hit_at = sent
                        self.model.cold[entry.key] = entry
                    else:
                        # Nobody knows whether this key exists: its work goes on under another name.
                        self.model.limbo.add(entry.key)
                        self.model.renamed += 1
                        self.model.waiting.append(Entry(f"{entry.key.split('-')[0]}-{self.model.renamed}", entry.ttl))

    def hit(self, api):
        keys = self.random.sample(sorted(self.model.hot), 60)
        sent = time.monotonic()
        body = "".join(json.dumps({"key": key, "ttl": f"{HOT_TTL_SECONDS}s"}) + "\n" for key in keys)
        status, answer = api.call("POST", f"{CACHE}/hits", body)
        if status != 200:
            raise AssertionError(f"{status} {answer}")
        refused = set(answer["evicting"])
        with self.model.lock:
            for key in keys:
                if key not in refused:
                    self.model.hot[key].hit_at = max(sent, self.model.hot[key].hit_at or 0)
        self.hits += len(keys)

    def stop(self):
        self.stopping.set()
        self.join(20)


class Kill9(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.seed = int(os.environ.get("KILL9_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"  kill -9: {ROUNDS} rounds, KILL9_SEED={cls.seed}", flush=True)
        cls.random = random.Random(cls.seed)
        cls.node = cls.space.own(
            Node(cls.space, PKI(cls.space / "pki"),
                 caches=[f"c:ttl={LONG_TTL_SECONDS}s,window=1s,jitter=0,register=on-hit",
                         "still:ttl=1h,window=10m,jitter=0,register=on-hit"]))

    def test_twenty_kills(self):
        model = Model(self.random)
        node = self.node.start()
        still = [f"still/{n}" for n in range(50)]
        self.assertEqual(node.call("POST", "/v1/caches/still/hits", "\n".join(still) + "\n")[1]["registered"], 50)
        killed_at = None
        hits = 0
        for round in range(ROUNDS + 1):
            before = self.remaining(node) if round == 0 else before
            if round > 0:
                before = self.check(node, model, subscriber, before, killed_at, slack=1.0)
            if round == ROUNDS:
                break
            subscriber = Subscriber(node, model)
            loads = [Load(node, model, self.random.random()) for _ in range(2)]
            time.sleep(self.random.uniform(0.2, 3.5))   # the random moment, under load
            before = self.remaining(node)
            time.sleep(self.random.uniform(0.0, 0.3))
            killed_at = time.monotonic()
            node.kill()
            for load in loads:
                load.join(20)
                hits += load.hits
            subscriber.join(20)
            self.assertFalse(subscriber.failures)
            if round % 4 == 3:      # and once more while it recovers
                node.spawn()
                time.sleep(self.random.uniform(0.0, 0.25))
                node.kill()
            node.start()
        owed, done = len(model.owed()), sum(entry.acknowledgement == "ok" for entry in model.cold.values())
        print(f"  kill -9: {hits} hits; after the last round {len(model.cold)} entries, {done} evictions acknowledged, "
              f"{owed} owed, {len(model.limbo)} registrations without answer", flush=True)
        self.finish(node, model)
        self.kill_while_idle(node)

    # -- after a restart

    def check(self, node, model, subscriber, before, killed_at, slack):
        after = self.remaining(node)
        self.check_remaining(before, after, time_down=after["asked"] - killed_at, slack=slack)
        asked = time.monotonic()
        with model.lock:
            known = {
                entry.key: (entry.hit_at + (0 if entry.deleted else entry.ttl), entry.seq, entry.acknowledgement)
                for entry in model.cold.values()}
            hot = {entry.key: entry.hit_at for entry in model.hot.values() if entry.hit_at is not None}
        entries = node.entries("c")
        listed = time.monotonic()
        lost, undead, early, forgotten = [], [], [], []
        for key, (deadline, seq, acknowledgement) in known.items():
            entry = entries.get(key)
            if entry is None and acknowledgement is None:
                lost.append(key)
            if entry is not None and acknowledgement == "ok":
                undead.append(key)
            if listed < deadline and acknowledgement is None and (entry or {}).get("state") != "live":
                early.append((key, entry))
            if seq is not None and acknowledgement is None and (entry or {}).get("seq") != seq:
                forgotten.append((key, seq, entry))
        for key, hit_at in hot.items():
            if listed < hit_at + HOT_TTL_SECONDS and entries.get(key, {}).get("state") != "live":
                early.append((key, f"{listed - hit_at:.2f} s after its last hit", entries.get(key)))
        self.assertFalse(lost[:5], "entries that were answered and are gone")
        self.assertFalse(undead[:5], "entries whose acknowledgement was answered ok")
        self.assertFalse(early[:5], "entries that ended before their TTL")
        self.assertFalse(model.early[:5], "evictions before the TTL")
        self.assertFalse(forgotten[:5], "owed evictions that are not owed any more")
        self.check_owed(node, model)
        return after

    def check_owed(self, node, model):
        """A new connection gets everything owed again, under the same sequence numbers."""
        owed = model.owed()
        reader = Subscriber(node, model)
        try:
            wait_until(lambda: owed.keys() <= reader.seen or reader.failures, "the delivery of all that is owed", 30)
        except AssertionError:
            missing = sorted(owed.keys() - reader.seen)
            raise AssertionError(f"{len(missing)} of {len(owed)} owed evictions did not come: {missing[:5]}…") from None
        finally:
            reader.stop()
            reader.join(5)
        self.assertFalse(reader.failures)

    def remaining(self, node):
        """The remaining TTLs of entries that nobody hits, with the time around the question."""
        asked = time.monotonic()
        entries = node.entries("still")
        return {"asked": asked, "answered": time.monotonic(),
                "seconds": {key: entry["remaining"] for key, entry in entries.items()}}

    def check_remaining(self, before, after, time_down, slack):
        least_passed = after["asked"] - before["answered"]
        most_passed = after["answered"] - before["asked"]
        self.assertEqual(len(after["seconds"]), 50)
        for key, was in before["seconds"].items():
            now = after["seconds"][key]
            self.assertGreaterEqual(now, was - most_passed - 0.05, f"{key} has lost TTL")
            self.assertLessEqual(
                now, was - least_passed + time_down + slack, f"{key} was given TTL ({time_down:.2f} s down)")

    # -- the end

    def finish(self, node, model):
        """All entries are evicted, half of them acknowledged; one more kill; the rest is owed, exactly."""
        with model.lock:
            self.assertGreater(len(model.cold), 500)
        subscriber = Subscriber(node, model)
        load = Load(node, model, self.random.random())
        wait_until(lambda: not model.waiting, "the registration of all entries", 60)
        wait_until(lambda: len(model.cold) == ENTRIES, "the registration of all entries", 10)
        load.stop()
        long = [key for key in model.cold if key.startswith("long/")]
        with contextlib.closing(node.api(60)) as api:
            for key in long:
                model.cold[key].deleted = True
                self.assertEqual(api.call("DELETE", f"{CACHE}/entries/{key}")[0], 202)
        wait_until(lambda: all(entry.seq for entry in list(model.cold.values())), "the eviction of all entries",
                   SHORT_TTL_SECONDS[1] + 30, 0.1)
        wait_until(lambda: not subscriber.sent, "the answers to all acknowledgements", 20)
        killed_at = time.monotonic()
        before = self.remaining(node)
        node.kill()
        subscriber.join(20)
        self.assertFalse(subscriber.failures)
        node.start()
        self.check(node, model, subscriber, before, killed_at, slack=1.0)
        owed = model.owed()
        evicting = {key for key in node.entries("c", state="evicting") if key in model.cold}
        self.assertEqual(evicting, set(owed.values()))
        self.assertEqual(len(owed), sum(not is_acknowledged(key) for key in model.cold))
        # Typed at the end: everything is acknowledged, and nothing is left.
        reader = node.subscribe("keeper", inflight=65536, batch=500, ackwait="1h")
        self.addCleanup(reader.stop)
        head = reader.expect("hello")["head"]
        reader.send(f"ack to {head}")
        reader.expect("ok", seconds=30)
        self.assertFalse({key for key in node.entries("c", state="evicting") if key in model.cold})

    def kill_while_idle(self, node):
        """Without load the lease clock is recorded every 10 s: no more than that is given away."""
        sizes = [node.log_bytes()]

        def is_silent():        # a segment may still be given back, and the clock be recorded once more
            sizes.append(node.log_bytes())
            return sizes[-1] == sizes[-2]
        wait_until(is_silent, "silence", 10, 0.5)
        idle_from = time.monotonic()
        before = self.remaining(node)
        wait_until(lambda: time.monotonic() > idle_from + 9, "nine idle seconds", 12, 0.2)
        killed_at = time.monotonic()
        node.kill()
        node.start()
        after = self.remaining(node)
        self.check_remaining(before, after, time_down=after["asked"] - killed_at, slack=10.0)


if __name__ == "__main__":
    unittest.main()
