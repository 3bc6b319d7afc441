"""The lease oracle: what a client may believe about a lease's end, checked against all that was seen.

It is told, in seconds of the client's monotonic clock, when each request on a lease was sent and when its answer came,
and which evidence of life and death there was. Nothing else: it does not know the server's clock, or how it works.

Which end of a request counts. A grant or keepalive that was sent at s and answered at e took effect at some unknown
moment x, s ≤ x ≤ e: the server owes the lease until x + TTL.
 * Never early. Only s + TTL is certain to be no later than x + TTL, so a lease is *owed* until s + TTL, s being the last
   moment at which an acknowledged grant or keepalive was sent. Death that is known of at t happened at or before t; it
   was early when t < s + TTL. (With e + TTL an honest server would be accused: it may have acted right after s.) Every
   acknowledged renewal counts, the order of sending does not matter, for none can shorten a lease.
 * Late. Only e + TTL is certain to be no earlier than x + TTL. A renewal without an answer may have taken effect until
   `latest`, which who knows of the process's death can tell. Life that was asked for at a existed at or after a; it was
   late when a > e + TTL + `bound` + all outages since. The bound is the tick (0.1 s), a commit, and an allowance for
   machines that do much else. A stretch in which the load got no
   acknowledgement (longer than `quiet`) is an outage: it begins with the last acknowledgement before it, because the
   lease clock is durable as of the last entry only.
 * A keepalive that was acknowledged makes the lease live for a TTL from s. So one that races an expiry has one winner:
   death known of before s + TTL means that both have won.
 * Dead stays dead: no life that was asked for after death was known of; above all, no keepalive succeeds that was sent
   after its revoke was acknowledged.
 * All keys of a lease vanish at one revision.
 * Remaining TTL is measured against the same two ends, through any number of restarts: a TimeToLive answered at b with r
   whole seconds left means less than r + 1: at least s + TTL − b is owed, at most e + TTL − a plus outages allowed.
 * Listed is alive: who is on the list of leases was alive at or after its asking, who is not is dead at its answer.
`fast` is by how much the server's monotonic clock may run fast (0.05: five percent), where a test makes it do so.
"""

import bisect
import math
import threading


class _Renewal:
    __slots__ = ("start", "end", "latest", "is_grant")

    def __init__(self, start, end, latest, is_grant):
        self.start, self.end, self.latest, self.is_grant = start, end, latest, is_grant

    @property
    def name(self):
        return "grant" if self.is_grant else "keepalive"


def _as_of(renewal, moment):
    is_answered = renewal.end is not None and renewal.end <= moment
    return _Renewal(
        renewal.start, renewal.end if is_answered else None, min(renewal.latest, moment), renewal.is_grant)


class _Lease:
    def __init__(self, lease):
        self.id = lease
        self.ttl = None
        self.granted = False
        self.renewals = []      # those without an answer too: their end is None
        self.revokes = []       # (start, end or None)
        self.life = []          # (asked, answered, what)
        self.death = None       # (known at, what): the earliest
        self.revisions = {}     # revision at which keys vanished: how many
        self.lived_until = None
        self.remaining = []     # (asked, answered, seconds)

    def died(self, at, what):
        if self.death is None or at < self.death[0]:
            self.death = (at, what)


