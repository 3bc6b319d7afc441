"""The lease oracle against histories that it must accept and histories that it must not."""

import unittest

from lease_oracle import LeaseOracle

LEASE = 0x77


def history(**options):
    """A lease of 5 s, granted between 10.0 and 10.2."""
    oracle = LeaseOracle(bound=0.5, **options)
    oracle.grant(LEASE, 5, 10.0, 10.2)
    return oracle


class LeaseOracleTests(unittest.TestCase):
    def accepts(self, oracle):
        self.assertEqual(oracle.check(), [])

    def rejects(self, oracle, word):
        violations = oracle.check()
        self.assertEqual(len(violations), 1, violations)
        self.assertIn(word, violations[0])

    # Never early

    def test_a_lease_that_lives_exactly_its_ttl_from_sending(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 15.0, keys=2)
        self.accepts(oracle)

    def test_a_lease_that_dies_before_its_ttl_from_sending(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 14.9999, keys=2)
        self.rejects(oracle, "early")

    def test_death_between_sending_plus_ttl_and_answer_plus_ttl_proves_nothing(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 15.1, keys=2)
        self.accepts(oracle)

    def test_a_keepalive_counts_from_its_sending(self):
        oracle = history()
        oracle.keepalive(LEASE, 5, 12.0, 12.3)
        oracle.vanished(LEASE, 7, 16.9, keys=1)
        self.rejects(oracle, "early")

    def test_an_unanswered_keepalive_owes_nothing(self):
        oracle = history()
        oracle.keepalive(LEASE, None, 12.0, None)
        oracle.vanished(LEASE, 7, 15.1, keys=1)
        self.accepts(oracle)

    def test_keepalives_answered_in_another_order_than_sent(self):
        oracle = history()
        oracle.keepalive(LEASE, 5, 13.0, 13.1)
        oracle.keepalive(LEASE, 5, 12.0, 13.9)
        oracle.vanished(LEASE, 7, 17.9, keys=1)
        self.rejects(oracle, "early")

    def test_every_kind_of_death_can_be_early(self):
        for tell in (
            lambda oracle: oracle.keepalive(LEASE, 0, 12.0, 12.1),
            lambda oracle: oracle.remaining(LEASE, -1, 12.0, 12.1),
            lambda oracle: oracle.listed([], 12.0, 12.1),
            lambda oracle: oracle.revoke(LEASE, 12.0, 12.1, found=False),
            lambda oracle: oracle.dead(LEASE, 12.1, "a put did not find it"),
        ):
            oracle = history()
            tell(oracle)
            self.rejects(oracle, "early")

    def test_a_revoked_lease_is_not_early(self):
        for end in (12.1, None):
            oracle = history()
            oracle.revoke(LEASE, 12.0, end)
            oracle.vanished(LEASE, 7, 12.05, keys=1)
            self.accepts(oracle)

    def test_a_revoke_that_was_sent_after_the_death_excuses_nothing(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 12.0, keys=1)
        oracle.revoke(LEASE, 12.1, None)
        self.rejects(oracle, "early")

    def test_an_outage_does_not_excuse_an_early_death(self):
        oracle = history()
        oracle.outage(11.0, 14.0)
        oracle.vanished(LEASE, 7, 14.5, keys=1)
        self.rejects(oracle, "early")

    def test_a_fast_clock_is_excused_by_so_much(self):
        oracle = history(fast=0.02)
        oracle.vanished(LEASE, 7, 14.91, keys=1)
        self.accepts(oracle)
        oracle = history(fast=0.02)
        oracle.vanished(LEASE, 7, 14.89, keys=1)
        self.rejects(oracle, "early")

    # One winner

    def test_a_keepalive_and_the_expiry_that_it_raced_cannot_both_win(self):
        oracle = history()
        oracle.keepalive(LEASE, 5, 14.99, 15.05)
        oracle.vanished(LEASE, 7, 15.02, keys=1)
        self.rejects(oracle, "two winners")

    def test_the_expiry_won(self):
        oracle = history()
        oracle.keepalive(LEASE, 0, 14.99, 15.05)
        oracle.vanished(LEASE, 7, 15.02, keys=1)
        self.accepts(oracle)

    # Dead stays dead

    def test_no_keepalive_succeeds_after_its_revoke_was_acknowledged(self):
        oracle = history()
        oracle.revoke(LEASE, 11.0, 11.1)
        oracle.keepalive(LEASE, 5, 11.2, 11.3)
        self.rejects(oracle, "came back")

    def test_a_keepalive_that_was_under_way_when_the_revoke_was_acknowledged(self):
        oracle = history()
        oracle.revoke(LEASE, 11.0, 11.1)
        oracle.keepalive(LEASE, 5, 11.05, 11.3)
        self.accepts(oracle)

    def test_what_expired_is_not_listed_again(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 15.2, keys=1)
        oracle.listed([LEASE], 15.3, 15.4)
        self.rejects(oracle, "came back")

    def test_what_was_not_listed_is_not_found(self):
        oracle = history()
        oracle.listed([], 15.3, 15.4)
        oracle.alive(LEASE, 15.41, 15.42, "a put found it")
        self.rejects(oracle, "came back")

    # Late

    def test_late_is_measured_from_the_answer(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 15.69, keys=1, lived_until=15.69)
        self.accepts(oracle)
        oracle = history()
        oracle.vanished(LEASE, 7, 15.71, keys=1, lived_until=15.71)
        self.rejects(oracle, "late")

    def test_an_end_that_was_seen_late_may_have_been_in_time(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 18.0, keys=1, lived_until=15.2)
        self.accepts(oracle)

    def test_life_beyond_the_bound_is_late_without_a_death(self):
        for tell in (
            lambda oracle: oracle.listed([LEASE], 15.8, 15.9),
            lambda oracle: oracle.keepalive(LEASE, 5, 15.8, 15.9),
            lambda oracle: oracle.alive(LEASE, 15.8, 15.9, "a put found it"),
        ):
            oracle = history()
            tell(oracle)
            self.rejects(oracle, "late")

    def test_an_outage_is_added_and_no_more(self):
        oracle = history()
        oracle.outage(11.0, 13.0)
        oracle.outage(12.0, 13.5)
        oracle.vanished(LEASE, 7, 18.1, keys=1, lived_until=18.1)
        self.accepts(oracle)
        oracle = history()
        oracle.outage(11.0, 13.5)
        oracle.outage(5.0, 10.0)
        oracle.vanished(LEASE, 7, 18.3, keys=1, lived_until=18.3)
        self.rejects(oracle, "late")

    def test_silence_of_a_load_is_an_outage(self):
        oracle = history()
        for at in (10.1, 10.15, 13.15, 13.2):
            oracle.acknowledged(at)
        oracle.vanished(LEASE, 7, 18.5, keys=1, lived_until=18.5)
        self.accepts(oracle)

    def test_a_pause_of_the_load_is_none(self):
        oracle = history()
        oracle.acknowledged(10.1)
        oracle.load_pauses()
        oracle.acknowledged(13.2)
        oracle.vanished(LEASE, 7, 18.5, keys=1, lived_until=18.5)
        self.rejects(oracle, "late")

    def test_an_unanswered_keepalive_may_have_come_until_its_latest_moment(self):
        oracle = history()
        oracle.keepalive(LEASE, None, 12.0, None, latest=13.0)
        oracle.vanished(LEASE, 7, 18.4, keys=1, lived_until=18.4)
        self.accepts(oracle)
        oracle = history()
        oracle.keepalive(LEASE, None, 12.0, None, latest=13.0)
        oracle.vanished(LEASE, 7, 18.6, keys=1, lived_until=18.6)
        self.rejects(oracle, "late")

    # The past

    def test_the_past_knows_no_answers_of_the_future(self):
        oracle = history()
        oracle.keepalive(LEASE, 5, 12.0, 12.2)
        past = oracle.as_of(12.1)
        past.listed([], 15.1, 15.2)
        self.accepts(past)
        past = oracle.as_of(12.1)
        past.listed([LEASE], 17.5, 17.7)
        self.accepts(past)
        past = oracle.as_of(12.2)
        past.listed([], 16.8, 16.9)
        self.rejects(past, "early")

    # Keys, remaining TTL

    def test_keys_vanish_at_one_revision(self):
        oracle = history()
        oracle.vanished(LEASE, 7, 15.1, keys=1)
        oracle.vanished(LEASE, 8, 15.1, keys=1)
        self.rejects(oracle, "more than one revision")

    def test_remaining_ttl_of_an_honest_server(self):
        oracle = history()
        oracle.remaining(LEASE, 3, 11.1, 11.2)
        oracle.remaining(LEASE, 0, 15.0, 15.1)
        self.accepts(oracle)

    def test_remaining_ttl_that_was_lost(self):
        oracle = history()
        oracle.remaining(LEASE, 2, 11.1, 11.2)
        # 3.8 s are owed; "2" means less than 3.
        self.rejects(oracle, "TTL was lost")

    def test_remaining_ttl_starts_anew_after_a_restart(self):
        oracle = history()
        oracle.outage(11.0, 12.0)
        oracle.remaining(LEASE, 5, 13.0, 13.1)
        self.rejects(oracle, "given away")

    def test_remaining_ttl_stands_still_during_an_outage(self):
        oracle = history()
        oracle.outage(11.0, 12.0)
        oracle.remaining(LEASE, 3, 13.0, 13.1)
        self.accepts(oracle)

    def test_a_keepalive_under_way_is_not_demanded_of_the_remaining_ttl(self):
        oracle = history()
        oracle.keepalive(LEASE, 5, 13.0, 13.5)
        oracle.remaining(LEASE, 1, 13.1, 13.2)
        oracle.remaining(LEASE, 4, 13.1, 13.2)
        self.accepts(oracle)

    def test_a_lease_whose_grant_was_not_answered_may_or_may_not_be_there(self):
        oracle = LeaseOracle(bound=0.5)
        oracle.grant(LEASE, 5, 10.0, None, latest=10.5)
        oracle.listed([], 11.0, 11.1)
        self.accepts(oracle)
        oracle = LeaseOracle(bound=0.5)
        oracle.grant(LEASE, 5, 10.0, None, latest=10.5)
        oracle.listed([LEASE], 15.9, 16.0)
        self.accepts(oracle)
        oracle.listed([LEASE], 16.1, 16.2)
        self.rejects(oracle, "late")


if __name__ == "__main__":
    unittest.main()
