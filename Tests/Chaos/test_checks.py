"""The other checks on histories that are known: the true one passes, and each way of corrupting it is found."""

import copy
import types
import unittest

import shared
from cluster_load import ClusterLedger, PatientOracle, Reading
from ledger import DELETE, PUT
from orders import Answer, reading_violations, real_time_violations
from watch_promises import History, violations as watch_violations
from observers import Watch


def made(value, revision, create=None, version=1, lease=0):
    return (b"%d." % value, lease, create or revision, revision, version)


# Revision → events. 4 is a transaction, 6 the end of lease 7.
EVENTS = {
    2: [(PUT, b"a", made(1, 2))],
    3: [(PUT, b"b", made(2, 3, lease=7))],
    4: [(PUT, b"a", made(3, 4, 2, 2)), (PUT, b"c", made(3, 4, lease=7))],
    5: [(DELETE, b"a", None)],
    6: [(DELETE, b"b", None), (DELETE, b"c", None)],
    7: [(PUT, b"a", made(5, 7))],
}


class Orders(unittest.TestCase):
    def answers(self, *rows):
        return [Answer(start, end, revision, changes, f"answer {n}")
                for n, (start, end, revision, changes) in enumerate(rows)]

    def test_good(self):
        rows = ((0, 1, 2, True), (0.5, 3, 4, True), (2, 4, 3, True), (5, 6, 4, False), (7, 8, 4, False))
        self.assertEqual(list(real_time_violations(self.answers(*rows))), [])

    def test_a_read_falls_behind_a_write(self):
        self.assertEqual(len(list(real_time_violations(self.answers((0, 1, 5, True), (2, 3, 4, False))))), 1)

    def test_a_write_has_the_revision_of_a_read_before_it(self):
        self.assertEqual(len(list(real_time_violations(self.answers((0, 1, 5, False), (2, 3, 5, True))))), 1)

    def test_an_answer_in_between_hides_nothing(self):
        rows = ((0, 1, 9, True), (0.1, 2, 3, True), (5, 6, 8, False))
        self.assertEqual(len(list(real_time_violations(self.answers(*rows)))), 1)


