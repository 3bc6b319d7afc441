"""Random KV requests over the keys of one sequence: few enough that requests meet each other all the time."""

# At most 12 with the guard's key, so that ties have one order in the control, too.
FEW_KEYS = ["a", "b", "c", "d", "e", "a/1", "a/2", "a/3", "b/1", "b/2", "\xff"]
# Shared prefixes, prefixes of each other, zero bytes and the largest bytes.
MANY_KEYS = [
    *FEW_KEYS, *(f"k/{number:02}" for number in range(16)), *(f"k/07/{letter}" for letter in "abcdef"),
    "k", "k/", "k0", "k\0", "k\0\0", "k\0a", "k\xff", "k\xff\xff", "\0", "\0\0", "\0a", "\x01", "\xff\xff", "\xff\0",
    "long/" + "x" * 300, "long/" + "x" * 300 + "y"]
FEW_ENDS = ["b", "c", "e", "a0", "b0", "a/2", "a", "~"]
MANY_ENDS = [*FEW_ENDS, "k", "k0", "k/07", "k/070", "k\0", "k\xff", "\0\0", "\x01", "\xff\xff", "l", "long0"]
FEW_PREFIXES = [("a/", "a0"), ("b/", "b0")]
MANY_PREFIXES = [*FEW_PREFIXES, ("k/", "k0"), ("k", "l"), ("k/07", "k/08"), ("k\0", "k\x01"), ("long/", "long0")]
VALUES = ["", "x", "y", "zz", "\0", "\xff\0\xfe"]
LARGE_BYTES = [1_000, 10_000, 65_536, 102_400]
LEASES = [1, 2, 3, 4, -7, (1 << 63) - 1]
LIMITS = [1, 2, 3, 5, 15, 100, -1]
MAX_TXN_DEPTH = 4
TXN_LIMIT = 128
COMPARE_FIELDS = ("version", "create_revision", "mod_revision", "value", "lease")
# Messages above the server's own limit, and above the one that gRPC is given.
TOO_LARGE_BYTES = [1_572_900, 1_600_000, 2_200_000]
# Just below: the entry adds some bytes to the request.
LARGEST_BYTES = 1_572_700


def large(letter, size):
    return {"repeat": letter, "times": size}


def operations(txn, kind):
    """The requests of one kind in a transaction, inner ones included."""
    for operation in txn.get("success", []) + txn.get("failure", []):
        if kind in operation:
            yield operation[kind]
        yield from operations(operation.get("request_txn", {}), kind)


