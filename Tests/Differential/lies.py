"""Does the comparison see anything? Small lies are put into the product's answers, and each must be found."""

import random

from generator import Generator, step
from protocol import Client

MOST_SEEDS = 60
BURST = [step("Burst", {"seed": 5, "rounds": 3})]
RESTART = [step("LeaseGrant", {"ID": 1, "TTL": 1000}), step("Put", {"key": "a", "lease": 1}), step("Restart")]


class LyingClient(Client):
    """`lie(method, answer)` changes an answer of the method in place; `lie("close", self)` comes before a restart."""

    def __init__(self, port, methods, lie):
        super().__init__(port, methods)
        self.lie = lie

    def call(self, name, request):
        return self._told(name, super().call(name, request))

    def start(self, name, request):
        finish = super().start(name, request)
        return lambda: self._told(name, finish())

    def watch(self, requests):
        return LyingCall(super().watch(requests), self.lie)

    def close(self):
        self.lie("close", self)
        super().close()

    def _told(self, name, outcome):
        answer, error = outcome
        if answer is not None:
            self.lie(name, answer)
        return answer, error


class LyingCall:
    def __init__(self, call, lie):
        self.call, self.lie, self.cancel = call, lie, call.cancel

    def __iter__(self):
        for response in self.call:
            self.lie("Watch", response)
            if response.events or response.created or response.canceled or response.watch_id == -1:
                yield response


def _clears_previous(method, answer):
    if method == "Put":
        answer.ClearField("prev_kv")


def _forgets_a_key(method, answer):
    if method == "Range" and answer.kvs:
        del answer.kvs[-1]


def _takes_the_other_branch(method, answer):
    if method == "Txn":
        answer.succeeded = not answer.succeeded


def _is_a_revision_ahead(method, answer):
    if method == "Put":
        answer.header.revision += 1


def _lengthens_leases(method, answer):
    if method == "LeaseTimeToLive" and answer.TTL > 0:
        answer.TTL += 3


def _hashes_all_alike(method, answer):
    if method == "HashKV":
        answer.hash = 7


def _hashes_at_random(method, answer):
    if method == "HashKV":
        answer.hash = random.randrange(1, 1 << 32)


def _loses_a_watch_event(method, answer):
    if method == "Watch" and any(event.kv.key == b"a" for event in answer.events):
        del answer.events[0]


def _loses_an_event_of_a_burst(method, answer):
    if method == "Watch" and any(event.kv.value.startswith(b"1.") for event in answer.events):
        del answer.events[0]


def _clears_a_watchs_previous(method, answer):
    if method == "Watch":
        for event in answer.events:
            event.ClearField("prev_kv")


def _adds_a_key_at_a_restart(method, client):
    if method == "close":
        Client.call(client, "Put", client.request("Put", {"key": "extra"}, None))


def _loses_a_lease_at_a_restart(method, client):
    if method == "close":
        Client.call(client, "LeaseRevoke", client.request("LeaseRevoke", {"ID": 1}, None))


LIES = [
    (_clears_previous, None), (_forgets_a_key, None), (_takes_the_other_branch, None), (_is_a_revision_ahead, None),
    (_lengthens_leases, None), (_hashes_all_alike, None), (_hashes_at_random, None), (_loses_a_watch_event, None),
    (_clears_a_watchs_previous, None), (_clears_previous, BURST), (_forgets_a_key, BURST),
    (_takes_the_other_branch, BURST), (_is_a_revision_ahead, BURST), (_loses_an_event_of_a_burst, BURST),
    (_adds_a_key_at_a_restart, RESTART), (_loses_a_lease_at_a_restart, RESTART)]


def undetected(campaign):
    """The lies that were not found, by name. The campaign's servers must run."""
    missed = []
    product = campaign.pair.sides[1]
    for lie, sequence in LIES:
        product.reconnect(lambda port, methods: LyingClient(port, methods, lie))
        sequences = [sequence] if sequence else (Generator(seed).sequence() for seed in range(MOST_SEEDS))
        if not any(campaign.difference(candidate) for candidate in sequences):
            missed.append(lie.__name__.strip("_"))
        product.reconnect(Client)
        if campaign.difference(BURST):
            missed.append("the truth is taken for a lie")
    return missed
