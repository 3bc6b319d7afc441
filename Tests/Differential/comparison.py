"""What counts as the same answer, and the few places where the control is knowingly not the model.

What kills the control is not sent (see the generator's transactions). What a restart must keep is checked on each
server by itself: 3.4.23, killed before its engine's next commit, replays its log to another state when a transaction
had been refused for a revision that was compacted then. Remaining TTLs are checked against each client's own clock
(`LeaseTimes`): after a restart etcd gives every lease its full TTL again, Leasehold what was left of it.
"""

import copy
from dataclasses import dataclass
from typing import Callable

from google.protobuf.message import Message

from protocol import plain
from watches import Watch

# Up to so many elements Go's sort is stable.
STABLE_SORT = 12
SORT_FIELDS = {1: "version", 2: "create_revision", 3: "mod_revision", 4: "value"}
# What an entry about a restart is called. Its answer holds what was not as before.
RESTART = "a restart changed something"


@dataclass(frozen=True)
class Deviation:
    """A place where the control, 3.4.23, answers at random, or otherwise than etcd 3.5, which Leasehold follows.

    `adapt(subject, control, product)` returns both answers with exactly this difference taken out, as new values or
    untouched. The subject of an answer is its `Call`, of a watch's facts its `WatchStart`.
    """

    name: str
    reason: str
    subject: type
    adapt: Callable


@dataclass(frozen=True)
class Call:
    """A request. `compacted`: the revision compacted last, where it matters."""

    method: str
    request: dict
    compacted: int = 0


@dataclass(frozen=True)
class WatchStart:
    """Where a watch began: its first revision, and the compaction in force then. When these are one, also the events
    of that revision that the watch wants, in order (a compacted revision's events have no previous value)."""

    revision: int
    compacted: int
    compacted_events: tuple = ()


@dataclass(frozen=True)
class ProgressRequest:
    """Asked on a stream of which every watch is up to date. `waits`: one of them starts in the future."""

    waits: bool


@dataclass
class Entry:
    """One thing that a server said in the course of a sequence: at step `index`, in answer to `subject`. An answer is a
    message, an error or other facts as a dictionary, a list of these, or a watch with all it was sent."""

    index: int
    what: str
    subject: object
    answer: object


def _order_lease_keys(call, control, product):
    if call.method != "LeaseTimeToLive":
        return control, product
    return tuple(
        {**answer, "keys": sorted(answer["keys"])} if "keys" in answer else answer for answer in (control, product))


def _add_compacted_deletes(start, control, product):
    if not start.compacted_events or control["created"].get("canceled"):
        return control, product
    told = [event for event in control["events"] if event["kv"]["mod_revision"] == start.revision]
    later = control["events"][len(told):]
    # Only the last event of each key outlives the compaction.
    last = {event["kv"]["key"]: event for event in start.compacted_events}
    owed = [
        event for event in start.compacted_events
        if event is last[event["kv"]["key"]] and (event.get("type") or event in told)]
    return {**control, "events": owed + later}, product


def _drop_early_progress(request, control, product):
    return ([], product) if request.waits else (control, product)


def _order_ties(call, control, product):
    if call.method == "Range":
        return _tie(call.request, control, product), product
    if call.method == "Txn":
        return _tie_inside(call.request, control, product), product
    return control, product


def _tie_inside(txn, control, product):
    operations = txn.get("success" if control.get("succeeded") else "failure", [])
    answers = [answer.get("responses", []) for answer in (control, product)]
    if not len(operations) == len(answers[0]) == len(answers[1]):
        return control
    tied = []
    for operation, ours, theirs in zip(operations, *answers):
        for kind, reply, work in (("range", "response_range", _tie), ("txn", "response_txn", _tie_inside)):
            if f"request_{kind}" in operation and reply in ours and reply in theirs:
                ours = {**ours, reply: work(operation[f"request_{kind}"], ours[reply], theirs[reply])}
        tied.append(ours)
    return {**control, "responses": tied} if tied else control


def _tie(request, control, product):
    """The control's answer with equals in the order of their keys; of those that a limit cuts, the product's choice."""
    field = SORT_FIELDS.get(request.get("sort_target", 0))
    found, wanted = control.get("kvs", []), product.get("kvs", [])
    if field is None or not found or control.get("count", 0) <= STABLE_SORT or len(found) != len(wanted):
        return control
    if [record.get(field) for record in found] != [record.get(field) for record in wanted]:
        return control
    tied, start = [], 0
    while start < len(found):
        end = start
        while end < len(found) and found[end].get(field) == found[start].get(field):
            end += 1
        group = sorted(found[start:end], key=lambda record: record["key"])
        is_cut = control.get("more") and end == len(found)
        tied += wanted[start:end] if is_cut else group
        start = end
    return {**control, "kvs": tied}


