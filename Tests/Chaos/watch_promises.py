"""What a watch promises, against history: events come in order, each once, none is missing from the start revision to
the last that came, all of one revision come together, and what was there before is told rightly."""

import bisect

from ledger import DELETE, PUT


class History:
    """revision → [(kind, key, made)], with what each event replaced, if that is known."""

    def __init__(self, events):
        self.revisions = sorted(events)
        self.events = {}
        newest = {}
        for revision in self.revisions:
            told = []
            for kind, key, made in events[revision]:
                told.append((kind, key, made, newest.get(key)))
            for kind, key, made in events[revision]:
                newest[key] = (made[0], revision) if kind == PUT else None
            self.events[revision] = told

    def part(self, start, last, key, range_end, without=()):
        """[(revision, events)] of a key range between two revisions, both included."""
        from_ = bisect.bisect_left(self.revisions, start)
        to = bisect.bisect_right(self.revisions, last)
        for revision in self.revisions[from_:to]:
            found = [event for event in self.events[revision] if holds(event[1], key, range_end)
                     and event[0] not in without]
            if found:
                yield revision, found


def holds(candidate, key, range_end):
    return candidate == key if not range_end else key <= candidate and (range_end == b"\0" or candidate < range_end)


# rpc.WatchCreateRequest.FilterType: NOPUT, NODELETE.
FILTERED = {0: PUT, 1: DELETE}


def violations(history, watcher, progress_binds=True, compacted_at_most=0):
    """Sentences about all watches of one PartWatcher."""
    without = [FILTERED[number] for number in watcher.filters]
    where = f"the watch of [{watcher.key!r}, {watcher.range_end!r})"
    for watch in watcher.watches:
        here = f"{where} at {watch.member} from revision {watch.start}"
        expected = list(history.part(watch.start, watch.last, watcher.key, watcher.range_end, without))
        wrong = _difference(watch.groups, expected, watcher.has_previous)
        if wrong:
            yield f"{here}: {wrong}"
        if watch.canceled is not None and not watch.compacted:
            yield f"{here} was canceled: {watch.canceled}"
        if watch.compacted and watch.compacted > compacted_at_most:
            yield f"{here} says compacted at {watch.compacted}; at most {compacted_at_most} was asked for"
        if progress_binds:
            yield from (f"{here}: {problem}" for problem in _overtaken(history, watcher, watch, without))


def _difference(groups, expected, has_previous):
    for got, should in zip(groups, expected):
        if got[0] != should[0]:
            return f"after {_before(groups, got)} revision {should[0]} was due and {got[0]} came"
        if [event[:3] for event in got[1]] != [event[:3] for event in should[1]]:
            return f"revision {got[0]} should be {should[1]} and is {got[1]}"
        if has_previous:
            for event, known in zip(got[1], should[1]):
                # What was compacted away before the event cannot be told.
                if event[3] is not None and event[3] != known[3]:
                    return f"revision {got[0]} replaced {known[3]} at {event[1]!r}; {event[3]} is told"
    if len(groups) > len(expected):
        return f"revision {groups[len(expected)][0]} came, which was not due or came before"
    if len(groups) < len(expected):
        return f"revision {expected[len(groups)][0]} has not come"
    return None


def _before(groups, group):
    place = groups.index(group)
    return f"revision {groups[place - 1][0]}" if place else "nothing"


def _overtaken(history, watcher, watch, without):
    for revision, count in watch.progress:
        came = watch.groups[count - 1][0] if count else watch.start - 1
        due = history.part(max(came + 1, watch.start), revision, watcher.key, watcher.range_end, without)
        missing = next(due, None)
        if missing:
            yield f"progress up to revision {revision} was told before revision {missing[0]} came"
            return
