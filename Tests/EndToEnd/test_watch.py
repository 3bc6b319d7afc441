"""What a watch promises: every event once, in order, whole revisions, resumable. Leasehold beside etcd."""

import unittest

import harness
import watch_wire
from watch_wire import Caller, Watcher

DELETED, EXPIRED, REVOKED = 1, 2, 3
NOPUT, NODELETE = 0, 1


class WatchTest(unittest.TestCase):
    maxDiff = None
    flags = ()

    def setUp(self):
        self.space = harness.Workspace()
        self.addCleanup(self.space.close)
        self.node = self.space.own(harness.Node(self.space, None, tls=False, extra=self.flags))
        self.node.start()
        self.caller = self.space.own(Caller(self.node.port))

    def watcher(self, **options):
        return self.space.own(Watcher(self.node.port, **options))


class AsEtcd(WatchTest):
    """The same conversation with etcd and with Leasehold, all answers compared."""

    def setUp(self):
        super().setUp()
        self.etcd = self.space.own(harness.Etcd(self.space, None, tls=False))
        self.etcd.start()

    def same(self, talk):
        """`talk(caller, watcher)` returns what it was told."""
        told = []
        for server in (self.etcd, self.node):
            caller, watcher = self.space.own(Caller(server.port)), self.space.own(Watcher(server.port))
            told.append(talk(caller, watcher))
        self.assertEqual(*told)
        return told[0]

    @staticmethod
    def shown(response):
        return {name: getattr(response, name) for name in (
            "watch_id", "revision", "created", "canceled", "compact_revision", "reason", "fragment")} | {
            "events": [(e.key, e.value, e.revision, e.is_delete, e.previous) for e in response.events]}

    def test_ids_are_given_chosen_taken_and_free_again(self):
        def talk(caller, watcher):
            answers = [watcher.create(b"a"), watcher.create(b"a", watch_id=2), watcher.create(b"a"),
                       watcher.create(b"a", watch_id=2), watcher.create(b"b", b"a")]
            watcher.ask(watch_wire.cancel(77))
            watcher.ask(watch_wire.cancel(2))
            answers.append(watcher.next())
            answers.append(watcher.create(b"a", watch_id=2))
            return [self.shown(answer) for answer in answers]

        told = self.same(talk)
        self.assertEqual(told[3]["reason"], "mvcc: duplicate watch ID provided on the WatchStream")
        self.assertTrue(told[3]["created"] and told[3]["canceled"])

    def test_ranges_filters_previous_values_and_starts(self):
        def talk(caller, watcher):
            for value in (b"1", b"2"):
                caller.put(b"a", value)
            caller.put(b"ab", b"3")
            last = caller.delete(b"a", b"b")
            options = [
                dict(key=b"a", start=2), dict(key=b"a", range_end=b"b", start=3, prev_kv=True),
                dict(key=b"a", range_end=b"\0", start=2, filters=(NOPUT,), prev_kv=True),
                dict(key=b"a", range_end=b"b", start=2, filters=(NODELETE,)), dict(key=b"", range_end=b"\0", start=1),
                dict(key=b"a", start=last + 2), dict(key=b"a")]
            for number, option in enumerate(options):
                watcher.create(watch_id=number + 1, **option)
            caller.put(b"a", b"skipped by a start in the future")
            final = caller.put(b"a", b"last")
            # The third wants no puts: its last event is the deletion.
            wanted = {n + 1 for n in range(len(options))}
            responses = []
            while wanted:
                response = watcher.next()
                responses.append(response)
                if response.events[-1].revision == (last if response.watch_id == 3 else final):
                    wanted.discard(response.watch_id)
            by_watch = {}
            for response in responses:
                by_watch.setdefault(response.watch_id, []).extend(self.shown(response)["events"])
            return by_watch

        told = self.same(talk)
        self.assertEqual([event[0] for event in told[3]], [b"a", b"ab"], "the deletes alone")
        self.assertEqual([event[1] for event in told[6]], [b"last"], "from the future on")

    def test_a_compacted_start_is_created_and_then_cancelled_without_a_reason(self):
        def talk(caller, watcher):
            for number in range(10):
                caller.put(b"a", b"%d" % number)
            caller.compact(8)
            answers = [watcher.create(b"a", start=3), watcher.next()]
            at = watcher.create(b"a", start=8)
            events = []
            while len(events) < 4:
                events += watcher.next().events
            return [self.shown(a) for a in answers + [at]], [event.revision for event in events]

        answers, revisions = self.same(talk)
        self.assertEqual((answers[1]["canceled"], answers[1]["compact_revision"], answers[1]["reason"]), (True, 8, ""))
        self.assertEqual(revisions, [8, 9, 10, 11], "a watch may start at the compact revision")

    def test_a_large_revision_comes_in_fragments_when_asked_for(self):
        def talk(caller, watcher):
            for number in range(4):
                caller.put(b"big/%d" % number, b"x" * 1_000_000)
            watcher.create(b"big/", b"big0", watch_id=1, prev_kv=True, fragment=True)
            watcher.create(b"big/", b"big0", watch_id=2, prev_kv=True)
            caller.delete(b"big/", b"big0")
            got = {1: [], 2: []}
            while not all(parts and not parts[-1].fragment for parts in got.values()):
                response = watcher.next()
                got[response.watch_id].append(response)
            return {number: [(part.fragment, [(e.key, len(e.previous)) for e in part.events]) for part in parts]
                    for number, parts in got.items()}

        told = self.same(talk)
        self.assertEqual([more for more, _ in told[1]], [True, False])
        self.assertEqual(len(told[2]), 1, "without the flag a revision is one message")

    def test_progress_on_request_speaks_for_the_stream(self):
        def talk(caller, watcher):
            watcher.create(b"a")
            watcher.create(b"b")
            caller.put(b"other")
            watcher.ask(watch_wire.PROGRESS)
            return self.shown(watcher.next())

        self.assertEqual(self.same(talk)["watch_id"], -1)


