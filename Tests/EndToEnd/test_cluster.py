"""Three real members with mTLS between them, and etcdctl: forming, serving everywhere, losing a leader, changing members,
catching up by log and by a whole state."""

import json
import unittest

from cluster import Cluster
from harness import PKI, Workspace, wait_until


class ClusterCase(unittest.TestCase):
    size = 3
    tls = True

    flags = []

    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.pki = PKI(self.space / "pki") if self.tls else None
        self.cluster = Cluster(self.space, self.pki, self.size, self.tls)
        for member in self.cluster.members.values():
            member.extra = list(self.flags)
        self.cluster.start()

    def put(self, member, key, value):
        result = member.etcdctl("put", key, value)
        self.assertEqual(result.stdout, "OK\n", result.stderr)

    def get(self, member, key):
        result = member.etcdctl("get", key, "--print-value-only")
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.rstrip("\n")

    def revision(self, member):
        return member.status()["header"]["revision"]

    def assert_equal_hashes(self):
        revision = self.revision(self.cluster.leader())
        wait_until(
            lambda: all(self.revision(member) >= revision for member in self.cluster.alive()), "catching up")
        hashes = self.cluster.hashes(revision)
        self.assertEqual(len(set(hashes.values())), 1, hashes)


class Forming(ClusterCase):
    def test_every_member_serves_every_request(self):
        members = list(self.cluster.members.values())
        for number, member in enumerate(members):
            self.put(member, f"key/{number}", f"value {number}")
        for member in members:
            for number in range(len(members)):
                self.assertEqual(self.get(member, f"key/{number}"), f"value {number}")
        listed = json.loads(self.cluster.etcdctl("member", "list", "-w", "json").stdout)["members"]
        self.assertEqual({m["name"] for m in listed}, {m.name for m in members})
        self.assertEqual({tuple(m["peerURLs"]) for m in listed}, {(m.peer_url,) for m in members})
        self.assertEqual({tuple(m["clientURLs"]) for m in listed}, {(m.endpoint,) for m in members})
        self.assert_equal_hashes()

    def test_leases_and_watches_at_a_follower(self):
        leader = self.cluster.leader()
        follower = next(m for m in self.cluster.alive() if m is not leader)
        granted = follower.etcdctl("lease", "grant", "4")
        lease = granted.stdout.split()[1]
        self.put(follower, "free", "1")
        self.assertEqual(follower.etcdctl("put", "leased", "1", f"--lease={lease}").stdout, "OK\n")
        alive = follower.etcdctl("lease", "keep-alive", "--once", lease)
        self.assertIn("keepalived with TTL(4)", alive.stdout)
        self.assertIn(f"lease {lease} granted with TTL(4s)", follower.etcdctl("lease", "timetolive", lease).stdout)
        wait_until(lambda: self.get(follower, "leased") == "", "the end of the lease", 15, 0.2)
        self.assertEqual(self.get(leader, "free"), "1")


class Failures(ClusterCase):
    def test_the_leader_dies_and_comes_back(self):
        self.put(self.cluster["m0"], "before", "1")
        leader = self.cluster.leader()
        leader.kill()
        survivor = self.cluster.alive()[0]
        wait_until(lambda: survivor.etcdctl("put", "after", "2").returncode == 0, "a write without the old leader", 30)
        self.assertEqual(self.get(survivor, "before"), "1")
        leader.start()
        self.assertEqual(self.get(leader, "after"), "2")
        self.assert_equal_hashes()

    def test_without_a_quorum_nothing_is_written_and_nothing_is_lost(self):
        self.put(self.cluster["m0"], "k", "1")
        self.cluster["m1"].kill()
        self.cluster["m2"].kill()
        refused = self.cluster["m0"].etcdctl("put", "k", "2", "--command-timeout=3s", timeout=20)
        self.assertNotEqual(refused.returncode, 0)
        stale = self.cluster["m0"].etcdctl("get", "k", "--print-value-only", "--consistency=s")
        self.assertEqual(stale.stdout, "1\n", stale.stderr)
        self.cluster["m1"].start()
        self.cluster["m2"].start()
        self.put(self.cluster["m2"], "k", "3")
        self.assertEqual(self.get(self.cluster["m1"], "k"), "3")

    def test_all_are_killed_and_started(self):
        for number in range(20):
            self.put(self.cluster["m0"], f"k{number}", str(number))
        for member in self.cluster.alive():
            member.kill()
        self.cluster.start()
        for number in range(20):
            self.assertEqual(self.get(self.cluster["m1"], f"k{number}"), str(number))
        self.assert_equal_hashes()

    def test_one_member_begins_anew_when_the_others_are_lost_for_good(self):
        self.put(self.cluster["m0"], "k", "1")
        for member in self.cluster.alive():
            member.kill()
        for lost in ("m1", "m2"):
            del self.cluster.members[lost]
        survivor = self.cluster["m0"]
        survivor.extra = ["--force-new-cluster"]
        survivor.start()
        self.assertEqual(self.get(survivor, "k"), "1")
        self.put(survivor, "k", "2")
        self.assertEqual(set(self.cluster.ids()), {"m0"})
        survivor.stop()
        survivor.extra = []
        survivor.start()
        added = self.cluster.add("m5")
        added.wait_ready()
        self.assertEqual(self.get(added, "k"), "2")


