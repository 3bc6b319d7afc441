"""What the sidecar promises of its evictions, against what its callers and its subscribers have seen.

Callers: `Use`s of entries, with the moments before and after and the answer. Subscribers: what came to each name and
what it answered, in that order. The rules:

- never early: an eviction for age comes no sooner than the TTL after the last accepted use, unless it was called off;
- hardly late: the first delivery to a subscriber that is always there has a bound, outside of troubles;
- nothing lost: between two lives of a key, and after the last one, each subscriber was told and has acknowledged;
- nothing again: what a subscriber has acknowledged, and was answered, does not come again;
- in order: first deliveries have rising sequence numbers, and a number means one event for good;
- one winner: an entry whose eviction everybody has acknowledged is dead until it is registered anew, a use that was
  answered "live" after an eviction was told has called it off, and only what was called off is told to be stale.
"""

import collections
import math
from dataclasses import dataclass

# Answers to a use.
LIVE, NEW, GONE, DELETED, REFUSED, UNKNOWN = "live", "new", "gone", "deleted", "refused", "unknown"
ACCEPTED = {LIVE, NEW}


@dataclass(frozen=True)
class Use:
    """A hit, a registration or a deletion. `end` is infinite when nobody knows whether it has happened, or when."""

    key: str
    start: float
    end: float
    answer: str
    deletes: bool = False


@dataclass
class Eviction:
    """One evict event as a subscriber has seen it."""

    sequence: int
    key: str
    generation: int
    why: str
    first: float            # when it came first
    asked: float = math.inf     # its first acknowledgement was sent
    settled: float = math.inf   # and answered with ok
    stale: float = math.inf     # or refused as stale


class Subscriber:
    """A name's story, from its journal: dictionaries as eviction_consumer.py writes them."""

    def __init__(self, name, lines, is_steady):
        self.name, self.is_steady = name, is_steady
        self.evictions = {}     # sequence number → Eviction
        self.cancels = {}       # sequence number of the eviction → (its own, generation, key, when)
        self.problems = []
        self.acknowledged = {}  # sequence number → when the ok came
        self.newest = 0
        self.known = set()      # sequence numbers that have come
        self.epoch = None
        self.last_word = None   # (head, acked)
        for line in lines:
            getattr(self, f"_{line['kind']}", lambda line: None)(line)

    def _say(self, sentence):
        self.problems.append(f"{self.name}: {sentence}")

    def _hello(self, line):
        if self.epoch not in (None, line["epoch"]):
            self._say(f"the journal's epoch went from {self.epoch} to {line['epoch']}")
        self.epoch = line["epoch"]
        self._hb(line)

    def _hb(self, line):
        self.last_word = line["head"], line["acked"]

    def _gap(self, line):
        self._say(f"a gap was told up to {line['first']}, though this name had a cursor")

    def _came(self, line, what):
        sequence = line["seq"]
        if line["at"] > self.acknowledged.get(sequence, math.inf):
            self._say(f"{what} {sequence} of {line['key']} came again after its acknowledgement was answered")
        if sequence not in self.known and sequence < self.newest:
            self._say(f"{what} {sequence} of {line['key']} came first after {self.newest}")
        self.newest = max(self.newest, sequence)
        self.known.add(sequence)

    def _evict(self, line):
        self._came(line, "eviction")
        made = Eviction(line["seq"], line["key"], line["gen"], line["why"], line["at"])
        known = self.evictions.setdefault(line["seq"], made)
        if (known.key, known.generation, known.why) != (made.key, made.generation, made.why):
            self._say(f"{line['seq']} was {known.key} generation {known.generation} ({known.why}), and is now "
                      f"{made.key} generation {made.generation} ({made.why})")

    def _cancel(self, line):
        self._came(line, "cancel")
        told = line["seq"], line["gen"], line["key"], line["at"]
        known = self.cancels.setdefault(line["of"], told)
        # Two requests that meet may call it off twice, into the same life.
        if known[1:3] != told[1:3]:
            self._say(f"eviction {line['of']} was called off by {known[:3]} and by {told[:3]}")

    def _ack(self, line):
        if line["seq"] in self.evictions:
            eviction = self.evictions[line["seq"]]
            eviction.asked = min(eviction.asked, line["at"])

    def _ok(self, line):
        self.acknowledged.setdefault(line["seq"], line["at"])
        if line["seq"] in self.evictions:
            eviction = self.evictions[line["seq"]]
            eviction.settled = min(eviction.settled, line["at"])

    def _stale(self, line):
        if line["seq"] in self.evictions:
            self.acknowledged.setdefault(line["seq"], line["at"])
            eviction = self.evictions[line["seq"]]
            eviction.stale = min(eviction.stale, line["at"])

    def by_key(self):
        found = collections.defaultdict(list)
        for sequence in sorted(self.evictions):
            found[self.evictions[sequence].key].append(self.evictions[sequence])
        return found