class Readings(unittest.TestCase):
    def setUp(self):
        self.ledger = ClusterLedger(PatientOracle())
        self.ledger.events = copy.deepcopy(EVENTS)
        self.ledger.seen = {revision: float(revision) for revision in EVENTS}
        self.ledger.last = 7
        self.write("put", 2, ("put", b"a", b"1.", 0))
        self.write("put", 3, ("put", b"b", b"2.", 7))
        self.write("txn", 4, ("put", b"a", b"3.", 0), ("put", b"c", b"3.", 7))
        self.write("delete", 5, ("delete", b"a", b""))
        self.write("put", None, ("put", b"a", b"5.", 0))

    def write(self, kind, revision, *parts):
        operation = self.ledger.begin(kind, lambda number: parts)
        self.ledger.finish(operation, "acknowledged" if revision else "unknown", revision, 1)
        return operation

    def reading(self, revision, found, key=b"\0", range_end=b"\0"):
        reading = Reading.__new__(Reading)
        reading.member, reading.start, reading.end, reading.is_serializable = "m1", 0.0, 1.0, True
        reading.key, reading.range_end, reading.asked_revision, reading.revision = key, range_end, 0, revision
        reading.found = found
        return reading

    def violations(self, *readings):
        return list(reading_violations(self.ledger, readings, 7)) + self.ledger.violations

    def test_past_states(self):
        self.assertEqual(self.violations(
            self.reading(4, {b"a": made(3, 4, 2, 2), b"b": made(2, 3, lease=7), b"c": made(3, 4, lease=7)}),
            self.reading(6, {}), self.reading(5, {}, b"a", b""), self.reading(2, {b"a": made(1, 2)}, b"a", b""),
            self.reading(7, {b"a": made(5, 7)})), [])

    def test_half_a_transaction_is_no_past_state(self):
        found = {b"a": made(3, 4, 2, 2), b"b": made(2, 3, lease=7)}
        self.assertIn("no past state", self.violations(self.reading(4, found))[0])

    def test_an_old_value_under_a_new_revision(self):
        self.assertIn("no past state", self.violations(self.reading(4, {b"a": made(1, 2)}, b"a", b""))[0])

    def test_a_revision_that_is_not_there(self):
        self.assertIn("the last there is is 7", self.violations(self.reading(8, {}))[0])

    def test_a_lost_acknowledged_write(self):
        self.write("put", 8, ("put", b"z", b"6.", 0))
        self.ledger.check_state(7, [])
        self.assertIn("missing", "".join(self.ledger.violations))

    def test_a_write_that_was_refused_and_happened(self):
        next(op for op in self.ledger.operations.values() if op.fate == "unknown").fate = "refused"
        self.assertIn("not explained", self.violations()[0])

    def test_a_write_of_unknown_fate_that_happened_twice(self):
        self.ledger.events[8] = [(PUT, b"a", made(5, 8, 7, 2))]
        self.ledger.seen[8], self.ledger.last = 8.0, 8
        self.assertIn("not explained", "".join(list(reading_violations(self.ledger, [], 8)) + self.ledger.violations))

    def test_a_delete_that_was_taken_for_another_one(self):
        """Both are lost. The one that names a range came later than the other, though it was sent before."""
        self.write("delete", None, ("delete", b"p", b"r"))
        self.write("delete", None, ("delete", b"p", b""))
        for revision, key in ((8, b"p"), (10, b"p"), (11, b"q")):
            self.write("put", revision, ("put", key, b"%d." % (len(self.ledger.operations) + 1), 0))
        puts = {8: (b"p", made(8, 8)), 10: (b"p", made(9, 10)), 11: (b"q", made(10, 11))}
        for revision, (key, put) in puts.items():
            self.ledger.events[revision] = [(PUT, key, put)]
        self.ledger.events[9] = [(DELETE, b"p", None)]
        self.ledger.events[12] = [(DELETE, b"p", None), (DELETE, b"q", None)]
        self.ledger.seen.update({revision: float(revision) for revision in range(8, 13)})
        self.ledger.last = 12
        self.assertEqual(list(reading_violations(self.ledger, [], 12)) + self.ledger.violations, [])
        # A third one has nobody left.
        self.ledger.events[13] = [(PUT, b"p", made(11, 13))]
        self.write("put", 13, ("put", b"p", b"11.", 0))
        self.ledger.events[14] = [(DELETE, b"p", None)]
        self.ledger.seen.update({13: 13.0, 14: 14.0})
        self.ledger.last = 14
        self.ledger.replay(14)
        self.assertEqual(len(self.ledger.violations), 1)

    def test_one_revision_for_two_writes(self):
        self.write("put", 4, ("put", b"q", b"6.", 0))
        self.assertIn("revision 4 was answered to", self.violations()[0])

    def test_a_lease_takes_some_of_its_keys(self):
        self.ledger.events[6] = [(DELETE, b"b", None)]
        self.assertIn("revision 6 deletes", self.violations()[0])

    def test_what_the_sidecar_writes_needs_no_explanation_and_comes_alone(self):
        own = (PUT, b"/leasehold/x", made(0, 8))
        self.ledger.events[8], self.ledger.seen[8], self.ledger.last = [own], 8.0, 8
        self.ledger.check_state(8, [])
        self.assertNotIn("revision 8", " ".join(self.ledger.violations).replace("at revision 8", ""))
        self.assertIn("1 keys differ", self.ledger.violations[-1].replace("2 keys", "1 keys"))
        self.ledger.events[9] = [own, (PUT, b"a", made(6, 9))]
        self.ledger.seen[9], self.ledger.last = 9.0, 9
        self.ledger.replay(9)
        self.assertIn("and somebody's", self.ledger.violations[-1])

    def test_a_torn_transaction(self):
        del self.ledger.events[4][1]
        self.assertIn("revision 4 is txn", self.violations()[0])


