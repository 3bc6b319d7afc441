"""A cluster under load and faults, and the verdict on what was answered."""

import contextlib
import random
import threading
import time

import shared
import certificates
import disk_faults
from cache_load import CacheLoad
from cluster_load import KEPT_REVISIONS, ClusterLedger, ClusterLoad, PatientOracle
from equipment import Equipment
from etcd_client import rpc
from faults import possible
from harness import wait_until
from ledger import DELETE
from linearizable import check
from members import Cluster, LeaderMonitor, MemberClient
from observers import PartWatcher, Watch, Witness
from orders import Answer, reading_violations, real_time_violations
from watch_promises import History, violations as watch_violations

# How late a lease may end beside outages: the tick, a commit, and what two busy cores add.
LATE_SECONDS = 1.5
# A stretch without any acknowledgement that counts as an outage.
QUIET_SECONDS = 0.1
# After the last fault: until somebody takes a write, and until every member serves.
WRITABLE_SECONDS = 10.0
SERVED_SECONDS = 30.0
REST_SECONDS = (0.5, 4.0)
COMPACTION_EVERY_SECONDS = 20.0
MOST_SENTENCES = 12


class Chaos:
    def __init__(self, space, profile, network_kind, members=3, seed=0, tls=False, faults=None, pace=0.03, extra=(),
                 election_ms=500):
        self.space, self.profile, self.seed = space, profile, seed
        self.random = random.Random(seed)
        self.cluster = space.own(
            Cluster(space, profile, network_kind, members, tls, election_ms=election_ms, extra=extra))
        self.equipment = Equipment(space, profile)
        self.cluster.on_new_member = self.equipment.equip
        self.cache = space.own(CacheLoad(self.cluster, self.random.random())) if profile.has_sidecar else None
        self.faults = possible(self, faults)
        self.oracle = PatientOracle(bound=LATE_SECONDS, quiet=QUIET_SECONDS)
        self.ledger = ClusterLedger(self.oracle)
        self.load = ClusterLoad(self.cluster, self.ledger, self.oracle, self.random.random(), pace)
        self.witnesses = [Witness(self.cluster, self.ledger, self.random.random()) for _ in range(2)]
        self.load.seen_by_all = lambda: min(witness.caught_up_to for witness in self.witnesses)
        self.watchers = [
            PartWatcher(self.cluster, self.ledger, self.random.random(), *part, **options) for part, options in (
                ((b"r/", b"r0"), {"has_previous": True}), ((b"l/", b"l0"), {}), ((b"w0/", b"w00"), {"filters": [0]}),
                ((b"\0", b"\0"), {}))]
        self.monitor = LeaderMonitor(self.cluster)
        self.troubles = []          # (start, end) of faults
        self.counts = {}
        self.violations = []
        self.availability = []      # (fault, seconds from its end to the next write)
        self.undecided = 0
        self.leases_said = []

    # What faults ask of it

    def leader(self, random):
        return self.cluster.leader() or random.choice(self.cluster.members)

    @contextlib.contextmanager
    def client(self, member):
        client = MemberClient(self.cluster, member, 3.0)
        try:
            yield client
        finally:
            client.close()

    def wait_until_served(self, member):
        wait_until(lambda: self.cluster.serves(member), f"an answer of {member} (its log: {member.log})",
                   SERVED_SECONDS, 0.1)

    def heal(self):
        self.equipment.heal(self.cluster.members)
        self.cluster.heal()

    # The run

    def start(self):
        self.cluster.start()
        self.began = time.monotonic()
        for thread in (*self.witnesses, *self.watchers, self.monitor):
            thread.start()
        self.load.start()
        if self.cache:
            self.cache.start()
        return self

    def run(self, seconds, say=lambda line: None):
        end = time.monotonic() + seconds
        next_compaction = time.monotonic() + COMPACTION_EVERY_SECONDS
        while time.monotonic() < end and not self.violations:
            time.sleep(self.random.uniform(*REST_SECONDS))
            if time.monotonic() > next_compaction:
                next_compaction = time.monotonic() + COMPACTION_EVERY_SECONDS
                with self.client(self.random.choice(self.cluster.members)) as client:
                    self.load.compact(client, KEPT_REVISIONS)
            names = list(self.faults)
            name = self.random.choices(names, [self.faults[name].weight for name in names])[0]
            self.strike(name, say)

    def strike(self, name, say=lambda line: None):
        """One fault, from its beginning until writes are taken again."""
        fault = self.faults[name]
        hold = self.random.uniform(*fault.hold)
        start = time.monotonic()
        making = fault.make(self, self.random)
        try:
            what = next(making)
            time.sleep(hold)
            next(making, None)
        except AssertionError as problem:
            self.violations.append(f"{name}: {problem}")
            what = "failed"
            self.heal()
        if self.cache:
            self.cache.ensure_host()
        healed = time.monotonic()
        self.troubles.append((start, healed))
        self.counts[name] = self.counts.get(name, 0) + 1
        took = self._wait_writable(name, healed)
        say(f"{start - self.began:7.1f} s  {name}: {what}; {healed - start:.1f} s, writable after {took:.2f} s")

    def _wait_writable(self, name, healed):
        def is_writable():
            return self.load.acknowledgements and self.load.acknowledgements[-1] > healed
        try:
            wait_until(is_writable, f"an acknowledged request after {name}", WRITABLE_SECONDS, 0.005)
        except AssertionError as problem:
            self.violations.append(str(problem))
        took = time.monotonic() - healed
        self.availability.append((name, took))
        return took

    def finish(self):
        """Puts everything right, stops the load, and judges."""
        try:
            self.heal()
            healed = time.monotonic()
            self._wait_writable("the last fault", healed)
            self.cluster.wait_served(SERVED_SECONDS)
            if self.cache:
                self.cache.drain()
            self.load.pause()
            revision = self._final_state()
        except AssertionError as problem:
            self.violations.append(str(problem))
        else:
            self._compare_members(revision)
            self._judge(revision)
        return self.violations

    def _final_state(self):
        """The last revision, seen by all who watch, and the keys at it."""
        for watcher in self.watchers:
            watcher.wishes_to_end.set()
        marks = {}
        for key in (b"r/~", b"l/~", b"w0/~"):
            for is_delete in (False, True):
                marks[key] = self._write_surely(key, is_delete)
        revision, pairs = self._everything()
        wait_until(lambda: all(witness.caught_up_to >= revision for witness in self.witnesses),
                   f"the witnesses' arrival at revision {revision}", SERVED_SECONDS)
        for watcher in self.watchers:
            last = marks.get(watcher.key + b"~", max(marks.values()))
            wait_until(lambda: watcher.has_come_to(last),
                       f"the arrival of the watch of {watcher.key!r} at revision {last}", SERVED_SECONDS)
        for thread in (*self.watchers, *self.witnesses, self.monitor):
            thread.stop()
        self.pairs = pairs
        return revision

    def _write_surely(self, key, is_delete):
        """Until it is acknowledged; the revision of the last try."""
        client = MemberClient(self.cluster, self.cluster.members[0], 5.0)
        with contextlib.closing(client):
            end = time.monotonic() + SERVED_SECONDS
            while time.monotonic() < end:
                call = (self.load.delete if is_delete else self.load.put)(client, key)
                if call.answer is not None:
                    return call.answer.header.revision
            raise AssertionError(f"a write to {client.member} was not acknowledged: {call.error}")

    def _everything(self):
        answer = self.cluster.ask("Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"))
        return answer.header.revision, list(answer.kvs)

    # The verdict

    def _accuse(self, kind, sentences):
        sentences = list(sentences)
        self.violations += [f"{kind}: {sentence}" for sentence in sentences[:MOST_SENTENCES]]
        if len(sentences) > MOST_SENTENCES:
            self.violations.append(f"{kind}: and {len(sentences) - MOST_SENTENCES} more")

    def _judge(self, revision):
        ledger, load = self.ledger, self.load
        self._accuse("reading", reading_violations(ledger, load.readings, revision))
        ledger.check_state(revision, self.pairs)
        self._accuse("history", ledger.violations)
        self._accuse("watch", (problem for witness in self.witnesses for problem in witness.problems))
        self._accuse("load", load.failures)
        self._accuse("leader", self.monitor.violations)
        self._accuse("order", real_time_violations(self._answers()))
        self._accuse("register", self._registers())
        history = History(ledger.events)
        for watcher in self.watchers:
            self._accuse("watch", watcher.problems)
            self._accuse("watch", watch_violations(
                history, watcher, self.profile.progress_binds, ledger.compacted_at_most))
        self._judge_leases()
        if self.cache:
            self._accuse("eviction", self.cache.violations(self.troubles))

    def _answers(self):
        for start, end, revision, changes, what in self.load.writes:
            yield Answer(start, end, revision, changes, what)
        for reading in self.load.readings:
            if not reading.is_serializable:
                yield Answer(reading.start, reading.end, reading.revision, False,
                             f"a read of {reading.key!r} by {reading.member}")

    def _registers(self):
        for key, operations in sorted(self.load.registers.items()):
            verdict = check(operations)
            if verdict.is_linearizable is None:
                self.undecided += 1
            if not verdict.is_linearizable:
                yield verdict.sentence(key.decode())

    def _judge_leases(self):
        self.oracle.settle(self.troubles)
        self.leases_said = self.oracle.check()
        if self.profile.leases_bind:
            self._accuse("lease", self.leases_said)

    # All members alike

    def _compare_members(self, revision):
        try:
            self._accuse("hash", self._hashes(revision))
            self._accuse("members", self._lists())
            self._accuse("watch", self._histories(revision))
        except AssertionError as problem:
            self.violations.append(f"members: {problem}")

    def _hashes(self, revision):
        """Equal hashes at one revision. A compaction may still be under way somewhere: asked again for a while."""
        end = time.monotonic() + 15
        while True:
            found = {member.name: self.cluster.ask("HashKV", rpc.HashKVRequest(revision=revision), member=member)
                     for member in self.cluster.members}
            told = {(answer.hash, answer.compact_revision) for answer in found.values()}
            if len(told) == 1:
                return []
            if time.monotonic() > end:
                return [f"the members' hashes at revision {revision} (hash, compacted): " + ", ".join(
                    f"{name} {answer.hash:08x} {answer.compact_revision}" for name, answer in found.items())]
            time.sleep(0.5)

    def _lists(self):
        lists = {}
        for member in self.cluster.members:
            lists[member.name] = sorted(
                (entry.ID, entry.name, tuple(entry.peerURLs), tuple(entry.clientURLs), entry.isLearner)
                for entry in self.cluster.listed(member).values())
        if len({str(found) for found in lists.values()}) > 1:
            yield f"the members know different members: {lists}"
        known = sorted(name for _, name, _, _, _ in next(iter(lists.values())))
        if known != sorted(member.name for member in self.cluster.members):
            yield f"the list names {known}; there are {self.cluster.members}"

    def _histories(self, revision):
        """What each member tells of the past now is what was told then."""
        from_ = max(self.ledger.compacted_at_most + 1, 2)
        # Leases go on ending behind it.
        part = {at: events for at, events in self.ledger.events.items() if from_ <= at <= revision}
        for member in self.cluster.members:
            with self.client(member) as client:
                watch = Watch(member.name, from_)
                request = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(
                    key=b"\0", range_end=b"\0", start_revision=from_))
                call = client.watch(iter([request]))
                self._read_until(call, watch, revision)
                told = {at: [event[:3] for event in events] for at, events in watch.groups if at <= revision}
                if told != part:
                    differing = sorted(at for at in told.keys() | part.keys() if told.get(at) != part.get(at))
                    at = differing[0]
                    yield (f"{member} tells another history at {len(differing)} revisions; at {at} "
                           f"{told.get(at)}, and it was {part.get(at)}")

    def _read_until(self, call, watch, revision, seconds=30):
        timer = threading.Timer(seconds, call.cancel)
        timer.start()
        try:
            for response in call:
                watch.take(response)
                if watch.last >= revision or response.canceled:
                    break
        except Exception as problem:
            self.violations.append(f"watch: the final watch at {watch.member} came to {watch.last}: {problem!r}"[:300])
        finally:
            timer.cancel()
            call.cancel()

    # In the end

    def stop(self):
        for member in self.cluster.members:
            member.resume()
        self.load.stop()
        if self.cache:
            self.cache.stop()
        for thread in (*self.watchers, *self.witnesses, self.monitor):
            if thread.is_alive():
                thread.stop()

    def outages(self):
        """(seconds, since the beginning) of stretches without an answer to anybody."""
        moments = self.load.acknowledgements
        return sorted(((b - a, a - self.began) for a, b in zip(moments, moments[1:])), reverse=True)

    def summary(self):
        counts, load = self.oracle.counts(), self.load
        longest = self.outages()[0] if len(load.acknowledgements) > 1 else (0, 0)
        worst = max(self.availability, key=lambda pair: pair[1], default=("-", 0))
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        watches = sum(len(watcher.watches) for watcher in self.watchers) + sum(w.turns for w in self.witnesses)
        said = "" if self.profile.leases_bind else (
            f"\n  not judged of this server: the lease oracle says {len(self.leases_said)} things"
            + "".join(f"\n    {sentence}" for sentence in self.leases_said[:2]))
        return (
            f"  operations: {load.answered} answered, {load.counts.get('unanswered', 0)} of unknown fate; "
            f"{self.ledger.replayed} revisions; {len(load.readings)} readings; {len(load.registers)} registers, "
            f"{sum(map(len, load.registers.values()))} operations on them, {self.undecided} undecided\n"
            f"  leases: {', '.join(f'{count} {name}' for name, count in counts.items())}; {watches} watches\n"
            f"{self.cache.summary() + chr(10) if self.cache else ''}"
            f"  faults: {faults or 'none'}\n"
            f"  leader changes: {self.monitor.changes}; "
            f"longest unavailability: {longest[0]:.2f} s at {longest[1]:.1f} s; "
            f"slowest return after a fault: {worst[1]:.2f} s after {worst[0]}{said}")