class Progress(WatchTest):
    flags = ("--experimental-watch-progress-notify-interval", "300ms")

    def test_a_quiet_watch_with_progress_notify_is_told_of_its_progress_again_and_again(self):
        watcher = self.watcher()
        watcher.create(b"a", progress=True)
        watcher.create(b"b")
        revision = self.caller.put(b"other")
        for _ in range(3):
            response = watcher.next()
            self.assertTrue(response.is_progress)
            self.assertEqual((response.watch_id, response.revision), (0, revision))

    def test_the_interval_has_two_names_and_must_be_a_duration(self):
        for name in ("watch-progress-notify-interval", "experimental-watch-progress-notify-interval"):
            result = harness.run(harness.leasehold(), "node", f"--{name}", "soon")
            self.assertNotEqual(result.returncode, 0)
            self.assertIn(f"--{name} 'soon' is no duration", result.stderr)


class OwnPromises(WatchTest):
    def test_no_progress_is_answered_while_a_watch_of_the_stream_is_behind(self):
        self.caller.put_many((b"a", b"x" * 1_000) for _ in range(500))
        watcher = self.watcher(window=20_000)
        watcher.create(b"b", watch_id=1)
        watcher.create(b"a", watch_id=2, start=2)
        watcher.ask(watch_wire.PROGRESS)
        self.assertFalse(any(r.is_progress for r in watcher.responses))
        watcher.is_silent(0.5)
        self.assertFalse(any(r.is_progress for r in watcher.responses), "window closed: not all has been told")
        watcher.stream.open_window(1 << 24)
        told = watcher.until(lambda responses: any(r.is_progress for r in responses))
        self.assertTrue(told[-1].is_progress and told[-1].watch_id == -1 and told[-1].revision == 501)
        self.assertEqual([e.revision for r in told for e in r.events], list(range(2, 502)))

    def test_an_idle_watch_can_resume_behind_a_compaction(self):
        watcher = self.watcher()
        watcher.create(b"a", progress=True)
        watcher.create(b"a", watch_id=5)
        for _ in range(20):
            last = self.caller.put(b"busy")
        self.caller.compact(last - 2)
        progress = watcher.next()
        self.assertTrue(progress.is_progress and progress.watch_id == 0 and progress.revision >= last - 2)
        self.assertTrue(watcher.is_silent(0.3), "a watch without progress_notify is told nothing, as by etcd")
        missed = self.caller.put(b"a", b"meanwhile")
        again = self.watcher()
        again.create(b"a", start=progress.revision + 1)
        self.assertEqual([event.revision for event in again.next().events], [missed])

    def test_our_own_clients_learn_why_a_key_was_deleted(self):
        native, plain = self.watcher(leasehold_deletion_cause="1"), self.watcher()
        for watcher in (native, plain):
            watcher.create(b"k/", b"k0", filters=(NOPUT,))
        self.caller.grant(1, 1)
        self.caller.grant(2, 600)
        self.caller.put(b"k/expires", lease=1)
        self.caller.put(b"k/revoked", lease=2)
        self.caller.put(b"k/deleted")
        self.caller.delete(b"k/deleted")
        self.caller.revoke(2)

        def causes(watcher):
            told = watcher.until(lambda responses: sum(len(r.events) for r in responses) == 3)
            return {event.key: event.cause for r in told for event in r.events}

        wanted = {b"k/deleted": DELETED, b"k/revoked": REVOKED, b"k/expires": EXPIRED}
        self.assertEqual(causes(native), wanted)
        self.assertEqual(causes(plain), dict.fromkeys(wanted, 0))
        past = self.watcher(leasehold_deletion_cause="1")
        past.create(b"k/", b"k0", filters=(NOPUT,), start=1)
        self.assertEqual(causes(past), wanted, "history keeps the causes, too")

    def test_figures(self):
        metrics = self.node.metrics
        watcher, slow = self.watcher(), self.watcher(window=0)
        watcher.create(b"a")
        self.caller.put_many((b"a", b"") for _ in range(10))
        watcher.until(lambda responses: sum(len(r.events) for r in responses) == 10)
        self.assertEqual(metrics()["etcd_debugging_mvcc_events_total"], 10)
        self.assertEqual(metrics()["etcd_debugging_mvcc_pending_events_total"], 0)
        slow.ask(watch_wire.create(b"a"))
        harness.wait_until(lambda: metrics()["etcd_debugging_mvcc_watcher_total"] == 2, "the second watch")
        self.assertEqual(metrics()["etcd_debugging_mvcc_watch_stream_total"], 2)
        self.assertEqual(metrics()["etcd_debugging_mvcc_slow_watcher_total"], 0)
        self.caller.put_many((b"a", b"x" * 100_000) for _ in range(30))
        harness.wait_until(lambda: metrics()["etcd_debugging_mvcc_slow_watcher_total"] > 0, "the slow watcher")
        watcher.until(lambda responses: sum(len(r.events) for r in responses) == 30)
        self.assertEqual(metrics()["etcd_debugging_mvcc_slow_watcher_total"], 1)
        slow.stop()
        harness.wait_until(lambda: metrics()["etcd_debugging_mvcc_slow_watcher_total"] == 0, "its end")
        self.assertEqual(metrics()["etcd_debugging_mvcc_watcher_total"], 1)


if __name__ == "__main__":
    unittest.main()
