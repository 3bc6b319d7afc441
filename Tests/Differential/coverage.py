"""What was asked and what came back, counted, so that a generator that no longer makes something is noticed."""

import collections

from google.protobuf.message import Message

from comparison import RESTART, Call, ProgressRequest
from watches import Watch

TARGETS = ("KEY", "VERSION", "CREATE", "MOD", "VALUE")
ORDERS = ("NONE", "ASCEND", "DESCEND")
COMPARE_TARGETS = ("VERSION", "CREATE", "MOD", "VALUE", "LEASE")
RESULTS = ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")
BOUNDS = ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision")
INNER = {"request_range": "Range", "request_put": "Put", "request_delete_range": "DeleteRange", "request_txn": "Txn"}

# Errors as texts; what else can come back is counted under names of its own.
ERRORS = [
    "etcdserver: key is not provided", "etcdserver: value is provided", "etcdserver: lease is provided",
    "etcdserver: invalid sort option", "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request", "etcdserver: key not found", "etcdserver: request is too large",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision", "etcdserver: requested lease not found",
    "etcdserver: lease already exists", "etcdserver: too large lease TTL", "etcdserver: bad leader transferee",
    "etcdserver: member not found", "grpc: received message larger than max"]

EXPECTED = [
    "Range", "Put", "DeleteRange", "Txn", "Compact", "LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseKeepAlives",
    "LeaseTimeToLive", "LeaseLeases", "LeaseEnd", "WatchCreate", "WatchCancel", "WatchProgress", "HashKV", "Hash",
    "Status", "Alarm", "Defragment", "MoveLeader", "MemberList", "MemberRemove", "MemberPromote", "Restart", "Burst",
    *(f"Range sort {target} {order}" for target in TARGETS for order in ORDERS),
    *(f"Range {option}" for option in (
        "limit", "revision", "keys_only", "count_only", "serializable", *BOUNDS, "one key", "stretch",
        "from key on")),
    *(f"Put {option}" for option in ("lease", "prev_kv", "ignore_value", "ignore_lease", "empty", "large")),
    *(f"DeleteRange {option}" for option in ("one key", "stretch", "from key on", "prev_kv")),
    *(f"Txn depth {depth}" for depth in (1, 2, 3, 4)),
    *(f"Txn {INNER[kind]} inside" for kind in INNER), "Txn read-only",
    *(f"Compare {target} {result}" for target in COMPARE_TARGETS for result in RESULTS),
    *(f"Compare {target} range_end" for target in COMPARE_TARGETS),
    "Compare unknown", "Compact physical", "LeaseTimeToLive keys", "LeaseGrant ID picked by the server",
    *(f"WatchCreate {option}" for option in (
        "one key", "stretch", "from key on", "start_revision", "prev_kv", "filters", "fragment", "watch_id",
        "progress_notify")),
    *(f"error: {error}" for error in ERRORS),
    "watch with events", "watch compacted", "watch cancelled", "watch in fragments",
    "watch refused: mvcc: watcher range is empty",
    "watch refused: mvcc: duplicate watch ID provided on the WatchStream",
    "progress answered", "progress withheld", "Range more", "Txn succeeded", "Txn failed",
    "lease unknown to TimeToLive", "lease unknown to KeepAlive", "lease ended", "restart survived"]
# A run of so many seeds has seen all of it.
COMPLETE_SEEDS = 4_000


class Coverage:
    def __init__(self):
        self.counts = collections.Counter()

    def asked(self, sequence):
        for step in sequence:
            method, request = step["method"], step.get("request", {})
            self.counts[method] += 1
            self._request(method, request)
            if method == "LeaseEnd":
                self.counts["lease ended"] += len(request["leases"])

    def _request(self, method, request):
        if method in ("Range", "DeleteRange", "WatchCreate"):
            end = request.get("range_end")
            self.counts[f"{method} " + ("one key" if not end else "from key on" if end == "\0" else "stretch")] += 1
        if method == "Range":
            order, target = request.get("sort_order", 0), request.get("sort_target", 0)
            if order < len(ORDERS) and target < len(TARGETS):
                self.counts[f"Range sort {TARGETS[target]} {ORDERS[order]}"] += 1
        if method == "Txn":
            self.counts[f"Txn depth {self._txn(request)}"] += 1
            operations = request.get("success", []) + request.get("failure", [])
            if all("request_range" in operation for operation in operations):
                self.counts["Txn read-only"] += 1
        if method == "Put":
            value = request.get("value", "")
            self.counts["Put large"] += isinstance(value, dict)
            self.counts["Put empty"] += value == ""
        if method == "LeaseGrant" and not request.get("ID"):
            self.counts["LeaseGrant ID picked by the server"] += 1
        for option, value in request.items():
            if value:
                self.counts[f"{method} {option}"] += 1

    def _txn(self, request):
        """Counts what is inside and returns how deep it is."""
        for compare in request.get("compare", []):
            result, target = compare.get("result", 0), compare.get("target", 0)
            if max(result, target) >= len(COMPARE_TARGETS):
                self.counts["Compare unknown"] += 1
                continue
            self.counts[f"Compare {COMPARE_TARGETS[target]} {RESULTS[result]}"] += 1
            self.counts[f"Compare {COMPARE_TARGETS[target]} range_end"] += "range_end" in compare
        depth = 0
        for operation in request.get("success", []) + request.get("failure", []):
            for kind, inner in operation.items():
                self.counts[f"Txn {INNER[kind]} inside"] += 1
                if kind == "request_txn":
                    depth = max(depth, self._txn(inner))
        return depth + 1

    def answered(self, transcript):
        for entry in transcript:
            answer = entry.answer
            if isinstance(answer, Watch):
                self._watch(answer)
            elif entry.what == RESTART:
                self.counts["restart survived"] += not answer
            elif isinstance(answer, dict) and "message" in answer:
                message = answer["message"].split(" (")[0]
                self.counts[f"error: {message}"] += 1
            elif isinstance(entry.subject, ProgressRequest):
                self.counts["progress withheld" if not answer else "progress answered"] += 1
            elif isinstance(answer, Message) and isinstance(entry.subject, Call):
                self._answer(entry.subject.method, answer)

    def _watch(self, watch):
        if watch.is_refused:
            self.counts[f"watch refused: {watch.created.cancel_reason}"] += 1
        for response in watch.cancelled:
            self.counts["watch compacted" if response.compact_revision else "watch cancelled"] += 1
        self.counts["watch with events"] += bool(watch.events)
        self.counts["watch in fragments"] += watch.fragments > 0

    def _answer(self, method, answer):
        if method == "Range":
            self.counts["Range more"] += answer.more
        elif method == "Txn":
            self.counts["Txn succeeded" if answer.succeeded else "Txn failed"] += 1
        elif method == "LeaseTimeToLive":
            self.counts["lease unknown to TimeToLive"] += answer.TTL == -1
        elif method == "LeaseKeepAlive":
            self.counts["lease unknown to KeepAlive"] += answer.TTL == 0

    def missing(self):
        return [name for name in EXPECTED if not self.counts[name]]

    def table(self):
        others = sorted(name for name in self.counts if name not in EXPECTED and ": " in name)
        cells = [f"{self.counts[name]:>9} {name}" for name in EXPECTED + others]
        half = (len(cells) + 1) // 2
        width = max(map(len, cells[:half])) + 2
        rows = zip(cells[:half], cells[half:] + [""] * (2 * half - len(cells)))
        return "\n".join(f"{left:{width}}{right}" for left, right in rows)
