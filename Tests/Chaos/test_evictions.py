"""The check of evictions on stories that are known: the true one passes, each way of breaking a promise is found."""

import math
import unittest

import shared
from eviction_promises import DELETED, GONE, LIVE, NEW, UNKNOWN, Promises, Subscriber, Use

TTL, WINDOW, LATE = 3.0, 0.5, 1.0


def evict(at, seq, key="k", gen=1, why="expired", tried=1):
    return {"at": at, "kind": "evict", "seq": seq, "key": key, "gen": gen, "why": why, "tried": tried}


def cancel(at, seq, of, key="k", gen=2):
    return {"at": at, "kind": "cancel", "seq": seq, "of": of, "key": key, "gen": gen}


def answered(at, seq, kind="ok"):
    return [{"at": at, "kind": "ack", "seq": seq}, {"at": at + 0.01, "kind": kind, "seq": seq}]


def hello(at, head, acked, epoch="e"):
    return {"at": at, "kind": "hello", "epoch": epoch, "head": head, "acked": acked}


# A life: registered, used, left alone, evicted; then another one.
USES = [Use("k", 1.0, 1.1, NEW), Use("k", 3.0, 3.1, LIVE), Use("k", 8.0, 8.1, NEW)]
STORY = [hello(0, 0, 0), evict(6.7, 1), *answered(6.8, 1), evict(11.7, 2), *answered(11.8, 2), hello(13, 2, 2)]