class Requests:
    def __init__(self, random):
        self.random = random
        self.auto_leases = 0
        # Leases of LEASES that have been granted and not been revoked since, as far as that is known.
        self.granted = []
        self.is_wide = self.chance(0.4)
        self.keys, self.ends, self.prefixes = (
            (MANY_KEYS, MANY_ENDS, MANY_PREFIXES) if self.is_wide else (FEW_KEYS, FEW_ENDS, FEW_PREFIXES))

    def chance(self, share):
        return self.random.random() < share

    def pick(self, items):
        return self.random.choice(items)

    # Keys and values

    def key(self):
        return "" if self.chance(0.01) else self.pick(self.keys)

    def span(self):
        """Key and range end: one key, a prefix, from a key on, everything, a stretch, an empty stretch."""
        key = self.key()
        kind = self.random.random()
        if kind < 0.4:
            return {"key": key}
        if kind < 0.55:
            return dict(zip(("key", "range_end"), self.pick(self.prefixes)))
        if kind < 0.65:
            return {"key": key, "range_end": "\0"}
        if kind < 0.75:
            return {"key": "\0", "range_end": "\0"}
        return {"key": key, "range_end": self.pick(self.ends)}

    def value(self):
        if self.chance(0.01):
            return large(self.pick("xy\xff"), self.pick(LARGE_BYTES))
        return self.pick(VALUES)

    def revision(self):
        kind = self.random.random()
        if kind < 0.06:
            return self.pick([0, 1, -1, (1 << 63) - 1, -(1 << 63)])
        if kind < 0.2:
            return f"@compact{self.pick([-1, 0, 0, 1, 2]):+d}"
        if kind < 0.8:
            return f"@now{self.pick([1, 0, 0, -1, -1, -2, -3, -5, -8, -20]):+d}"
        return f"@base{self.pick([-1, 0, 0, 1, 2, 3, 5]):+d}"

    def lease(self):
        if self.auto_leases and self.chance(0.15):
            return f"@auto{self.random.randrange(self.auto_leases)}"
        # Mostly one that was granted, or a transaction would seldom get through.
        return self.pick(self.granted if self.granted and self.chance(0.85) else LEASES)

    # Requests

    def range(self):
        request = self.span()
        if self.chance(0.3):
            request["limit"] = self.pick(LIMITS)
        if self.chance(0.3):
            request["revision"] = self.revision()
        if self.chance(0.5):
            request["sort_order"] = self.pick([0, 1, 2])
            request["sort_target"] = self.pick([0, 1, 2, 3, 4])
        for flag, share in (("serializable", 0.2), ("keys_only", 0.15), ("count_only", 0.1)):
            if self.chance(share):
                request[flag] = True
        if self.is_wide and request.get("sort_target") == 4:
            # In which order the control leaves many equal values, nobody sees without the values.
            request.pop("keys_only", None)
        for bound in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if self.chance(0.1):
                request[bound] = self.revision()
        return request

    def bad_sort(self):
        request = {**self.range(), "key": self.pick(self.keys)}
        request[self.pick(["sort_order", "sort_target"])] = self.pick([5, 6, 77])
        return request

    def put(self):
        request = {"key": self.key(), "value": self.value()}
        if self.chance(0.3):
            request["lease"] = self.lease()
        if self.chance(0.3):
            request["prev_kv"] = True
        if self.chance(0.12):
            request["ignore_value"] = True
            if self.chance(0.8):
                del request["value"]
        if self.chance(0.12):
            request["ignore_lease"] = True
            if self.chance(0.8):
                request.pop("lease", None)
        return request

    def delete(self):
        request = self.span()
        # A delete of everything at every turn would leave nothing to compare.
        if "range_end" in request and self.chance(0.5 if not self.is_wide else 0.7):
            del request["range_end"]
        if self.chance(0.4):
            request["prev_kv"] = True
        return request

    def compare(self):
        target = self.pick([0, 1, 2, 3, 4])
        request = {"result": self.pick([0, 1, 2, 3]), "target": target, "key": self.key()}
        union = COMPARE_FIELDS[target]
        if not self.chance(0.05):
            request[union] = {
                "version": lambda: self.pick([0, 1, 2, 3]),
                "value": lambda: self.pick(VALUES),
                "lease": lambda: self.pick([0, 0, self.lease()]),
            }.get(union, lambda: 0 if self.chance(0.3) else self.revision())()
        elif self.chance(0.5):
            # Another field than the target's.
            request[self.pick(["version", "mod_revision"])] = 1
        if self.chance(0.25):
            request["range_end"] = self.pick(["\0", *self.ends])
        if self.chance(0.01):
            request[self.pick(["result", "target"])] = 7
        return request

    # Transactions

    def txn(self):
        request = self._txn(self.pick([1, 1, 2, 2, 3, 4]))
        if any(delete.get("range_end") == "\0" for delete in operations(request, "request_delete_range")):
            # Kills the control: it lets such a delete stand beside any put, finds the put's key gone and panics.
            # Leasehold answers "key not found" and changes nothing.
            for put in operations(request, "request_put"):
                put.pop("ignore_value", None)
                put.pop("ignore_lease", None)
        return request

    def read_only_txn(self):
        """Needs no agreement, and is serializable when all its ranges are."""
        is_serializable = self.chance(0.5)
        ranges = [self.range() for _ in range(self.random.randint(1, 3))]
        for request in ranges:
            if is_serializable:
                request["serializable"] = True
        request = {"success": [{"request_range": request} for request in ranges]}
        return {"compare": [self.compare()], **request} if self.chance(0.5) else request

    def _txn(self, depth):
        """`depth`: how many levels there may be, this one counted."""
        def several(make, most):
            return [make() for _ in range(self.random.randint(0, most))]

        most = 3 if depth < 3 else 2
        request = {}
        for name, items in (
                ("compare", several(self.compare, 2)), ("success", several(lambda: self._operation(depth), most)),
                ("failure", several(lambda: self._operation(depth), most))):
            if items:
                request[name] = items
        if self.chance(0.01):
            extra = self.pick([TXN_LIMIT, TXN_LIMIT + 1])
            request["success"] = [{"request_range": {"key": "a"}} for _ in range(extra)]
        return request

    def _operation(self, depth):
        kind = self.random.random()
        if depth > 1 and kind < (0.15 if depth < 3 else 0.5):
            return {"request_txn": self._txn(depth - 1)}
        if kind < 0.45:
            return {"request_range": self.range()}
        if kind < 0.8:
            return {"request_put": self.put()}
        if kind < 0.996:
            return {"request_delete_range": self.delete()}
        return {}