class FarBehind(ClusterCase):
    # Next to nothing is kept for members that lag.
    flags = ["--snapshot-count", "10"]

    def test_a_member_that_was_away_for_long_gets_the_whole_state(self):
        leader = self.cluster.leader()
        away = next(m for m in self.cluster.alive() if m is not leader)
        away.kill()
        client = self.space.own(Loader(leader))
        client.fill(12_000, 4_000)
        away.start(60)
        wait_until(lambda: "took the leader's state" in away.log.read_text(), "a whole state")
        self.assertEqual(self.get(away, "bulk/11999")[:4], "vvvv")
        self.assert_equal_hashes()
        self.put(away, "again", "1")


class Membership(ClusterCase):
    def test_members_come_and_go(self):
        self.put(self.cluster["m0"], "k", "1")
        added = self.cluster.add("m3")
        added.wait_ready()
        self.assertEqual(self.get(added, "k"), "1")
        removed = self.cluster.remove("m1")
        wait_until(lambda: removed.process.poll() is not None, "the end of the removed member's process")
        self.put(added, "k", "2")
        self.assertEqual(set(self.cluster.ids()), {"m0", "m2", "m3"})
        self.assert_equal_hashes()

    def test_a_dead_member_is_replaced(self):
        self.cluster["m2"].kill()
        self.cluster.remove("m2")
        self.put(self.cluster["m0"], "k", "1")
        replacement = self.cluster.add("m4")
        replacement.wait_ready()
        self.assertEqual(self.get(replacement, "k"), "1")
        self.assert_equal_hashes()

    def test_a_learner_becomes_a_voter(self):
        self.put(self.cluster["m0"], "k", "1")
        learner = self.cluster.add("m3", learner=True)
        listed = lambda: json.loads(self.cluster["m0"].etcdctl("member", "list", "-w", "json").stdout)["members"]
        self.assertEqual([m.get("isLearner", False) for m in listed()].count(True), 1)
        wait_until(lambda: "m3" in self.cluster.ids(), "the learner's start")
        refused = learner.etcdctl("put", "k", "2")
        self.assertIn("rpc not supported for learner", refused.stderr)
        promote = lambda: self.cluster["m0"].etcdctl("member", "promote", self.cluster.ids()["m3"])
        wait_until(lambda: promote().returncode == 0, "the promotion", 20, 0.3)
        self.assertEqual([m.get("isLearner", False) for m in listed()].count(True), 0)
        learner.wait_ready()
        self.put(learner, "k", "3")

    def test_a_learner_is_promoted_by_itself(self):
        for member in self.cluster.members.values():
            member.stop()
            member.extra = ["--promote-learners"]
        self.cluster.start()
        learner = self.cluster.add("m3", learner=True)
        wait_until(lambda: learner.etcdctl("put", "k", "1").returncode == 0, "the promotion", 20, 0.2)
        listed = json.loads(self.cluster["m0"].etcdctl("member", "list", "-w", "json").stdout)["members"]
        self.assertEqual([m.get("isLearner", False) for m in listed].count(True), 0)

    def test_the_leadership_moves(self):
        leader = self.cluster.leader()
        target = next(m for m in self.cluster.alive() if m is not leader)
        result = leader.etcdctl("move-leader", self.cluster.ids()[target.name])
        self.assertEqual(result.returncode, 0, result.stderr)
        wait_until(lambda: self.cluster.leader() is target, "the new leader")
        refused = leader.etcdctl("move-leader", self.cluster.ids()[leader.name])
        self.assertNotEqual(refused.returncode, 0)


class Cleartext(ClusterCase):
    tls = False

    def test_a_cluster_without_tls(self):
        self.put(self.cluster["m1"], "k", "1")
        self.assertEqual(self.get(self.cluster["m2"], "k"), "1")


class Loader:
    """Writes many values fast: the log must outgrow what a leader keeps for others."""

    def __init__(self, member):
        self.member = member

    def fill(self, count, value_bytes):
        value = "v" * value_bytes
        for start in range(0, count, 100):
            puts = "\n".join(f"put bulk/{number} {value}" for number in range(start, min(start + 100, count)))
            result = self.member.etcdctl("txn", input=f"\n{puts}\n\n\n", timeout=60)
            if result.returncode != 0:
                raise AssertionError(result.stderr)

    def stop(self):
        pass
