"""The ledger against histories that it must accept and histories that it must not."""

import unittest

from etcd_client import kv
from ledger import DELETE, PUT, Ledger, value_for
from lease_oracle import LeaseOracle

LEASE = 0x77


class LedgerTests(unittest.TestCase):
    def setUp(self):
        self.oracle = LeaseOracle()
        self.ledger = Ledger(self.oracle)

    # A load and a store in a few words

    def wrote(self, revision, *keys, lease=0, fate="acknowledged", deletes=()):
        parts = lambda number: [("put", key, value_for(number), lease) for key in keys] + [
            ("delete", key, b"") for key in deletes]
        operation = self.ledger.begin("txn" if keys else "delete", parts)
        self.ledger.finish(operation, fate, revision if fate == "acknowledged" else None, len(deletes))
        return operation.number

    def event(self, revision, key, number=None, lease=0, create=None, version=1):
        if number is None:
            return kv.Event(type=DELETE, kv=kv.KeyValue(key=key, mod_revision=revision))
        return kv.Event(type=PUT, kv=kv.KeyValue(
            key=key, value=value_for(number), lease=lease, mod_revision=revision, create_revision=create or revision,
            version=version))

    def saw(self, *events):
        self.ledger.observe(events, 100.0)

    def accepts(self, *pairs):
        self.ledger.check_state(self.ledger.last, [event.kv for event in pairs])
        self.assertEqual(self.ledger.violations, [])

    def rejects(self, word, *pairs):
        self.ledger.check_state(self.ledger.last, [event.kv for event in pairs])
        self.assertTrue(self.ledger.violations)
        self.assertIn(word, " ".join(self.ledger.violations))

    # Histories

    def test_what_was_acknowledged_is_there(self):
        put = self.event(2, b"a", self.wrote(2, b"a"))
        self.saw(put)
        self.accepts(put)

    def test_an_acknowledged_write_is_lost(self):
        put = self.event(2, b"a", self.wrote(2, b"a"))
        self.wrote(3, b"b")
        self.saw(put)
        self.rejects("acknowledged operations are missing", put)

    def test_another_value_than_was_written(self):
        number = self.wrote(2, b"a")
        put = self.event(2, b"a", number + 1)
        self.saw(put)
        self.rejects("it should be", put)

    def test_an_unanswered_write_happened_or_did_not(self):
        self.wrote(None, b"a", fate="unknown")
        put = self.event(2, b"b", self.wrote(None, b"b", fate="unknown"))
        self.saw(put)
        self.accepts(put)

    def test_a_refused_write_happened(self):
        put = self.event(2, b"a", self.wrote(None, b"a", fate="refused"))
        self.saw(put)
        self.rejects("not explained", put)

    def test_half_a_transaction(self):
        put = self.event(2, b"a", self.wrote(None, b"a", b"b", fate="unknown"))
        self.saw(put)
        self.rejects("it should be", put)

    def test_a_transaction_at_two_revisions(self):
        number = self.wrote(None, b"a", b"b", fate="unknown")
        puts = [self.event(2, b"a", number), self.event(3, b"b", number)]
        for put in puts:
            self.saw(put)
        self.rejects("not explained", *puts)

    def test_a_delete_that_nobody_asked_for(self):
        self.saw(self.event(2, b"a", self.wrote(2, b"a")))
        self.saw(self.event(3, b"a"))
        self.rejects("revision 3 deletes")

    def test_an_unanswered_delete(self):
        self.saw(self.event(2, b"a", self.wrote(2, b"a")))
        self.wrote(None, fate="unknown", deletes=[b"a"])
        self.saw(self.event(3, b"a"))
        self.accepts()

    def test_versions_are_counted(self):
        self.saw(self.event(2, b"a", self.wrote(2, b"a")))
        put = self.event(3, b"a", self.wrote(3, b"a"), create=2, version=1)
        self.saw(put)
        self.rejects("it should be", put)

    def test_a_gap(self):
        put = self.event(3, b"a", self.wrote(3, b"a"))
        self.saw(put)
        self.rejects("nobody was told of revision 2", put)

    def test_history_that_reads_differently_the_second_time(self):
        number = self.wrote(2, b"a")
        put = self.event(2, b"a", number)
        self.saw(put)
        self.saw(self.event(2, b"a", number, lease=5))
        self.rejects("has changed", put)

    def test_a_state_that_is_not_its_history(self):
        self.saw(self.event(2, b"a", self.wrote(2, b"a")))
        self.rejects("keys differ")

    def test_a_lease_takes_all_its_keys(self):
        number = self.wrote(2, b"a", b"b", lease=LEASE)
        self.saw(self.event(2, b"a", number, LEASE), self.event(2, b"b", number, LEASE))
        self.oracle.grant(LEASE, 5, 10.0, 10.1)
        self.saw(self.event(3, b"a"), self.event(3, b"b"))
        self.accepts()
        self.assertEqual(self.oracle.counts()["expiries"], 1)

    def test_a_lease_leaves_a_key_behind(self):
        number = self.wrote(2, b"a", b"b", lease=LEASE)
        puts = self.event(2, b"a", number, LEASE), self.event(2, b"b", number, LEASE)
        self.saw(*puts)
        self.saw(self.event(3, b"a"))
        self.rejects("revision 3 deletes", puts[1])

    def test_a_key_that_was_attached_anew_stays(self):
        self.saw(self.event(2, b"a", self.wrote(2, b"a", lease=LEASE), LEASE))
        self.saw(self.event(3, b"a", self.wrote(3, b"a"), create=2, version=2))
        self.saw(self.event(4, b"a"))
        self.rejects("revision 4 deletes")

    def test_a_revoked_lease_keeps_a_key(self):
        put = self.event(2, b"a", self.wrote(2, b"a", lease=LEASE), LEASE)
        self.saw(put)
        self.ledger.finish(self.ledger.begin("revoke", lease=LEASE), "acknowledged", 2)
        self.rejects("was revoked", put)


if __name__ == "__main__":
    unittest.main()
