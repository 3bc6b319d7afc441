"""Random request sequences: few keys, few values, few leases, so that requests meet each other all the time.

A sequence is a list of steps {"method": …, "request": {…}}; watch steps also name their stream. Everything is drawn
from one seeded generator: equal seeds are equal sequences.
"""

import random

# Not more than 12 with the guard's key: Go's sort is stable up to there, so that ties have one order in the control.
KEYS = ["a", "b", "c", "d", "e", "a/1", "a/2", "a/3", "b/1", "b/2", "\xff"]
ENDS = ["b", "c", "e", "a0", "b0", "a/2", "a", "~"]
VALUES = ["", "x", "y", "zz"]
LEASES = [1, 2, 3, 4, -7, (1 << 63) - 1]
TTLS = [1000, 2000, 3000, 5000, 9000]
STREAMS = 2
TTL_STEP = 10
LARGEST_TTL = 9_000_000_000
TXN_LIMIT = 128


def _operations(txn, kind):
    """The requests of one kind in a transaction, inner ones included."""
    for operation in txn.get("success", []) + txn.get("failure", []):
        if kind in operation:
            yield operation[kind]
        yield from _operations(operation.get("request_txn", {}), kind)


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.auto_leases = 0

    def sequence(self):
        return [step for _ in range(self.random.randint(15, 60)) for step in self._steps()]

    def _chance(self, share):
        return self.random.random() < share

    def _pick(self, items):
        return self.random.choice(items)

    def _steps(self):
        weighted = [
            (30, self._put_step), (18, self._range_step), (8, self._delete_step), (20, self._txn_step),
            (4, self._compact_step), (6, self._grant_steps), (3, self._revoke_step), (3, self._keep_alive_step),
            (4, self._time_to_live_step), (2, self._leases_step), (8, self._watch_step), (2, self._cancel_step),
            (1, self._progress_step)]
        [make] = self.random.choices([make for _, make in weighted], [weight for weight, _ in weighted])
        made = make()
        return made if isinstance(made, list) else [made]

    # Keys and values

    def _key(self):
        return "" if self._chance(0.01) else self._pick(KEYS)

    def _span(self):
        """Key and range end: one key, a prefix, from a key on, everything, a stretch, an empty stretch."""
        key = self._key()
        kind = self.random.random()
        if kind < 0.4:
            return {"key": key}
        if kind < 0.55:
            return {"key": "a/", "range_end": "a0"}
        if kind < 0.65:
            return {"key": key, "range_end": "\0"}
        if kind < 0.75:
            return {"key": "\0", "range_end": "\0"}
        return {"key": key, "range_end": self._pick(ENDS)}

    def _revision(self):
        if self._chance(0.06):
            return self._pick([0, 1, -1, (1 << 63) - 1, -(1 << 63)])
        if self._chance(0.7):
            return f"@now{self._pick([1, 0, 0, -1, -1, -2, -3, -5, -8]):+d}"
        return f"@base{self._pick([-1, 0, 0, 1, 2, 3, 5]):+d}"

    def _lease(self):
        if self.auto_leases and self._chance(0.15):
            return f"@auto{self.random.randrange(self.auto_leases)}"
        return self._pick(LEASES)

    # KV

    def _range(self):
        request = self._span()
        if self._chance(0.3):
            request["limit"] = self._pick([1, 2, 3, 5, 100, -1])
        if self._chance(0.3):
            request["revision"] = self._revision()
        if self._chance(0.4):
            request["sort_order"] = self._pick([0, 1, 2])
            request["sort_target"] = self._pick([0, 1, 2, 3, 4])
        for flag, share in (("serializable", 0.2), ("keys_only", 0.15), ("count_only", 0.1)):
            if self._chance(share):
                request[flag] = True
        for bound in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if self._chance(0.1):
                request[bound] = self._revision()
        return request

    def _put(self):
        request = {"key": self._key(), "value": self._pick(VALUES)}
        if self._chance(0.3):
            request["lease"] = self._lease()
        if self._chance(0.3):
            request["prev_kv"] = True
        if self._chance(0.12):
            request["ignore_value"] = True
            if self._chance(0.8):
                del request["value"]
        if self._chance(0.12):
            request["ignore_lease"] = True
            if self._chance(0.8):
                request.pop("lease", None)
        return request

    def _delete(self):
        request = self._span()
        # A delete of everything at every turn would leave nothing to compare.
        if "range_end" in request and self._chance(0.5):
            del request["range_end"]
        if self._chance(0.4):
            request["prev_kv"] = True
        return request

    def _compare(self):
        target = self._pick([0, 1, 2, 3, 4])
        request = {"result": self._pick([0, 1, 2, 3]), "target": target, "key": self._key()}
        union = ("version", "create_revision", "mod_revision", "value", "lease")[target]
        if not self._chance(0.05):
            request[union] = {
                "version": lambda: self._pick([0, 1, 2, 3]),
                "value": lambda: self._pick(VALUES),
                "lease": lambda: self._pick([0, 1, 2, 3]),
            }.get(union, lambda: 0 if self._chance(0.3) else self._revision())()
        if self._chance(0.25):
            request["range_end"] = self._pick(["\0", *ENDS])
        return request

    def _operation(self, depth):
        kind = self.random.random()
        if kind < 0.35:
            return {"request_range": self._range()}
        if kind < 0.7:
            return {"request_put": self._put()}
        if kind < 0.85 or depth == 0:
            return {"request_delete_range": self._delete()}
        if kind < 0.99:
            return {"request_txn": self._txn(depth - 1)}
        return {}

    def _txn(self, depth):
        def several(make, most):
            return [make() for _ in range(self.random.randint(0, most))]

        request = {}
        for name, items in (
                ("compare", several(self._compare, 2)), ("success", several(lambda: self._operation(depth), 3)),
                ("failure", several(lambda: self._operation(depth), 3))):
            if items:
                request[name] = items
        if self._chance(0.01):
            extra = self._pick([TXN_LIMIT, TXN_LIMIT + 1])
            request["success"] = [{"request_range": {"key": "a"}} for _ in range(extra)]
        return request

    def _put_step(self):
        return {"method": "Put", "request": self._put()}

    def _range_step(self):
        return {"method": "Range", "request": self._range()}

    def _delete_step(self):
        return {"method": "DeleteRange", "request": self._delete()}

    def _txn_step(self):
        request = self._txn(depth=1)
        if any(delete.get("range_end") == "\0" for delete in _operations(request, "request_delete_range")):
            # Kills the control: it lets such a delete stand beside any put, finds the put's key gone and panics.
            # Leasehold answers "key not found" and changes nothing.
            for put in _operations(request, "request_put"):
                put.pop("ignore_value", None)
                put.pop("ignore_lease", None)
        return {"method": "Txn", "request": request}

    def _compact_step(self):
        request = {"revision": self._revision()}
        if self._chance(0.5):
            request["physical"] = True
        return {"method": "Compact", "request": request}

    # Leases

    def _grant_steps(self):
        if self._chance(0.1):
            self.auto_leases += 1
            return {"method": "LeaseGrant", "request": {"TTL": self._pick(TTLS) + TTL_STEP * self.auto_leases}}
        lease = self._pick(LEASES)
        # Leases are listed in the order in which they run out, which a shared TTL would leave to the milliseconds.
        difference = -TTL_STEP * LEASES.index(lease)
        if self._chance(0.05):
            ttl = self._pick([LARGEST_TTL + difference, LARGEST_TTL + 1])
            return {"method": "LeaseGrant", "request": {"TTL": ttl, "ID": lease}}
        if self._chance(0.05):
            # The shortest TTL a server grants: revoked at once, because nothing may expire during a run.
            return [
                {"method": "LeaseGrant", "request": {"TTL": self._pick([0, 1, -1]), "ID": 5}},
                {"method": "LeaseRevoke", "request": {"ID": 5}}]
        return {"method": "LeaseGrant", "request": {"TTL": self._pick(TTLS) + difference, "ID": lease}}

    def _revoke_step(self):
        return {"method": "LeaseRevoke", "request": {"ID": 0 if self._chance(0.03) else self._lease()}}

    def _keep_alive_step(self):
        return {"method": "LeaseKeepAlive", "request": {"ID": 0 if self._chance(0.03) else self._lease()}}

    def _time_to_live_step(self):
        request = {"ID": 0 if self._chance(0.03) else self._lease()}
        if self._chance(0.6):
            request["keys"] = True
        return {"method": "LeaseTimeToLive", "request": request}

    def _leases_step(self):
        return {"method": "LeaseLeases", "request": {}}

    # Watches

    def _watch_step(self):
        request = self._span()
        if self._chance(0.5):
            request["start_revision"] = self._revision()
        if self._chance(0.4):
            request["prev_kv"] = True
        if self._chance(0.2):
            request["filters"] = self._pick([[0], [1], [0, 1]])
        if self._chance(0.2):
            request["fragment"] = True
        if self._chance(0.25):
            request["watch_id"] = self._pick([1, 2, 3, 50])
        return {"method": "WatchCreate", "stream": self.random.randrange(STREAMS), "request": request}

    def _cancel_step(self):
        return {
            "method": "WatchCancel", "stream": self.random.randrange(STREAMS),
            "request": {"watch_id": self._pick([0, 0, 1, 1, 2, 3, 50, 77])}}

    def _progress_step(self):
        return {"method": "WatchProgress", "stream": self.random.randrange(STREAMS), "request": {}}
