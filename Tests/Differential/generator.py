"""Random request sequences. A sequence is a list of steps {"method": …, "request": {…}}; watch steps also name
their stream. Everything is drawn from one seeded generator: equal seeds are equal sequences.
"""

import random

from kv_requests import LARGEST_BYTES, LEASES, TOO_LARGE_BYTES, Requests, large

TTLS = [1000, 2000, 3000, 5000, 9000]
TTL_STEP = 10
LARGEST_TTL = 9_000_000_000
STREAMS = 2
SHORT_LEASES = [6, 7, 8]
CROWD_LEASE = 9
# Two of these overwritten in one transaction, with their previous values, do not fit into one response.
FLOOD_KEYS = 14
FLOOD_BYTES = 102_400


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.make = Requests(self.random)
        self.chance, self.pick = self.make.chance, self.make.pick

    def sequence(self):
        steps = self._first_keys() if self.make.is_wide else []
        for _ in range(self.random.randint(30, 120)):
            steps += self._steps()
        for share, special in (
                (0.015, self._restart_steps), (0.015, self._lease_end_steps), (0.01, self._flood_steps),
                (0.01, self._crowd_steps)):
            if self.chance(share):
                place = self.random.randrange(len(steps))
                steps[place:place] = special()
        if self.chance(0.08):
            steps.append(self._burst_step())
        return steps

    def _steps(self):
        weighted = [
            (45, lambda: step("Put", self.make.put())), (35, lambda: step("Range", self.make.range())),
            (11, lambda: step("DeleteRange", self.make.delete())), (28, lambda: step("Txn", self.make.txn())),
            (5, lambda: step("Txn", self.make.read_only_txn())), (1, lambda: step("Range", self.make.bad_sort())),
            (2, self._compact_step), (1, self._compact_steps), (6, self._grant_steps), (3, self._revoke_step),
            (3, self._keep_alive_step), (4, self._time_to_live_step), (2, lambda: step("LeaseLeases")),
            (7, self._watch_step), (2, self._cancel_step), (1, self._progress_step), (1, self._hash_step),
            (1, self._maintenance_step), (0.15, self._too_large_step)]
        [draw] = self.random.choices([draw for _, draw in weighted], [weight for weight, _ in weighted])
        made = draw()
        return made if isinstance(made, list) else [made]

    # KV

    def _first_keys(self):
        """Most keys, so that ranges are long, in a few transactions."""
        keys = [key for key in self.make.keys if self.chance(0.8)]
        self.random.shuffle(keys)
        puts = [{"request_put": {"key": key, "value": self.make.value()}} for key in keys]
        return [step("Txn", {"success": puts[start:start + 20]}) for start in range(0, len(puts), 20)]

    def _compact_step(self):
        request = {"revision": self.make.revision()}
        if self.chance(0.5):
            request["physical"] = True
        return step("Compact", request)

    def _compact_steps(self):
        """A compaction, and what reads and watches around its revision."""
        revision = f"@now{self.pick([0, 0, -1, -2, -5]):+d}"
        steps = [step("Compact", {"revision": revision, "physical": self.chance(0.5)})]
        for distance in (-1, 0, 1):
            at = f"@compact{distance:+d}"
            steps.append(step("Range", {**self.make.span(), "key": "\0", "range_end": "\0", "revision": at}))
            steps.append(step("Txn", {"success": [
                {"request_put": self.make.put()}, {"request_range": {**self.make.range(), "revision": at}}]}))
            steps.append({**self._watch_step(), "request": {
                "key": "\0", "range_end": "\0", "start_revision": at, "prev_kv": self.chance(0.5)}})
            steps.append(step("HashKV", {"revision": at}))
        steps.append(step("Compact", {"revision": self.pick(["@compact+0", "@compact-1"])}))
        around = steps[1:]
        self.random.shuffle(around)
        return [steps[0], *around]

    def _flood_steps(self):
        """Responses that are too large for one message, to watches that take fragments and to such that do not."""
        def puts(letter):
            return step("Txn", {"success": [
                {"request_put": {"key": f"flood/{number:02}", "value": large(letter, FLOOD_BYTES)}}
                for number in range(FLOOD_KEYS)]})

        watch = {"key": "flood/", "range_end": "flood0", "start_revision": "@now+1", "prev_kv": True}
        span = {"key": "flood/", "range_end": "flood0"}
        return [
            {"method": "WatchCreate", "stream": 0, "request": {**watch, "fragment": True}},
            {"method": "WatchCreate", "stream": 1, "request": watch},
            puts("p"), puts("q"), step("Range", {**span, "limit": 10, "sort_target": 2, "sort_order": 2}),
            step("Range", {**span, "revision": "@now-1", "keys_only": self.chance(0.5)}),
            {"method": "WatchCreate", "stream": 0, "request": {**watch, "start_revision": "@now-1", "fragment": True}},
            step("DeleteRange", {**span, "prev_kv": True}), step("Compact", {"revision": "@now+0"})]

    def _crowd_steps(self):
        """Thousands of keys, as many as one answer, one revision and one lease get to hold."""
        count = self.pick([300, 300, 1000, 5000])
        span = {"key": "m/", "range_end": "m0"}
        keys = [f"m/{number:04}" for number in range(count)]
        self.random.shuffle(keys)
        ranges = [
            step("Range", {**self.make.range(), **span}), step("Range", {**span, "limit": self.pick([1, 100, 2000])}),
            step("Range", {**span, "count_only": True, "revision": "@now-2"}),
            step("Range", {**span, "limit": 7, "sort_order": 2, "sort_target": 0}),
            step("LeaseTimeToLive", {"ID": CROWD_LEASE, "keys": True})]
        return [
            step("LeaseGrant", {"ID": CROWD_LEASE, "TTL": 20_000}),
            {"method": "WatchCreate", "stream": 1, "request": {**span, "prev_kv": self.chance(0.5)}},
            *(step("Txn", {"success": [
                {"request_put": {"key": key, "value": key[-1], "lease": CROWD_LEASE}}
                for key in keys[start:start + 100]]}) for start in range(0, count, 100)),
            *ranges,
            {"method": "WatchCreate", "stream": 0, "request": {**span, "start_revision": "@base+0", "filters": [1]}},
            self.pick([
                step("LeaseRevoke", {"ID": CROWD_LEASE}), step("DeleteRange", {**span, "prev_kv": self.chance(0.5)})]),
            step("Range", {**span, "revision": "@now-1", "keys_only": True}), step("LeaseRevoke", {"ID": CROWD_LEASE}),
            step("Compact", {"revision": self.pick(["@now+0", "@now-1"])}), *ranges]

    def _too_large_step(self):
        """About the limit of a request, which is its log entry's, and above that of a message."""
        value = large("t", self.pick(TOO_LARGE_BYTES))
        put = {"key": "t", "value": value}
        return self.pick([
            step("Put", put), step("Txn", {"success": [{"request_put": put}]}),
            step("Txn", {"compare": [{"key": "t", "target": 3, "value": value}], "success": [
                {"request_put": {"key": "t", "value": "x"}}]}),
            step("DeleteRange", {"key": value}),
            [step("Put", {"key": "t", "value": large("t", LARGEST_BYTES)}), step("DeleteRange", {"key": "t"})]])

    # Leases

    def _grant_steps(self):
        if self.chance(0.1):
            self.make.auto_leases += 1
            return step("LeaseGrant", {"TTL": self.pick(TTLS) + TTL_STEP * self.make.auto_leases})
        lease = self.pick(LEASES)
        self.make.granted = [*{*self.make.granted, lease}]
        # Leases are listed in the order in which they run out, which a shared TTL would leave to the milliseconds.
        difference = -TTL_STEP * LEASES.index(lease)
        if self.chance(0.05):
            ttl = self.pick([LARGEST_TTL + difference, LARGEST_TTL + 1])
            return step("LeaseGrant", {"TTL": ttl, "ID": lease})
        if self.chance(0.05):
            # The shortest TTL a server grants: revoked at once, because nothing may expire unawaited.
            return [
                step("LeaseGrant", {"TTL": self.pick([0, 1, -1]), "ID": 5}), step("LeaseRevoke", {"ID": 5})]
        return step("LeaseGrant", {"TTL": self.pick(TTLS) + difference, "ID": lease})

    def _lease_or_none(self):
        return 0 if self.chance(0.03) else self.make.lease()

    def _revoke_step(self):
        lease = self._lease_or_none()
        self.make.granted = [granted for granted in self.make.granted if granted != lease]
        return step("LeaseRevoke", {"ID": lease})

    def _keep_alive_step(self):
        if self.chance(0.2):
            leases = [self._lease_or_none() for _ in range(self.random.randint(2, 6))]
            return step("LeaseKeepAlives", {"IDs": leases})
        return step("LeaseKeepAlive", {"ID": self._lease_or_none()})

    def _time_to_live_step(self):
        request = {"ID": self._lease_or_none()}
        if self.chance(0.6):
            request["keys"] = True
        return step("LeaseTimeToLive", request)

    def _lease_end_steps(self):
        count = self.pick([1, 1, 1, 2, 3])
        return [step("LeaseEnd", {"leases": [
            {
                "ID": lease, "TTL": 2 + index, "is_renewed": self.chance(0.3),
                "keys": self.random.sample(self.make.keys, self.random.randint(0, 4))}
            for index, lease in enumerate(SHORT_LEASES[:count])]})]

    # Watches

    def _watch_step(self):
        request = self.make.span()
        if self.chance(0.5):
            request["start_revision"] = self.make.revision()
        if self.chance(0.4):
            request["prev_kv"] = True
        if self.chance(0.2):
            request["filters"] = self.pick([[0], [1], [0, 1], [0, 5]])
        for flag, share in (("fragment", 0.2), ("progress_notify", 0.1)):
            if self.chance(share):
                request[flag] = True
        if self.chance(0.25):
            request["watch_id"] = self.pick([1, 2, 3, 50, -3])
        return {"method": "WatchCreate", "stream": self.random.randrange(STREAMS), "request": request}

    def _cancel_step(self):
        return {
            "method": "WatchCancel", "stream": self.random.randrange(STREAMS),
            "request": {"watch_id": self.pick([0, 0, 1, 1, 2, 3, 50, 77])}}

    def _progress_step(self):
        return {"method": "WatchProgress", "stream": self.random.randrange(STREAMS), "request": {}}

    # The rest

    def _hash_step(self):
        return step("HashKV", {"revision": 0 if self.chance(0.5) else self.make.revision()})

    def _maintenance_step(self):
        return self.pick([
            step("Status"), step("Hash"), step("MemberList", {"linearizable": self.chance(0.5)}),
            step("Alarm", {"action": 0}), step("Alarm", {"action": 2, "alarm": 1}), step("Defragment"),
            step("MoveLeader", {"targetID": 1}), step("MemberRemove", {"ID": 1}), step("MemberPromote", {"ID": 1})])

    def _restart_steps(self):
        return [step("Restart")]

    def _burst_step(self):
        return step("Burst", {"seed": self.random.randrange(1 << 30), "operations": 16, "rounds": 2})


def step(method, request=None):
    return {"method": method, "request": request or {}}
