"""Revisions against real time, and readings against history.

A linearizable answer carries a revision that no later one falls behind: what is asked after an answer has come is
answered with a revision at least as great, and a later write with a greater one. A serializable answer may be old,
but it is some past state: what it found is what history has at the revision that it names.
"""

import heapq

from watch_promises import holds


class Answer:
    """A linearizable answer with a revision. `changes`: it made that revision."""

    __slots__ = ("start", "end", "revision", "changes", "what")

    def __init__(self, start, end, revision, changes, what):
        self.start, self.end, self.revision, self.changes, self.what = start, end, revision, changes, what


def real_time_violations(answers):
    """Sentences on answers that fall behind one that had come before they were asked for."""
    newest = None
    ended = []
    for serial, answer in enumerate(sorted(answers, key=lambda answer: answer.start)):
        while ended and ended[0][0] < answer.start:
            earlier = heapq.heappop(ended)[2]
            if newest is None or earlier.revision > newest.revision:
                newest = earlier
        if newest and (answer.revision < newest.revision or (answer.changes and answer.revision == newest.revision)):
            yield (f"{answer.what} was answered revision {answer.revision}, asked "
                   f"{answer.start - newest.end:.6f} s after revision {newest.revision} was answered to {newest.what}")
        heapq.heappush(ended, (answer.end, serial, answer))


def reading_violations(ledger, readings, upto):
    """Replays the ledger up to revision `upto` and compares every reading with the state at its revision."""
    due = sorted(readings, key=lambda reading: reading.asked_revision or reading.revision)
    for reading in due:
        at = reading.asked_revision or reading.revision
        kind = "serializable" if reading.is_serializable else "linearizable"
        who = f"a {kind} read of {reading.key!r} at {reading.member} ({reading.start:.6f} … {reading.end:.6f})"
        if at > upto:
            yield f"{who} is as of revision {at}, and the last there is is {upto}"
            continue
        ledger.replay(at)
        keys = ledger.state.keys
        if reading.range_end:
            expected = {key: made for key, made in keys.items() if holds(key, reading.key, reading.range_end)}
        else:
            expected = {reading.key: keys[reading.key]} if reading.key in keys else {}
        if reading.found != expected:
            differing = [key for key in expected.keys() | reading.found.keys()
                         if expected.get(key) != reading.found.get(key)]
            key = min(differing)
            yield (f"{who} is no past state: at revision {at} {key!r} is {expected.get(key)}, and it found "
                   f"{reading.found.get(key)}")
    ledger.replay(upto)
