"""What counts as the same answer, and the few places where the control is knowingly not the model.

Some things are not compared because they are not sent: what kills the control (see the generator's transactions), and
sort options that do not exist (3.4.23 panics or ignores them, 3.5 refuses them as Leasehold does).
"""

import copy
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Deviation:
    """A place where the control, 3.4.23, answers at random, or otherwise than etcd 3.5, which Leasehold follows.

    `adapt(subject, control, product)` returns both answers with exactly this difference taken out, as new values or
    untouched. The subject of an answer is its step, of a watch's facts its `WatchStart`.
    """

    name: str
    reason: str
    subject: type
    adapt: Callable


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


def _order_lease_keys(step, control, product):
    if step["method"] != "LeaseTimeToLive":
        return control, product
    return tuple(
        {**answer, "keys": sorted(answer["keys"])} if "keys" in answer else answer for answer in (control, product))


def _allow_a_second(step, control, product):
    if step["method"] != "LeaseTimeToLive":
        return control, product
    remaining = [answer.get("TTL", 0) for answer in (control, product)]
    if min(remaining) < 1 or abs(remaining[0] - remaining[1]) > 1:
        return control, product
    return control, {**product, "TTL": control["TTL"]}


def _add_compacted_deletes(start, control, product):
    if not start.compacted_events or control["created"].get("canceled"):
        return control, product
    told = [event for event in control["events"] if event["kv"]["mod_revision"] == start.revision]
    later = control["events"][len(told):]
    owed = [event for event in start.compacted_events if event.get("type") or event in told]
    return {**control, "events": owed + later}, product


def _drop_early_progress(request, control, product):
    return ([], product) if request.waits else (control, product)


DEVIATIONS = [
    Deviation(
        "order of a lease's keys",
        "etcd lists them in the order of a Go map, which is random", dict, _order_lease_keys),
    Deviation(
        "remaining TTL", "whole seconds of two clocks that are read a moment apart: ±1 s", dict, _allow_a_second),
    Deviation(
        "watch from a compacted DELETE",
        "a watch that starts at the compaction's own revision is allowed; 3.4.23 has dropped a DELETE at that revision "
        "and skips it silently, later releases keep and send it", WatchStart, _add_compacted_deletes),
    Deviation(
        "progress on a stream with a watch of the future",
        "3.4.23 answers at once; 3.5 (since 3.5.8) keeps silent as long as a watch of the stream is not up to date or "
        "starts after the present revision", ProgressRequest, _drop_early_progress),
]


def adapted(subject, control, product):
    """Both answers without the deliberate deviations: equal when nothing else differs."""
    control, product = copy.deepcopy(control), copy.deepcopy(product)
    for deviation in DEVIATIONS:
        if isinstance(subject, deviation.subject):
            control, product = deviation.adapt(subject, control, product)
    return control, product
