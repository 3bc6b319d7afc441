"""A build cache beside the mixed load: hits and registrations on one member's sidecar, and two consumers of evictions.

One member hosts the sidecar: several sidecars on one cluster do not know of each other's subscribers. When the host is
removed, or is made to, another member takes over, with cursors and entries from the store. The TTL is of seconds, so
that entries are born, renewed, evicted and brought back all the time:

- hot keys are hit again and again, and never ought to go;
- racing keys are hit at about the moment at which their lease runs out;
- cold keys are registered once.

Consumer "steady" is always there; "rough" refuses some items, goes away by itself and is killed in the middle.
"""

import http.client
import json
import math
import random
import sys
import threading
import time
from pathlib import Path

import shared
from eviction_promises import DELETED, GONE, LIVE, NEW, REFUSED, UNKNOWN, Promises, Subscriber, Use
from harness import UnixHTTP, spawn, tail, wait_until

CACHE = "chaos"
TTL_SECONDS, WINDOW_SECONDS = 3.0, 0.5
FLAG = f"{CACHE}:ttl=3s,window=500ms,jitter=0,register=on-hit"
THREADS = 3
PAUSE_SECONDS = 0.06
HOT, RACING = 8, 12
# Hits of racing keys fall in this stretch around the end of the lease.
RACE_SECONDS = (-0.4, 0.4)
CALL_SECONDS = 4.0
ROUGH_LIFE_SECONDS = (1.0, 8.0)
# First deliveries to who is always there, beside troubles. On the way lie some five commits and read barriers in a row,
# each of which takes a third of a second on a machine with more to do than it can.
LATE_SECONDS = 10.0
# What a fault may cost beyond its end: an election, and the consumer's way back to a socket that was gone.
RECOVERY_SECONDS = 5.0
DRAINED_SECONDS = 60.0
ANSWERS = {204: LIVE, 200: LIVE, 201: NEW, 410: GONE, 202: DELETED, 404: REFUSED}


class Consumer:
    """One name, in as many processes after each other as it takes; the journal outlives them."""

    def __init__(self, space, name, address, *options):
        self.name, self.journal = name, space / f"consumer-{name}.journal"
        self.log = space / f"consumer-{name}.log"
        self.script = [
            sys.executable, "-B", Path(__file__).resolve().parent / "eviction_consumer.py", name, address, self.journal]
        self.options = [str(option) for option in options]
        self.process = None
        self.kills = 0

    def start(self, *options):
        self.process = spawn([*self.script, *(options or self.options)], self.log)
        return self

    def kill(self):
        if self.process:
            self.kills += self.process.poll() is None
            self.process.kill()
            self.process.wait()

    def lines(self):
        if not self.journal.exists():
            return []
        # A kill can cut the last line only.
        return [json.loads(line) for line in self.journal.read_bytes().split(b"\n")[:-1]]