class Promises:
    """Seconds. `late`: the bound on the calm part of a delay; `troubles`: (start, end) of faults, with what it takes
    to recover from them."""

    def __init__(self, uses, subscribers, ttl, window, late, troubles=()):
        self.subscribers, self.ttl, self.window, self.late = subscribers, ttl, window, late
        self.troubles = sorted(troubles)
        self.uses = collections.defaultdict(list)
        for use in sorted(uses, key=lambda use: use.start):
            self.uses[use.key].append(use)

    def violations(self):
        called_off = {}
        for subscriber in self.subscribers:
            yield from subscriber.problems
            called_off.update(subscriber.cancels)
        for subscriber in self.subscribers:
            told = subscriber.by_key()
            for key in sorted(told.keys() - self.uses.keys()):
                yield f"{subscriber.name}: {key} was evicted, which nobody has ever used"
            for key, uses in self.uses.items():
                for eviction in told.get(key, ()):
                    for sentence in self._eviction(subscriber, eviction, uses, called_off):
                        yield f"{subscriber.name}: eviction {eviction.sequence} of {key}: {sentence}"
                for sentence in self._lives(subscriber, told.get(key, ()), uses, called_off):
                    yield f"{subscriber.name}: {key}: {sentence}"
        for key, uses in self.uses.items():
            yield from (f"{key}: {sentence}" for sentence in self._deaths(key, uses))

    # One eviction

    def _eviction(self, subscriber, eviction, uses, called_off):
        cancel = called_off.get(eviction.sequence)
        if cancel and (cancel[1] != eviction.generation + 1 or cancel[2] != eviction.key):
            yield f"it was generation {eviction.generation} and was called off by {cancel[2]} generation {cancel[1]}"
        if eviction.stale < math.inf and not cancel:
            yield "its acknowledgement was refused as stale, and no cancel was ever told"
        if eviction.why == "deleted":
            if not any(use.deletes and use.start < eviction.first for use in uses):
                yield "nobody had asked to delete it"
        elif not cancel:
            yield from self._early(eviction, uses)
        if not cancel:
            yield from self._overruled(eviction, uses)
        if subscriber.is_steady and eviction.why == "expired":
            yield from self._late(eviction, uses)

    def _early(self, eviction, uses):
        for use in uses:
            if use.answer in ACCEPTED and use.end < eviction.first < use.start + self.ttl:
                yield f"early: it came {eviction.first - use.start:.3f} s after a use was accepted ({use.answer})"
                return

    def _overruled(self, eviction, uses):
        """A use that found it live after it was told, and before anybody could have acknowledged."""
        for use in uses:
            if use.answer == LIVE and use.start > eviction.first and not self._registers(
                    uses, eviction.first, use.end, use):
                yield (f"a use {use.start - eviction.first:.3f} s after it came was answered live, and the eviction "
                       "went on")
                return

    @staticmethod
    def _registers(uses, after, before, besides):
        """Something that may have begun a new life between two moments."""
        return any(use is not besides and use.answer in (NEW, UNKNOWN) and use.end > after and use.start < before
                   for use in uses)

    def _late(self, eviction, uses):
        before = [use for use in uses if use.start < eviction.first]
        accepted = [use.end for use in before if use.answer in ACCEPTED]
        # A use of unknown fate may have renewed at any time.
        if not accepted or any(use.answer == UNKNOWN and use.start > max(accepted) - self.ttl for use in before):
            return
        due = max(accepted) + self.ttl + self.window
        calm = eviction.first - due - self._troubled(due, eviction.first)
        if calm > self.late:
            yield f"late: it came {eviction.first - due:.3f} s after TTL and window, {calm:.3f} s of it calm"

    def _troubled(self, start, end):
        covered, at = 0.0, start
        for begin, over in self.troubles:
            begin, over = max(begin, at), min(over, end)
            if over > begin:
                covered += over - begin
                at = over
        return covered

    # The lives of a key

    def _lives(self, subscriber, evictions, uses, called_off):
        """Each life that ended was told to this subscriber and acknowledged by it; so was the last one."""
        for earlier, later in self._births(uses):
            if not any(eviction.asked < later.end and eviction.asked > earlier.start for eviction in evictions):
                yield (f"it was registered anew {later.start - earlier.end:.3f} s after it had been, and this "
                       "subscriber had acknowledged no eviction between")
        accepted = [use for use in uses if use.answer in ACCEPTED]
        if not accepted:
            return
        last = max(use.start for use in accepted)
        final = [eviction for eviction in evictions
                 if eviction.sequence not in called_off and self._is_over_after(eviction, last)]
        if not final:
            yield "its last life has ended, and this subscriber has acknowledged no eviction of it"

    @staticmethod
    def _births(uses):
        """Neighbouring births. Uses that met share one."""
        earlier = None
        for use in uses:
            if use.answer != NEW:
                continue
            if earlier and use.start > earlier.end:
                yield earlier, use
                earlier = use
            elif earlier is None or use.end < earlier.end:
                earlier = use

    @staticmethod
    def _is_over_after(eviction, moment):
        return eviction.asked > moment and eviction.asked < math.inf

    def _deaths(self, key, uses):
        """Dead once all have acknowledged; and nobody hears "gone" before somebody has."""
        told = [{eviction.sequence: eviction for eviction in subscriber.by_key().get(key, ())}
                for subscriber in self.subscribers]
        common = set.intersection(*map(set, told)) if told else set()
        for sequence in sorted(common):
            over = max(evictions[sequence].settled for evictions in told)
            if over == math.inf or any(evictions[sequence].stale < math.inf for evictions in told):
                continue
            for use in uses:
                if use.answer == LIVE and use.start > over and not self._registers(uses, over, use.end, use):
                    yield (f"a use was answered live {use.start - over:.3f} s after everybody had acknowledged its "
                           f"eviction {sequence}")
                    break
        for use in uses:
            if use.answer == GONE and not any(
                    eviction.asked < use.end for evictions in told for eviction in evictions.values()):
                yield "a use was answered gone, and nobody had acknowledged an eviction of it"
