"""Loads in turn on all servers, round after round, and the medians of what they came to."""

import statistics

import tools


class Sample:
    """One load on one server in one round."""

    def __init__(self, server, load):
        before = server.cpu_seconds()
        outcome = load.run(server)
        self.cpu_ms = (server.cpu_seconds() - before) * 1_000_000 / outcome.count
        self.rate = outcome.count / outcome.seconds
        self.p50_ms = outcome.p50_ms
        self.p99_ms = outcome.p99_ms
        self.refused = outcome.refused / (outcome.count + outcome.refused)


class Figures:
    """The medians of one load on one server. `cpu_ms`: per 1,000 requests; `rate`: requests a second; `refused`: the
    share that was not served."""

    def __init__(self, samples):
        def median(pick):
            values = [pick(s) for s in samples if pick(s) is not None]
            return statistics.median(values) if values else None

        self.cpu_ms = median(lambda s: s.cpu_ms)
        self.rate = median(lambda s: s.rate)
        self.p50_ms = median(lambda s: s.p50_ms)
        self.p99_ms = median(lambda s: s.p99_ms)
        self.refused = median(lambda s: s.refused)


def measure(members, chosen, rounds):
    """`members`: the servers under comparison. Returns {load: [Figures of each server]}."""
    samples = {load.name: [[] for _ in members] for load in chosen}
    for number in range(rounds):
        for load in chosen:
            order = list(enumerate(members))
            for index, server in order if number % 2 == 0 else reversed(order):
                tools.say(f"round {number + 1}/{rounds}: {load.name}: {server.name}")
                samples[load.name][index].append(Sample(server, load))
    return {name: [Figures(of_server) for of_server in per_server] for name, per_server in samples.items()}
