"""Makes a sequence that shows a difference as small as time allows."""

import copy
import time


def shrink(sequence, fails, seconds):
    """The smallest sequence found for which `fails(sequence)` still holds. `fails(sequence)` must hold."""
    end = time.monotonic() + seconds
    sequence = copy.deepcopy(sequence)
    is_smaller = True
    while is_smaller and time.monotonic() < end:
        is_smaller = False
        for candidates in (_without_chunks, _with_simpler_steps):
            found = True
            while found and time.monotonic() < end:
                found = next(
                    (smaller for smaller in candidates(sequence) if time.monotonic() < end and fails(smaller)), None)
                if found:
                    sequence, is_smaller = found, True
    return sequence


def _without_chunks(sequence):
    size = len(sequence) // 2
    while size >= 1:
        for start in range(len(sequence) - size, -1, -size):
            yield sequence[:start] + sequence[start + size:]
        size //= 2


def _with_simpler_steps(sequence):
    for index, step in enumerate(sequence):
        for request in _simpler(step["request"]):
            yield sequence[:index] + [{**step, "request": request}] + sequence[index + 1:]


def _simpler(value):
    """The value with one part left out, at any depth."""
    if isinstance(value, dict):
        for name in value:
            yield {other: inner for other, inner in value.items() if other != name}
        for name, inner in value.items():
            for smaller in _simpler(inner):
                yield {**value, name: smaller}
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value[:index] + value[index + 1:]
        for index, inner in enumerate(value):
            for smaller in _simpler(inner):
                yield value[:index] + [smaller] + value[index + 1:]