def _add_alarm_header(call, control, product):
    if call.method != "Alarm" or "header" in control or "error" in control or "header" not in product:
        return control, product
    return {**control, "header": product["header"]}, product


def _drop_version(call, control, product):
    if call.method != "Status" or "version" not in control or "version" not in product:
        return control, product
    return {**control, "version": "3.5"}, {**product, "version": product["version"][:3]}


def _hash_at_compaction(call, control, product):
    if call.method != "HashKV" or call.request["resolved"] != call.compacted:
        return control, product
    is_refused = [answer.get("message") for answer in control["answers"]] == [
        "etcdserver: mvcc: required revision has been compacted"] * 2
    return (product, product) if is_refused and not product["complaints"] and all(
        "hash" in answer for answer in product["answers"]) else (control, product)


def _forgive_the_controls_hashes(call, control, product):
    if call.method != "HashKV":
        return control, product
    return {**control, "complaints": []}, product


DEVIATIONS = [
    Deviation(
        "order of a lease's keys",
        "etcd lists them in the order of a Go map, which is random", Call, _order_lease_keys),
    Deviation(
        "order of equals",
        "with more than 12 keys, those that tie under a sort come in the order that Go's unstable sort leaves; "
        "Leasehold's is that of the keys", Call, _order_ties),
    Deviation(
        "watch from a compacted DELETE",
        "a watch that starts at the compaction's own revision is allowed; 3.4.23 has dropped a DELETE at that revision "
        "and skips it silently, later releases keep and send it", WatchStart, _add_compacted_deletes),
    Deviation(
        "progress on a stream with a watch of the future",
        "3.4.23 answers at once; 3.5 (since 3.5.8) keeps silent as long as a watch of the stream is not up to date or "
        "starts after the present revision", ProgressRequest, _drop_early_progress),
    Deviation(
        "HashKV at the compaction's own revision",
        "3.4.23 refuses it, 3.5 (since 3.5.6) answers", Call, _hash_at_compaction),
    Deviation(
        "HashKV during a compaction",
        "3.4.23 gives one revision several hashes while it is still removing what was compacted; Leasehold must not",
        Call, _forgive_the_controls_hashes),
    Deviation(
        "header of an Alarm's answer", "3.4.23 leaves it out, 3.5 fills it in", Call, _add_alarm_header),
    Deviation(
        "version", "Leasehold is a 3.5", Call, _drop_version),
]

# What 3.4.23 cannot be asked, with the answer of 3.5: the control is taken to have given it.
KNOWN_ANSWERS = [
    (
        "sort options that do not exist: 3.4.23 panics or ignores them",
        lambda call: call.method == "Range" and call.request.get("key") and (
            call.request.get("sort_order", 0) > 2 or call.request.get("sort_target", 0) > 4),
        {"error": "INVALID_ARGUMENT", "message": "etcdserver: invalid sort option"}),
]


def known_answer(call):
    return next((answer for _, applies, answer in KNOWN_ANSWERS if applies(call)), None)


def adapted(subject, control, product):
    """Both answers without the deliberate deviations: equal when nothing else differs."""
    control, product = copy.deepcopy(control), copy.deepcopy(product)
    for deviation in DEVIATIONS:
        if isinstance(subject, deviation.subject):
            control, product = deviation.adapt(subject, control, product)
    return control, product


def as_facts(answer, names):
    if isinstance(answer, Message):
        return plain(answer, names)
    if isinstance(answer, Watch):
        return answer.facts(names)
    if isinstance(answer, list):
        return [as_facts(part, names) for part in answer]
    return answer


def first_difference(control, product, names):
    """The first pair of entries that differ, as (entry, facts of the control, facts of the product); or nothing.
    `names`: how each side's leases are called."""
    for ours, theirs in zip(control, product):
        if ours.what == theirs.what == RESTART and ours.answer and not theirs.answer:
            # The control has broken its own word; nothing after this can be compared.
            return None
        if (ours.index, ours.what) != (theirs.index, theirs.what):
            return ours, {ours.what: as_facts(ours.answer, names[0])}, {theirs.what: as_facts(theirs.answer, names[1])}
        if _are_same(ours, theirs):
            continue
        facts = [as_facts(entry.answer, side) for entry, side in zip((ours, theirs), names)]
        try:
            left, right = adapted(ours.subject, *facts)
        except (KeyError, TypeError):
            # An answer of another shape than a deviation knows is none.
            left, right = facts
        if left != right:
            return ours, *facts
    if len(control) != len(product):
        rest = max(control, product, key=len)[min(len(control), len(product))]
        return rest, {"entries": len(control)}, {"entries": len(product)}
    return None


def _are_same(control, product):
    if isinstance(control.answer, Watch):
        # A deviation may owe something that both have left out.
        return not control.subject.compacted_events and control.answer.is_same(product.answer)
    return control.answer == product.answer