class Watches(unittest.TestCase):
    def setUp(self):
        self.history = History(EVENTS)

    def watcher(self, start, groups, key=b"\0", range_end=b"\0", filters=(), progress=(), has_previous=False,
                canceled=None, compacted=None):
        watch = Watch("m1", start)
        watch.groups = [(revision, [(*event, None) if len(event) == 3 else event for event in events])
                        for revision, events in groups]
        watch.progress, watch.canceled, watch.compacted = list(progress), canceled, compacted
        return types.SimpleNamespace(
            key=key, range_end=range_end, filters=list(filters), watches=[watch], has_previous=has_previous)

    def groups(self, *revisions):
        return [(revision, list(EVENTS[revision])) for revision in revisions]

    def said(self, watcher, **options):
        return "".join(watch_violations(self.history, watcher, **options))

    def test_good(self):
        self.assertEqual(self.said(self.watcher(2, self.groups(2, 3, 4, 5, 6, 7), progress=[(7, 6), (3, 2)])), "")
        self.assertEqual(self.said(self.watcher(4, self.groups(4, 5))), "")
        self.assertEqual(self.said(self.watcher(5, [])), "")
        only_c = [(4, [EVENTS[4][1]]), (6, [EVENTS[6][1]])]
        self.assertEqual(self.said(self.watcher(2, only_c, b"c", b"", progress=[(5, 1)])), "")
        self.assertEqual(self.said(self.watcher(2, self.groups(5, 6), filters=[0])), "")

    def test_an_event_is_missing(self):
        self.assertIn("revision 4 was due", self.said(self.watcher(2, self.groups(2, 3, 5))))

    def test_an_event_comes_twice(self):
        self.assertTrue(self.said(self.watcher(2, self.groups(2, 3, 3, 4))))
        self.assertTrue(self.said(self.watcher(2, self.groups(2, 3, 4, 4))))

    def test_out_of_order(self):
        self.assertTrue(self.said(self.watcher(2, self.groups(2, 4, 3, 5))))

    def test_a_revision_in_two_parts(self):
        parts = [*self.groups(2, 3), (4, EVENTS[4][:1]), (4, EVENTS[4][1:])]
        self.assertIn("revision 4", self.said(self.watcher(2, parts)))

    def test_half_a_revision_at_the_end(self):
        self.assertIn("revision 4", self.said(self.watcher(2, [*self.groups(2, 3), (4, EVENTS[4][:1])])))

    def test_from_before_the_start(self):
        self.assertTrue(self.said(self.watcher(4, self.groups(3, 4))))

    def test_what_was_filtered_out(self):
        self.assertTrue(self.said(self.watcher(2, self.groups(4, 5), filters=[0])))

    def test_another_value(self):
        self.assertTrue(self.said(self.watcher(2, [(2, [(PUT, b"a", made(9, 2))])])))

    def test_progress_overtakes_events(self):
        watcher = self.watcher(2, self.groups(2, 3, 4), progress=[(4, 2)])
        self.assertIn("progress up to revision 4", self.said(watcher))
        self.assertEqual(self.said(watcher, progress_binds=False), "")

    def test_the_wrong_previous_value(self):
        wrong = [(4, [(*EVENTS[4][0], (b"9.", 2)), (*EVENTS[4][1], None)])]
        right = [(4, [(*EVENTS[4][0], (b"1.", 2)), (*EVENTS[4][1], None)])]
        self.assertIn("replaced", self.said(self.watcher(4, wrong, has_previous=True)))
        self.assertEqual(self.said(self.watcher(4, right, has_previous=True)), "")

    def test_compacted_where_nobody_has_compacted(self):
        watcher = self.watcher(2, [], canceled="compacted", compacted=5)
        self.assertIn("at most 0", self.said(watcher))
        self.assertEqual(self.said(watcher, compacted_at_most=5), "")

    def test_canceled_for_no_reason(self):
        self.assertIn("was canceled", self.said(self.watcher(2, [], canceled="because")))


class Leases(unittest.TestCase):
    """What the oracle of the end-to-end tests does not know: requests that live on behind a cut."""

    def oracle(self):
        oracle = PatientOracle(bound=1.0)
        oracle.grant(1, 5, 0.0, 0.1)
        oracle.keepalive(1, None, 4.0, None, 5.5)
        return oracle

    def test_a_renewal_of_unknown_fate_reaches_as_far_as_the_trouble(self):
        oracle = self.oracle()
        oracle.alive(1, 29.0, 29.1, "a put found it")
        oracle.settle([(3.0, 20.0)])
        self.assertEqual(oracle.check(), [])

    def test_and_no_further(self):
        oracle = self.oracle()
        oracle.alive(1, 33.0, 33.1, "a put found it")
        oracle.settle([(3.0, 20.0)])
        self.assertIn("late", "".join(oracle.check()))

    def test_early_is_early(self):
        oracle = self.oracle()
        oracle.dead(1, 4.5, "a keepalive was answered with TTL 0")
        oracle.settle([(3.0, 20.0)])
        self.assertIn("early", "".join(oracle.check()))

    def test_ttl_given_away_beyond_the_outage(self):
        oracle = PatientOracle(bound=1.0)
        oracle.grant(1, 600, 0.0, 0.1)
        oracle.outage(10.0, 12.0)
        oracle.remaining(1, 583, 20.0, 20.1)
        oracle.settle([])
        self.assertEqual(oracle.check(), [])
        oracle.remaining(1, 590, 20.0, 20.1)
        self.assertIn("given away", "".join(oracle.check()))


if __name__ == "__main__":
    unittest.main()