class CacheLoad:
    NO_QUORUM = "Error: unavailable("

    def __init__(self, cluster, seed):
        self.cluster, self.random = cluster, random.Random(seed)
        self.address = cluster.space / "sidecar"
        cluster.sidecar = self
        self.host = None
        self.uses = []
        self.failures = []
        self.steady = Consumer(cluster.space, "steady", self.address)
        self.rough = Consumer(cluster.space, "rough", self.address, "--nak", 0.15, "--leave", 2.0)
        self.cold = self.unready = 0
        self.races = {}         # racing key → when it is to be hit
        self.lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = []

    # Where it runs

    def socket(self, member, what):
        return self.cluster.space / f"{member.name}-{what}.sock"

    def flags(self, member):
        """Of the member that hosts it; called at each start."""
        if self.host is None or self.host.is_removed:
            self.settle_on(member)
        if member is not self.host:
            return []
        return ["--cache", FLAG, "--sidecar-api", f"unix:{self.socket(member, 'api')}",
                "--sidecar-events", self.socket(member, "events")]

    def settle_on(self, member):
        self.host = member
        fresh = self.address.with_suffix(".new")
        fresh.write_text(str(self.socket(member, "events")))
        fresh.rename(self.address)

    def move(self, member):
        """An orderly move: the old host goes on without it, the new one with it. Never two at a time."""
        old = self.host
        self.settle_on(member)
        for each in (old, member):
            if not each.is_removed:
                each.resume()
                each.terminate()
                each.start()
        return old

    def ensure_host(self):
        """When the host has been removed and nobody has been started since."""
        if self.host.is_removed:
            self.move(self.random.choice(self.cluster.members))

    def restarts(self, member):
        """As a service manager does: the host ends when it finds no quorum within seconds of its start."""
        with self.lock:
            process = member.process
            if member is not self.host or process is None or process.poll() != 1:
                return False
            if self.NO_QUORUM not in tail(member.log, 1):
                return False
            self.unready += 1
            member.start()
            return True

    def _supervise(self, random):
        while not self._stopping.wait(0.2):
            self.restarts(self.host)

    # Running

    def start(self):
        self.steady.start()
        self.rough.start()
        works = [self._use] * THREADS + [self._torment, self._supervise]
        for work in works:
            thread = threading.Thread(target=self._run, args=(work, random.Random(self.random.random())), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def _run(self, work, random):
        try:
            work(random)
        except Exception as problem:
            self.failures.append(f"{work.__name__}: {problem!r}")

    def _torment(self, random):
        """Kills the rough consumer, whatever it is doing, and starts it again."""
        while not self._stopping.wait(random.uniform(*ROUGH_LIFE_SECONDS)):
            self.rough.kill()
            time.sleep(random.uniform(0, 1.0))
            self.rough.start()

    def _use(self, random):
        connection, host = None, None
        while not self._stopping.wait(random.expovariate(1 / PAUSE_SECONDS)):
            if connection is None or host is not self.host:
                host = self.host
                connection = UnixHTTP(self.socket(host, "api"), CALL_SECONDS)
            if not self._ask(connection, *self._choose(random)):
                connection.close()
                connection = None

    def _choose(self, random):
        """(method, path below the cache, key)"""
        kind = random.random()
        if kind < 0.5:
            key = f"hot/{random.randrange(HOT)}"
        elif kind < 0.85 and (racing := self._due()):
            key = racing
        else:
            with self.lock:
                self.cold += 1
                key = f"cold/{self.cold}" if random.random() < 0.7 else f"cold/{random.randint(1, self.cold)}"
        if kind > 0.97:
            return "DELETE", f"entries/{key}", key
        if random.random() < 0.15:
            return "PUT", f"entries/{key}", key
        return "POST", f"hit/{key}", key

    def _due(self):
        now = time.monotonic()
        with self.lock:
            for number in range(RACING):
                key = f"race/{number}"
                if self.races.get(key, 0) <= now:
                    end = now + TTL_SECONDS + WINDOW_SECONDS
                    self.races[key] = end + self.random.uniform(*RACE_SECONDS)
                    return key
        return None

    def _ask(self, connection, method, path, key):
        """False when the connection is of no use any more."""
        start = time.monotonic()
        deletes = method == "DELETE"
        try:
            connection.connect()
        except OSError:
            return False            # never sent
        try:
            status, answer = connection.call(
                method, f"/v1/caches/{CACHE}/{path}", {"size": 1} if method == "PUT" else None)
        except (OSError, http.client.HTTPException, ValueError):
            self._note(Use(key, start, math.inf, UNKNOWN, deletes))
            return False
        if status in ANSWERS:
            self._note(Use(key, start, time.monotonic(), ANSWERS[status], deletes))
        elif status in (500, 503, 504):
            self._note(Use(key, start, math.inf, UNKNOWN, deletes))
        else:
            self.failures.append(f"{method} {path}: {status} {answer}")
        connection.close()
        return True

    def _note(self, use):
        self.uses.append(use)

    # The end

    def drain(self):
        """No more uses; waits until every entry has been evicted and acknowledged. Nothing is owed then."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS * 3)
        self.rough.kill()
        self.rough.start("--nak", "0")
        self.left = "no answer"
        try:
            wait_until(self._is_empty, "the end of all evictions", DRAINED_SECONDS, 0.2)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; there are {self.left}") from None
        # One hello more: where the cursors are.
        for consumer in (self.steady, self.rough):
            consumer.kill()
            lines = len(consumer.lines())
            consumer.start("--nak", "0")
            wait_until(lambda: any(line["kind"] == "hello" for line in consumer.lines()[lines:]),
                       f"the return of {consumer.name}", 10, 0.1)

    def _is_empty(self):
        connection = UnixHTTP(self.socket(self.host, "api"), CALL_SECONDS)
        try:
            status, answer = connection.call("GET", f"/v1/caches/{CACHE}/entries?limit=10")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        self.left = answer
        return status == 200 and not answer["entries"]

    def violations(self, troubles):
        yield from self.failures
        told = [Subscriber(consumer.name, consumer.lines(), consumer is self.steady)
                for consumer in (self.steady, self.rough)]
        recovered = [(start, end + RECOVERY_SECONDS) for start, end in troubles]
        self.told = told
        yield from Promises(
            self.uses, told, TTL_SECONDS, WINDOW_SECONDS, LATE_SECONDS, recovered).violations()
        for subscriber in told:
            if subscriber.last_word is None or subscriber.last_word[0] != subscriber.last_word[1]:
                yield f"{subscriber.name}: in the end head and cursor are {subscriber.last_word}"

    def stop(self):
        self._stopping.set()
        self.steady.kill()
        self.rough.kill()

    def summary(self):
        answers = {}
        for use in self.uses:
            answers[use.answer] = answers.get(use.answer, 0) + 1
        told = ", ".join(
            f"{subscriber.name} {len(subscriber.evictions)} and {len(subscriber.cancels)} called off"
            for subscriber in getattr(self, "told", ()))
        return (f"  cache: {', '.join(f'{count} {name}' for name, count in sorted(answers.items()))}; evictions: "
                f"{told or 'not counted'}; rough was killed {self.rough.kills} times, the host ended {self.unready} "
                "times for want of a quorum")