class Evictions(unittest.TestCase):
    def said(self, story=STORY, uses=USES, others=(), troubles=()):
        told = [Subscriber("steady", sorted(story, key=lambda line: line["at"]), True)]
        told += [Subscriber(f"other{n}", other, False) for n, other in enumerate(others)]
        return list(Promises(uses, told, TTL, WINDOW, LATE, troubles).violations())

    def assert_said(self, *words, **story):
        said = self.said(**story)
        self.assertTrue(said, "nothing is found")
        for word in words:
            self.assertIn(word, "\n".join(said))

    def test_the_true_story(self):
        self.assertEqual(self.said(), [])
        self.assertEqual(self.said(others=[STORY]), [])

    def test_uses_that_meet_are_one_birth(self):
        self.assertEqual(self.said(uses=[*USES, Use("k", 8.05, 8.2, NEW)]), [])
        self.assert_said("had acknowledged no eviction between", uses=[*USES, Use("k", 8.3, 8.4, NEW)])

    def test_told_again_before_the_acknowledgement(self):
        story = [*STORY, evict(6.75, 1, tried=2), {"at": 6.76, "kind": "nak", "seq": 1}, {"at": 6.77, "kind": "closed"}]
        self.assertEqual(self.said(story), [])

    def test_early(self):
        self.assert_said("early: it came 2.500 s", story=[evict(5.5, 1), *STORY[2:]])

    def test_early_by_a_use_that_was_answered_during_the_eviction_only(self):
        uses = [*USES, Use("k", 6.6, 6.72, LIVE)]
        self.assertEqual(self.said([*STORY, cancel(6.75, 9, 1)][:-1] + [cancel(12.5, 9, 1)], uses=uses), [])

    def test_late(self):
        self.assert_said("late: it came 1.300 s", story=[evict(7.9, 1), *answered(7.91, 1), *STORY[4:]])

    def test_late_behind_a_trouble_is_not_late(self):
        story = [evict(7.9, 1), *answered(7.91, 1), *STORY[4:]]
        self.assertEqual(self.said(story, troubles=[(5.0, 7.5)]), [])
        self.assert_said("late", story=story, troubles=[(5.0, 6.7)])

    def test_an_eviction_is_lost(self):
        self.assert_said("had acknowledged no eviction between", story=STORY[4:])
        self.assert_said("its last life has ended", story=STORY[:4])

    def test_an_eviction_is_lost_for_one_of_two(self):
        self.assert_said("other0: k: it was registered anew", others=[STORY[4:]])

    def test_removed_before_the_acknowledgement(self):
        self.assert_said("had acknowledged no eviction between", story=[evict(6.7, 1), *answered(8.5, 1), *STORY[4:]])

    def test_told_again_after_the_acknowledgement(self):
        self.assert_said("came again after", story=[*STORY, evict(7.0, 1, tried=2)])

    def test_out_of_order(self):
        uses = [*USES, Use("j", 1.0, 1.1, NEW)]
        story = [*STORY, evict(5.0, 4, "j"), *answered(5.1, 4)]
        self.assert_said("came first after 4", story=story, uses=uses)

    def test_one_number_for_two_events(self):
        self.assert_said("is now k generation 2", story=[*STORY, evict(6.75, 1, gen=2)])

    def test_another_journal(self):
        self.assert_said("epoch went from e to f", story=[*STORY, hello(14, 0, 0, "f")])

    def test_a_gap(self):
        self.assert_said("a gap was told", story=[*STORY, {"at": 14, "kind": "gap", "first": 9}])

    def test_evicted_though_nobody_had_used_or_deleted_it(self):
        self.assert_said("nobody has ever used", story=[*STORY, evict(12, 3, "x")])
        self.assert_said("nobody had asked", story=[evict(6.7, 1, why="deleted"), *STORY[2:]])
        uses = [*USES, Use("k", 6.5, 6.6, DELETED, True)]
        self.assertEqual(self.said([evict(6.7, 1, why="deleted"), *STORY[2:]], uses=uses), [])

    def revived(self, *ends):
        """A use after the eviction was told; the acknowledgement comes too late."""
        uses = [*USES[:2], Use("k", 6.75, 6.78, LIVE)]
        return [evict(6.7, 1), *ends, evict(10.4, 3, gen=2), *answered(10.5, 3)], uses

    def test_a_use_calls_an_eviction_off(self):
        story, uses = self.revived(cancel(6.79, 2, 1), *answered(6.8, 1, "stale"))
        self.assertEqual(self.said(story, uses), [])

    def test_a_use_was_answered_live_and_the_eviction_went_on(self):
        story, uses = self.revived(*answered(6.8, 1))
        self.assert_said("and the eviction went on", story=story, uses=uses)

    def test_an_acknowledgement_is_refused_for_no_reason(self):
        story, uses = self.revived(*answered(6.8, 1, "stale"))
        self.assert_said("no cancel was ever told", story=story, uses=uses)

    def test_called_off_by_the_wrong_life(self):
        story, uses = self.revived(cancel(6.79, 2, 1, gen=5), *answered(6.8, 1, "stale"))
        self.assert_said("generation 1 and was called off by k generation 5", story=story, uses=uses)

    def test_both_win(self):
        """Everybody has acknowledged, and yet a use finds it live."""
        self.assert_said("after everybody had acknowledged", uses=[*USES[:2], Use("k", 7.0, 7.1, LIVE), USES[2]])

    def test_a_registration_nobody_has_seen_the_end_of_explains_a_new_life(self):
        uses = [*USES[:2], Use("k", 6.9, math.inf, UNKNOWN), Use("k", 7.0, 7.1, LIVE), USES[2]]
        story = [*STORY[:4], evict(7.9, 5, why="deleted"), *answered(7.95, 5), evict(11.7, 6), *answered(11.8, 6)]
        self.assertEqual(self.said(story, [*uses, Use("k", 7.5, 7.6, DELETED, True)]), [])

    def test_gone_before_anybody_had_acknowledged(self):
        uses = [*USES, Use("k", 6.72, 6.74, GONE)]
        self.assert_said("was answered gone", uses=uses)
        self.assertEqual(self.said(uses=[*USES, Use("k", 6.79, 6.82, GONE)]), [])

    def test_owed_in_the_end(self):
        refused = [evict(11.7, 2), {"at": 12, "kind": "nak", "seq": 2}]
        self.assert_said("its last life has ended", story=[*STORY[:4], *refused])


if __name__ == "__main__":
    unittest.main()
