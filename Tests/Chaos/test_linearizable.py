"""The checker of registers itself: histories that are right, histories that are wrong, and random ones beside a search
that tries all orders."""

import itertools
import random
import unittest

from linearizable import ANY, NONE, RegisterOperation, check


def read(start, end, value):
    return RegisterOperation("read", start, end, observed=value)


def write(start, end, value, observed=ANY):
    return RegisterOperation("write", start, end, value=value, observed=observed)


def delete(start, end, succeeded=None, observed=ANY):
    return RegisterOperation("delete", start, end, succeeded=succeeded, observed=observed)


def compare(start, end, expected, value, succeeded=None, observed=ANY):
    return RegisterOperation(
        "compare", start, end, value=value, expected=expected, succeeded=succeeded, observed=observed)


class GoodHistories(unittest.TestCase):
    def good(self, *operations):
        verdict = check(operations)
        self.assertTrue(verdict.is_linearizable, verdict.culprit and verdict.sentence("the register"))

    def test_one_after_another(self):
        self.good(read(0, 1, NONE), write(2, 3, 1), read(4, 5, 1),
                  delete(6, 7, True), read(8, 9, NONE), delete(10, 11, False))

    def test_a_concurrent_read_may_see_either(self):
        self.good(write(0, 1, 1), write(2, 10, 2), read(3, 4, 1), read(5, 6, 2))

    def test_a_write_of_unknown_fate_takes_effect_late(self):
        self.good(write(0, None, 1), write(2, 3, 2), read(4, 5, 2), read(6, 7, 1), read(8, 9, 1))

    def test_a_write_of_unknown_fate_never_takes_effect(self):
        self.good(write(0, 1, 1), write(2, None, 2), read(4, 5, 1), read(90, 91, 1))

    def test_a_delete_of_unknown_fate(self):
        self.good(write(0, 1, 1), delete(2, None), delete(2, None), read(4, 5, 1), read(6, 7, NONE), write(8, 9, 2),
                  read(10, 11, NONE))

    def test_a_comparison_of_unknown_fate(self):
        self.good(write(0, 1, 1), compare(2, None, 1, 2), read(3, 4, 1), read(5, 6, 2))

    def test_comparisons_race_and_one_wins(self):
        self.good(write(0, 1, 1), compare(2, 5, 1, 2, True), compare(2, 5, 1, 3, False, observed=2), read(6, 7, 2))

    def test_an_exchange_tells_what_was_there(self):
        self.good(write(0, 5, 1, observed=2), write(0, 5, 2, observed=NONE), read(6, 7, 1))

    def test_many_unknown_writes_do_not_stop_the_search(self):
        operations = [write(0, None, n) for n in range(200)] + [delete(0, None) for _ in range(40)]
        operations += [write(1 + n, 1.5 + n, 1000 + n) for n in range(100)]
        operations += [read(1.6 + n, 1.7 + n, 1000 + n) for n in range(100)]
        operations += [read(200, 201, 7), read(202, 203, NONE), read(204, 205, 8)]
        self.good(*operations)


class BadHistories(unittest.TestCase):
    def bad(self, *operations):
        verdict = check(operations)
        self.assertIs(verdict.is_linearizable, False)
        self.assertIn("no order explains", verdict.sentence("the register"))
        return verdict

    def test_a_stale_read(self):
        stale = read(4, 5, 1)
        self.assertIs(self.bad(write(0, 1, 1), write(2, 3, 2), stale).culprit, stale)

    def test_reads_that_go_back(self):
        self.bad(write(0, 1, 1), write(2, 20, 2), read(3, 4, 2), read(5, 6, 1))

    def test_a_lost_update(self):
        """Two comparisons with the same value have both won."""
        self.bad(write(0, 1, 1), compare(2, 5, 1, 2, True), compare(2, 5, 1, 3, True), read(6, 7, 3))

    def test_an_acknowledged_write_is_lost(self):
        self.bad(write(0, 1, 1), write(2, 3, 2, observed=1), read(4, 5, 1))

    def test_a_value_out_of_nowhere(self):
        self.bad(write(0, 1, 1), read(2, 3, 9))

    def test_a_read_of_the_future(self):
        self.bad(read(0, 1, 1), write(2, 3, 1))

    def test_a_write_of_unknown_fate_takes_effect_twice(self):
        self.bad(write(0, None, 1), read(1, 2, 1), write(3, 4, 2), read(5, 6, 2), read(7, 8, 1))

    def test_a_delete_of_unknown_fate_deletes_twice(self):
        self.bad(write(0, 1, 1), delete(2, None), read(3, 4, NONE), write(5, 6, 2), read(7, 8, NONE))

    def test_a_refused_comparison_that_should_have_held(self):
        self.bad(write(0, 1, 1), compare(2, 3, 1, 2, False))

    def test_a_delete_that_found_nothing(self):
        self.bad(write(0, 1, 1), delete(2, 3, False))

    def test_an_exchange_that_saw_the_wrong_value(self):
        self.bad(write(0, 1, 1), write(2, 3, 2), write(4, 5, 3, observed=1))

    def test_a_search_that_is_too_wide_is_not_called_good(self):
        operations = [write(0, 100, n) for n in range(30)]
        self.assertIsNone(check(operations + [read(50, 60, 3)], most_configurations=100).is_linearizable)


def all_orders(operations):
    """The definition, tried out: some subset of the unknown ones, in some order that keeps real time, explains all."""
    known = [operation for operation in operations if operation.end is not None]
    unknown = [operation for operation in operations if operation.end is None]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            if _ordered(known + list(some), NONE):
                return True
    return False


def _ordered(rest, state):
    if not rest:
        return True
    first_end = min((operation.end for operation in rest if operation.end is not None), default=float("inf"))
    for operation in rest:
        if operation.start <= first_end:
            fits, after = operation.step(state)
            if fits and _ordered([other for other in rest if other is not operation], after):
                return True
    return False


class RandomHistories(unittest.TestCase):
    def history(self, draw):
        """A true run of a register with its results, some then falsified, some fates forgotten."""
        operations, state, clock = [], NONE, 0.0
        for number in range(1, draw.randint(3, 7)):
            clock += draw.uniform(0, 1)
            kind = draw.choice(("read", "write", "delete", "compare"))
            expected = draw.choice((state, number - 1))
            operation = RegisterOperation(
                kind, clock - draw.uniform(0, 2), clock + draw.uniform(0, 2), number, expected)
            operation.observed = draw.choice((state, ANY)) if kind != "read" else state
            if kind == "compare":
                operation.succeeded = state == expected
            elif kind == "delete":
                operation.succeeded = draw.choice((None, state is not NONE))
            state = operation.step(state)[1]
            operations.append(operation)
        for operation in operations:
            chance = draw.random()
            if chance < 0.25:
                operation.end, operation.observed, operation.succeeded = None, ANY, None
            elif chance < 0.4 and operation.observed is not ANY:
                operation.observed = draw.choice((NONE, *range(1, 6)))
        return [operation for operation in operations if operation.end is not None or operation.kind != "read"]

    def test_the_search_agrees_with_all_orders(self):
        draw = random.Random(4)
        verdicts = {True: 0, False: 0}
        for _ in range(3_000):
            operations = self.history(draw)
            expected = all_orders(operations)
            verdicts[expected] += 1
            self.assertIs(check(operations).is_linearizable, expected, operations)
        self.assertGreater(min(verdicts.values()), 300, verdicts)


if __name__ == "__main__":
    unittest.main()
