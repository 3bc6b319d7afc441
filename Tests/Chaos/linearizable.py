"""Is a history of one register linearizable? A just-in-time search (Wing and Gong 1993, in Lowe's breadth-first form,
2017).

The history is read in the order of time. A configuration is what may be true so far: the register's value and which of
the operations under way have already taken effect. When an operation returns, only those configurations live on in
which it has taken effect before its return with the result that was answered; when none is left, no order explains
the answers.

An operation of unknown fate is under way for ever: it may take effect at any moment after its start, or never. Two
rules keep these from doubling the search with each of them, and neither loses a solution:
 * a write of unknown fate whose value nobody ever saw is left out: in any order that holds it, the next operation that
   depends on the value is one that overwrites it unseen (every value is written by one operation only). It holds while
   every answer that depends on the value tells it: where one does not, all such writes stay in;
 * deletes of unknown fate are alike but for their start: the earliest that has not been used is used first.
"""

import math

NONE = None     # the value of a register that is not there
ANY = object()  # the answer did not say what was there


class RegisterOperation:
    """`kind`: read, write, delete or compare (compare with `expected`, write `value` when equal).
    `observed`: the value that was there before, as answered; ANY when the answer does not tell. `end`: None when the
    fate is unknown. `succeeded`: of a comparison, and of a delete (None: not told)."""

    __slots__ = ("kind", "start", "end", "value", "expected", "observed", "succeeded", "note")

    def __init__(self, kind, start, end, value=NONE, expected=NONE, observed=ANY, succeeded=None, note=""):
        self.kind, self.start, self.end = kind, start, end
        self.value, self.expected, self.observed, self.succeeded, self.note = value, expected, observed, succeeded, note

    def step(self, state):
        """(whether the answer fits this state, the state behind it)"""
        if self.observed is not ANY and self.observed != state:
            return False, state
        if self.kind == "read":
            return True, state
        if self.kind == "write":
            return True, self.value
        if self.kind == "delete":
            return self.succeeded is None or self.succeeded == (state is not NONE), NONE
        holds = state == self.expected
        if self.end is not None and self.succeeded != holds:
            return False, state
        return True, self.value if holds else state

    def __repr__(self):
        what = {
            "read": "read", "write": f"write {self.value}", "delete": "delete",
            "compare": f"compare {self.expected} and write {self.value}"}[self.kind]
        told = "" if self.observed is ANY else f" saw {self.observed}"
        told += "" if self.succeeded is None else f" {'succeeded' if self.succeeded else 'did not succeed'}"
        end = "?" if self.end is None else f"{self.end:.6f}"
        return f"[{self.start:.6f} … {end}] {what}{told} {self.note}".rstrip()


class Verdict:
    """`is_linearizable` is None when the search was given up. `culprit`: the operation whose answer nothing explains;
    `around`: those under way or just ended when it returned."""

    def __init__(self, is_linearizable, culprit=None, around=(), states=()):
        self.is_linearizable, self.culprit, self.around, self.states = is_linearizable, culprit, around, states

    def sentence(self, key):
        if self.is_linearizable is None:
            return f"{key}: the search for an order was given up at {self.culprit}"
        lines = [f"{key} is not linearizable: no order explains {self.culprit}",
                 f"    before it the value can have been: {sorted(map(str, self.states))[:8]}"]
        return "\n".join(lines + [f"    {operation}" for operation in self.around])


def check(operations, most_configurations=200_000):
    """A Verdict on the operations of one register that begins absent."""
    operations = _relevant(operations)
    moments = []
    for index, operation in enumerate(operations):
        # At the same moment a start comes first: that allows more.
        moments.append((operation.start, 0, index))
        if operation.end is not None:
            moments.append((operation.end, 1, index))
    moments.sort()
    under_way = []
    configurations = {(NONE, 0)}
    for _, is_return, index in moments:
        if not is_return:
            under_way.append(index)
            continue
        before = configurations
        configurations = _returning(operations, under_way, before, index, most_configurations)
        if configurations is None:
            return Verdict(None, operations[index])
        if not configurations:
            return Verdict(
                False, operations[index], _around(operations, index), {state for state, _ in before})
        under_way.remove(index)
    return Verdict(True)


def _relevant(operations):
    seen = {operation.observed for operation in operations if operation.end is not None}
    seen |= {operation.expected for operation in operations
             if operation.kind == "compare" and operation.end is not None and operation.succeeded}
    # What a comparison of unknown fate must have found, if its own value was seen, counts as seen.
    grows = True
    while grows:
        before = len(seen)
        seen |= {operation.expected for operation in operations
                 if operation.kind == "compare" and operation.end is None and operation.value in seen}
        grows = len(seen) > before
    is_vague = any(
        operation.end is not None and operation.observed is ANY and (
            operation.succeeded is not None if operation.kind == "delete" else operation.succeeded is False)
        for operation in operations)
    return sorted(
        (operation for operation in operations if operation.end is not None or operation.kind == "delete"
         or (operation.kind != "read" and (is_vague or operation.value in seen))),
        key=lambda operation: operation.start)


def _returning(operations, under_way, configurations, index, most):
    """The configurations in which operation `index` has taken effect, without its mark; None when they are too many."""
    bit = 1 << index
    done = {(state, marks & ~bit) for state, marks in configurations if marks & bit}
    seen = {configuration for configuration in configurations if not configuration[1] & bit}
    stack = list(seen)
    while stack:
        state, marks = stack.pop()
        has_used_delete = False
        for other in under_way:
            if marks >> other & 1:
                continue
            operation = operations[other]
            if operation.end is None and operation.kind == "delete":
                if has_used_delete or state is NONE:
                    continue
                has_used_delete = True
            fits, after = operation.step(state)
            if not fits or (operation.end is None and after == state):
                continue
            if other == index:
                done.add((after, marks))
                continue
            found = (after, marks | 1 << other)
            if found not in seen:
                seen.add(found)
                stack.append(found)
        if len(seen) > most:
            return None
    return done


def _around(operations, index, most=14):
    culprit = operations[index]
    near = [
        operation for operation in operations if operation is not culprit and operation.start <= culprit.end
        and (math.inf if operation.end is None else operation.end) >= culprit.start - 0.5]
    earlier = [operation for operation in operations if operation.end is not None and operation.end < culprit.start]
    near += [operation for operation in sorted(earlier, key=lambda operation: operation.end)[-4:]
             if operation not in near]
    return sorted(near, key=lambda operation: operation.start)[-most:]
