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
    """Where a watch began: its first revision, and the compaction in force then."""

    revision: int
    compacted: int


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
    if step["method"] != "LeaseTimeToLive" or abs(control.get("TTL", 0) - product.get("TTL", 0)) > 1:
        return control, product
    return control, {**product, "TTL": control.get("TTL", 0)} if "TTL" in control else product


def _drop_compacted_delete(start, control, product):
    if start.revision != start.compacted:
        return control, product
    return tuple(
        {**facts, "events": [
            event for event in facts["events"]
            if not (event.get("type") and event["kv"]["mod_revision"] == start.compacted)]}
        for facts in (control, product))


def _drop_early_progress(request, control, product):
    return ([], product) if request.waits else (control, product)


DEVIATIONS = [
    Deviation(
        "order of a lease's keys", "etcd lists them in the order of a Go map, which is random", dict, _order_lease_keys),
    Deviation(
        "remaining TTL", "whole seconds of two clocks that are read a moment apart: ±1 s", dict, _allow_a_second),
    Deviation(
        "watch from a compacted DELETE",
        "a watch that starts at the compaction's own revision is allowed; 3.4.23 has dropped a DELETE at that revision "
        "and skips it silently, later releases keep and send it", WatchStart, _drop_compacted_delete),
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
