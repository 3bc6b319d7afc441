"""Seeds one after the other on one pair of servers: compared, and where they differ shrunk and printed."""

import json

from comparison import first_difference
from coverage import Coverage
from generator import Generator
from servers import Pair, Unusable
from session import Run
from shrinker import shrink

SHRINK_SECONDS = 90
# New servers and data directories, so that neither grows old.
SEEDS_PER_PAIR = 400
# What a request may look like after a part of it was left out.
MALFORMED = (KeyError, ValueError, TypeError, AttributeError, IndexError)
SHOWN_TEXT = 200
SHOWN_ANSWER = 6_000


class Difference:
    """Where the two servers disagree. `index` is the step's place in the sequence."""

    def __init__(self, sequence, entry, control, product):
        self.index = entry.index
        self.step = sequence[entry.index] if entry.index < len(sequence) else {"method": "(end)"}
        self.what, self.control, self.product = entry.what, control, product

    @property
    def kind(self):
        """Two differences of one kind are taken for one when a sequence is shrunk."""
        return self.step["method"], self.what.split(":")[0]


class Campaign:
    def __init__(self, methods):
        self.pair = Pair(methods)
        self.coverage = Coverage()
        self.seeds = self.requests = 0
        self.kinds = {}

    def difference(self, sequence, fresh=False, counts=False):
        """Runs a sequence; the difference it shows, or nothing."""
        if fresh:
            self.pair.restart()
        try:
            resolvers = dict(zip(self.pair.sides, self.pair.prepare()))
        except (Unusable, AssertionError):
            self.pair.restart()
            resolvers = dict(zip(self.pair.sides, self.pair.prepare()))
        runs = self.pair.both(lambda side: Run(side, resolvers[side]).run(sequence))
        if counts:
            self.requests += runs[1].requests
            self.coverage.asked(sequence)
            self.coverage.answered(runs[1].transcript)
        found = first_difference(
            *[run.transcript for run in runs], [run.resolve.lease_names for run in runs])
        return Difference(sequence, *found) if found else None

    def examine_seed(self, seed):
        return self.examine(f"seed {seed}", Generator(seed).sequence())

    def examine(self, name, sequence):
        """Runs, shrinks and prints. True when there was no difference."""
        self.seeds += 1
        first = self.difference(sequence, fresh=self.seeds % SEEDS_PER_PAIR == 0, counts=True)
        if first is None:
            return True
        self.kinds[first.kind] = self.kinds.get(first.kind, 0) + 1
        if self.kinds[first.kind] > 1:
            print(f"{name}: again {first.kind}", flush=True)
            self.pair.restart()
            return False
        print(f"\n{name}: DIFFERENCE at step {first.index}: {shown(first.what)}", flush=True)
        again = self.difference(sequence, fresh=True)
        if again is None or again.kind != first.kind:
            print(f"{name}: it did not come back on new servers; as it was:\n{report(first, [])}", flush=True)
            self.pair.restart()
            return False

        def fails(smaller):
            try:
                found = self.difference(smaller)
            except MALFORMED:
                return False
            return found is not None and found.kind == again.kind

        smallest = shrink(sequence[:again.index + 1], fails, SHRINK_SECONDS)
        print(f"{name}: {report(self.difference(smallest, fresh=True) or again, smallest)}", flush=True)
        self.pair.restart()
        return False


def report(difference, sequence):
    lines = [f"{len(sequence)} steps (for --replay):", *map(json.dumps, sequence)] if sequence else []
    lines.append(f"  the answers to step {difference.index}, {shown(difference.step)}: {shown(difference.what)}")
    for name, answer in (("control", difference.control), ("product", difference.product)):
        lines.append(f"    {name}: {shown(answer)}"[:SHOWN_ANSWER])
    return "\n".join(lines)


def shown(value):
    return json.dumps(_shortened(value)) if not isinstance(value, str) else value


def _shortened(value):
    if isinstance(value, str) and len(value) > SHOWN_TEXT:
        return f"{value[:20]}… ({len(value)})"
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(inner) for inner in value]
    return value