class LeaseOracle:
    def __init__(self, bound=1.0, quiet=0.1, fast=0.0):
        self.bound, self.quiet, self.fast = bound, quiet, fast
        self._lock = threading.Lock()
        self._leases = {}
        self._outages = []
        self._acknowledged = None

    # What happened

    def grant(self, lease, ttl, start, end, latest=math.inf):
        """A grant; `end` is None when it was not answered, and then it took effect at `latest` or before, or never."""
        with self._lock:
            record = self._lease(lease)
            record.ttl = ttl
            record.granted = record.granted or end is not None
            record.renewals.append(_Renewal(start, end, end if end is not None else latest, True))

    def keepalive(self, lease, ttl, start, end, latest=math.inf):
        """A keepalive answered with `ttl` (0: there is no such lease), or without an answer (`end` is None)."""
        with self._lock:
            record = self._lease(lease)
            if end is not None and ttl == 0:
                record.died(end, "a keepalive was answered with TTL 0")
                return
            record.renewals.append(_Renewal(start, end, end if end is not None else latest, False))
            if end is not None:
                record.life.append((start, end, "a keepalive succeeded"))

    def revoke(self, lease, start, end, found=True):
        """A revoke; `end` is None when it was not answered. `found` false: it was refused, there was no such lease."""
        with self._lock:
            record = self._lease(lease)
            if end is not None and not found:
                record.died(end, "a revoke did not find it")
                return
            record.revokes.append((start, end))
            if end is not None:
                record.died(end, "its revoke was acknowledged")
                record.life.append((start, end, "a revoke found it"))

    def alive(self, lease, start, end, what):
        with self._lock:
            self._lease(lease).life.append((start, end, what))

    def dead(self, lease, end, what):
        with self._lock:
            self._lease(lease).died(end, what)

    def vanished(self, lease, revision, known, keys, lived_until=None):
        """Keys of the lease were deleted at a revision, though no client has deleted them. That was at `known` or before
        it, and after `lived_until`."""
        with self._lock:
            record = self._lease(lease)
            if lived_until is not None:
                record.lived_until = max(lived_until, record.lived_until or lived_until)
            record.revisions[revision] = record.revisions.get(revision, 0) + keys
            record.died(known, f"its keys vanished at revision {revision}")

    def remaining(self, lease, seconds, start, end):
        """A TimeToLive: whole seconds left, -1 for a lease that is not there."""
        with self._lock:
            record = self._lease(lease)
            if seconds < 0:
                record.died(end, "TimeToLive did not find it")
            else:
                record.life.append((start, end, f"TimeToLive answered {seconds}"))
                record.remaining.append((start, end, seconds))

    def listed(self, leases, start, end):
        """The list of all leases."""
        with self._lock:
            listed = set(leases)
            for record in self._leases.values():
                if record.id in listed:
                    record.life.append((start, end, "it was listed"))
                elif record.granted and record.renewals[0].end is not None and record.renewals[0].end <= start:
                    record.died(end, "it was not listed")

    def outage(self, start, end):
        """No lease clock ran, or nobody could see it run."""
        with self._lock:
            self._outages.append((start, end))

    def acknowledged(self, at):
        """Some write was acknowledged. Called all the time by a load; a stretch without is an outage."""
        with self._lock:
            if self._acknowledged is not None and at - self._acknowledged > self.quiet:
                self._outages.append((self._acknowledged, at))
            self._acknowledged = max(at, self._acknowledged or at)

    def load_pauses(self):
        """From here on silence means nothing."""
        with self._lock:
            self._acknowledged = None

    def _lease(self, lease):
        if lease not in self._leases:
            self._leases[lease] = _Lease(lease)
        return self._leases[lease]

    def as_of(self, moment):
        """An oracle that knows what was known at a moment: what was not answered by then may have happened until then."""
        past = LeaseOracle(self.bound, self.quiet, self.fast)
        with self._lock:
            for record in self._leases.values():
                started = [renewal for renewal in record.renewals if renewal.start <= moment]
                if not started:
                    continue
                known = past._lease(record.id)
                known.ttl = record.ttl
                known.granted = record.granted and started[0].end is not None and started[0].end <= moment
                known.renewals = [_as_of(renewal, moment) for renewal in started]
                known.revokes = [
                    (start, end if end is not None and end <= moment else None) for start, end in record.revokes
                    if start <= moment]
                if record.death is not None and record.death[0] <= moment:
                    known.death = record.death
            past._outages = [(start, min(end, moment)) for start, end in self._outages if start <= moment]
        return past

    # What follows

    @property
    def lease_count(self):
        return len(self._leases)

    def counts(self):
        """How much the verdict rests on."""
        with self._lock:
            leases = list(self._leases.values())
            return {
                "leases": len(leases), "renewals": sum(len(record.renewals) for record in leases),
                "revokes": sum(len(record.revokes) for record in leases),
                "deaths": sum(record.death is not None for record in leases),
                "expiries": sum(bool(record.revisions) and not record.revokes for record in leases)}

    def check(self):
        """All violations, as sentences."""
        with self._lock:
            outages = _Outages(self._outages)
            return [
                f"lease {record.id:x} (TTL {record.ttl} s): {violation}" for record in self._leases.values()
                if record.ttl is not None for violation in self._violations(record, outages)]

    def _violations(self, record, outages):
        yield from self._early(record)
        yield from self._undead(record)
        yield from self._late(record, outages)
        yield from self._remaining_wrong(record, outages)
        if len(record.revisions) > 1:
            yield f"its keys vanished at more than one revision: {sorted(record.revisions)}"

    def _owed(self, record):
        return record.ttl * (1 - self.fast)

    def _early(self, record):
        if record.death is None:
            return
        at, what = record.death
        if any(start <= at for start, _ in record.revokes):
            return
        for renewal in record.renewals:
            if renewal.end is None or at >= renewal.start + self._owed(record):
                continue
            if renewal.start > at:
                continue        # life after death is the next check's
            if renewal.end >= at:
                yield (f"two winners: {what}, {at - renewal.start:.4f} s after a {renewal.name} was sent that was "
                       f"acknowledged")
            else:
                yield f"early: {what}, {at - renewal.start:.4f} s after its last acknowledged {renewal.name} was sent"
            return

    def _undead(self, record):
        if record.death is None:
            return
        at, what = record.death
        for start, _, life in record.life:
            if start > at:
                yield f"it came back: {life}, asked {start - at:.4f} s after {what}"
                return

    def _end(self, record, before):
        """The latest moment until which the lease may live when it is asked for at `before`, without outages, and the
        moment of the renewal that says so."""
        effective = [min(renewal.latest, before) for renewal in record.renewals if renewal.start < before]
        return (max(effective), max(effective) + record.ttl) if effective else (None, None)

    def _late(self, record, outages):
        seen = list(record.life)
        if record.lived_until is not None:
            seen.append((record.lived_until, record.lived_until, "its keys had not vanished"))
        for start, _, what in seen:
            renewed, end = self._end(record, start)
            if renewed is None:
                continue
            allowed = end + self.bound + outages.within(renewed, start)
            if start > allowed:
                yield (f"late: {what}, {start - renewed:.3f} s after the last renewal that can have reached it "
                       f"({outages.within(renewed, start):.3f} s of outages)")
                return

    def _remaining_wrong(self, record, outages):
        for asked, answered, seconds in record.remaining:
            if seconds > record.ttl:
                yield f"TimeToLive answered {seconds}"
            for renewal in record.renewals:
                if renewal.end is not None and renewal.end <= asked:
                    owed = renewal.start + self._owed(record) - answered
                    if seconds + 1 <= owed:
                        yield f"TTL was lost: TimeToLive answered {seconds}, {owed:.3f} s were owed"
                        return
            renewed, end = self._end(record, answered)
            if renewed is not None:
                most = end - asked + outages.within(renewed, answered) + self.bound
                if seconds > most:
                    yield f"TTL was given away: TimeToLive answered {seconds}, {most:.3f} s can be left"
                    return


class _Outages:
    """Merged intervals with their running total."""

    def __init__(self, intervals):
        merged = []
        for start, end in sorted(intervals):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        self.starts = [start for start, _ in merged]
        self.intervals = merged

    def within(self, start, end):
        """Seconds of outage between two moments."""
        total = 0.0
        for index in range(max(bisect.bisect_right(self.starts, start) - 1, 0), len(self.intervals)):
            begins, ends = self.intervals[index]
            if begins >= end:
                break
            total += max(0.0, min(ends, end) - max(begins, start))
        return total
