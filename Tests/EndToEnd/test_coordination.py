"""Locks and elections: the services v3lock and v3election over gRPC beside etcd's own, on one member and on three, and
etcdctl's lock and elect."""

import threading
import time
import unittest

import etcd_client  # Compiles the messages that the imports below load.
import election_pb2 as election
import grpc
import health_pb2 as health
import lock_pb2 as lock
import rpc_pb2 as rpc
from cluster import Cluster
from harness import Etcd, Node, Workspace, spawn, wait_until


class Caller:
    """Calls of one server, blocking or as futures."""

    def __init__(self, server):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", options=etcd_client.OPTIONS)
        self.etcd = etcd_client.EtcdClient(server.port)

    def method(self, path, answer, kind="unary_unary"):
        return getattr(self.channel, kind)(
            path, request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString)

    def lease(self, seconds=600, id=0):
        return self.etcd.ask("LeaseGrant", rpc.LeaseGrantRequest(TTL=seconds, ID=id)).ID

    def revoke(self, lease):
        self.etcd.ask("LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease))

    def lock(self, name, lease):
        return self.method("/v3lockpb.Lock/Lock", lock.LockResponse).future(
            lock.LockRequest(name=name, lease=lease), timeout=60)

    def unlock(self, key):
        return self.method("/v3lockpb.Lock/Unlock", lock.UnlockResponse)(lock.UnlockRequest(key=key), timeout=30)

    def campaign(self, name, value, lease):
        return self.method("/v3electionpb.Election/Campaign", election.CampaignResponse).future(
            election.CampaignRequest(name=name, value=value, lease=lease), timeout=60)

    def proclaim(self, leader, value):
        return self.method("/v3electionpb.Election/Proclaim", election.ProclaimResponse)(
            election.ProclaimRequest(leader=leader, value=value), timeout=30)

    def leader(self, name):
        return self.method("/v3electionpb.Election/Leader", election.LeaderResponse)(
            election.LeaderRequest(name=name), timeout=30)

    def resign(self, leader):
        return self.method("/v3electionpb.Election/Resign", election.ResignResponse)(
            election.ResignRequest(leader=leader), timeout=30)

    def observe(self, name):
        return self.method("/v3electionpb.Election/Observe", election.LeaderResponse, "unary_stream")(
            election.LeaderRequest(name=name), timeout=60)

    def keys(self, prefix):
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        return [record.key for record in self.etcd.ask("Range", rpc.RangeRequest(key=prefix, range_end=end)).kvs]

    def stop(self):
        self.etcd.close()
        self.channel.close()


def refusal(action):
    """What a call was refused with: code and text."""
    try:
        action()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return None


class Services(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)

    def caller(self, server):
        return self.space.own(Caller(server))


class BesideEtcd(Services):
    """The same story told to both; what they answer is the same but for names of their own."""

    def servers(self):
        return [self.space.own(Etcd(self.space, None, tls=False)).start(),
                self.space.own(Node(self.space, None, tls=False)).start()]

    def test_locks(self):
        stories = []
        for server in self.servers():
            caller = self.caller(server)
            for lease in (1, 2, 255):
                caller.lease(id=lease)
            story = []
            first = caller.lock(b"l", 1)
            story.append((first.result().key, first.result().header.revision))
            second = caller.lock(b"l", 255)
            wait_until(lambda: len(caller.keys(b"l/")) == 2, "the second waiter")
            third = caller.lock(b"l", 2)
            wait_until(lambda: len(caller.keys(b"l/")) == 3, "the third waiter")
            story.append((second.done(), third.done()))
            caller.unlock(b"l/1")
            story.append((second.result().key, second.result().header.revision, third.done()))
            story.append(caller.lock(b"l", 255).result().key)
            caller.unlock(second.result().key)
            story.append(third.result().key)
            story.append(caller.keys(b"l/"))
            story.append(refusal(lambda: caller.lock(b"l", 99).result()))
            story.append(refusal(lambda: caller.unlock(b"")))
            story.append(caller.unlock(b"none").header.revision)
            stories.append(story)
        self.assertEqual(*stories)

    def test_elections(self):
        stories = []
        for server in self.servers():
            caller = self.caller(server)
            for lease in (1, 2):
                caller.lease(id=lease)
            told = []
            story = [refusal(lambda: caller.leader(b"e"))]
            observation = caller.observe(b"e")

            def observe():
                try:
                    for answer in observation:
                        told.append((answer.kv.value, answer.kv.key, answer.header.revision))
                except grpc.RpcError:
                    pass

            thread = threading.Thread(target=observe)
            thread.start()
            first = caller.campaign(b"e", b"a", 1).result()
            story.append((first.leader.name, first.leader.key, first.leader.rev, first.leader.lease))
            wait_until(lambda: told, "the first leader's observation")
            second = caller.campaign(b"e", b"b", 2)
            wait_until(lambda: len(caller.keys(b"e/")) == 2, "the second candidate")
            story.append(caller.proclaim(first.leader, b"a2").header.revision)
            wait_until(lambda: len(told) == 2, "the proclamation's observation")
            story.append(caller.leader(b"e").kv.value)
            story.append(caller.campaign(b"e", b"a3", 1).result().leader.rev)
            wait_until(lambda: len(told) == 3, "the second proclamation's observation")
            story.append(second.done())
            caller.resign(first.leader)
            story.append(second.result().leader.key)
            wait_until(lambda: len(told) == 4, "the second leader's observation")
            story.append(refusal(lambda: caller.proclaim(first.leader, b"late")))
            caller.resign(first.leader)
            story.append(caller.leader(b"e").kv.value)
            no_leader = election.LeaderKey()
            story.append(refusal(lambda: caller.method("/v3electionpb.Election/Resign", election.ResignResponse)(
                election.ResignRequest(), timeout=10)))
            story.append(refusal(lambda: caller.proclaim(no_leader, b"x")))
            observation.cancel()
            thread.join()
            stories.append((story, told))
        self.assertEqual(*stories)

    def test_etcdctl(self):
        """etcdctl builds its locks and elections itself, of transactions and watches."""
        outputs = []
        for server in self.servers():
            result = server.etcdctl("lock", "l", "echo", "held")
            self.assertEqual(result.returncode, 0, result.stderr)
            output = [result.stdout]
            log = self.space / f"elect-{server.program}.log"
            leader = spawn(["etcdctl", "--endpoints", server.endpoint, "elect", "e", "first"], log)
            try:
                wait_until(lambda: log.exists() and "first" in log.read_text(), "the leader's election")
                listened = self.space / f"listen-{server.program}.log"
                listener = spawn(["etcdctl", "--endpoints", server.endpoint, "elect", "--listen", "e"], listened)
                wait_until(lambda: "first" in listened.read_text(), "what the listener hears")
                listener.terminate()
                listener.wait(10)
            finally:
                leader.terminate()
                leader.wait(10)
            output.append(server.etcdctl("get", "--prefix", "e", "--keys-only").stdout)
            outputs.append(output)
        self.assertEqual(*outputs)

    def test_health(self):
        for server in self.servers():
            check = self.caller(server).method("/grpc.health.v1.Health/Check", health.HealthCheckResponse)
            self.assertEqual(check(health.HealthCheckRequest(), timeout=5).status, 1)
            self.assertEqual(
                refusal(lambda: check(health.HealthCheckRequest(service="none"), timeout=5))[0], "NOT_FOUND")
            watch = self.caller(server).method(
                "/grpc.health.v1.Health/Watch", health.HealthCheckResponse, "unary_stream")
            for name, status in (("", 1), ("none", 3)):
                stream = watch(health.HealthCheckRequest(service=name), timeout=10)
                self.assertEqual(next(stream).status, status)
                stream.cancel()


class OneMember(Services):
    def setUp(self):
        super().setUp()
        self.node = self.space.own(Node(self.space, None, tls=False)).start()
        self.one = self.caller(self.node)

    def test_a_waiter_that_leaves_is_not_waited_for(self):
        for lease in (1, 2, 3):
            self.one.lease(id=lease)
        self.one.lock(b"l", 1).result()
        second = self.one.lock(b"l", 2)
        wait_until(lambda: len(self.one.keys(b"l/")) == 2, "the second waiter")
        third = self.one.lock(b"l", 3)
        wait_until(lambda: len(self.one.keys(b"l/")) == 3, "the third waiter")
        second.cancel()
        wait_until(lambda: self.one.keys(b"l/") == [b"l/1", b"l/3"], "the end of the key of who left")
        self.one.unlock(b"l/1")
        self.assertEqual(third.result().key, b"l/3")

    def test_a_waiter_whose_time_is_up_is_not_waited_for(self):
        for lease in (1, 2):
            self.one.lease(id=lease)
        self.one.campaign(b"e", b"a", 1).result()
        late = self.one.method("/v3electionpb.Election/Campaign", election.CampaignResponse)
        request = election.CampaignRequest(name=b"e", value=b"b", lease=2)
        self.assertEqual(refusal(lambda: late(request, timeout=0.5))[0], "DEADLINE_EXCEEDED")
        wait_until(lambda: self.one.keys(b"e/") == [b"e/1"], "the end of its key")

    def test_a_holder_that_dies_frees_the_lock_when_its_lease_runs_out(self):
        self.one.lock(b"l", self.one.lease(seconds=2)).result()
        start = time.monotonic()
        self.one.lock(b"l", self.one.lease()).result()
        self.assertLess(time.monotonic() - start, 20)

    def test_a_waiter_whose_lease_is_gone_does_not_get_the_lock(self):
        for lease in (1, 2):
            self.one.lease(id=lease)
        self.one.lock(b"l", 1).result()
        waiter = self.one.lock(b"l", 2)
        candidate = self.one.campaign(b"l", b"x", 2)
        wait_until(lambda: len(self.one.keys(b"l/")) == 2, "the waiter's key")
        self.one.revoke(2)
        self.one.unlock(b"l/1")
        self.assertEqual(refusal(waiter.result), ("UNKNOWN", "mutex: session is expired"))
        self.assertEqual(refusal(candidate.result), ("UNKNOWN", "election: not leader"))

    def test_a_hundred_callers_hold_it_one_at_a_time(self):
        leases = [self.one.lease() for _ in range(100)]
        calls = [self.one.lock(b"l", lease) for lease in leases]
        held = set()
        for _ in leases:
            done = wait_until(lambda: [call for call in calls if call.done() and call not in held], "the next holder")
            self.assertEqual(len(done), 1)
            held.add(done[0])
            self.one.unlock(done[0].result().key)
        self.assertEqual(self.one.keys(b"l/"), [])
        wait_until(lambda: self.node.metrics()["etcd_debugging_mvcc_watcher_total"] == 0, "the watches' end")


class ThreeMembers(Services):
    """Callers at different members, and a leader that is killed while they wait."""

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self.space, None, 3, tls=False).start()
        self.leader = self.cluster.leader()
        self.followers = [member for member in self.cluster.members.values() if member is not self.leader]

    def test_a_lock_goes_round_the_members(self):
        callers = [self.caller(member) for member in (self.leader, *self.followers)]
        calls = []
        for number, caller in enumerate(callers):
            calls.append(caller.lock(b"l", caller.lease(id=number + 1)))
            wait_until(lambda: len(callers[0].keys(b"l/")) == number + 1, "the caller's key")
        for number, call in enumerate(calls):
            self.assertEqual(call.result().key, b"l/%d" % (number + 1))
            self.assertFalse(any(later.done() for later in calls[number + 1:]))
            callers[-number - 1].unlock(call.result().key)

    def test_waiters_survive_the_leader(self):
        first, second = (self.caller(member) for member in self.followers)
        for lease in (1, 2):
            first.lease(id=lease)
        held = first.campaign(b"e", b"one", 1).result().leader
        waiting = second.campaign(b"e", b"two", 2)
        wait_until(lambda: len(first.keys(b"e/")) == 2, "the second candidate")
        self.leader.kill()
        wait_until(lambda: refusal(lambda: first.proclaim(held, b"still one")) is None, "the next leader", 30)
        self.assertFalse(waiting.done())
        first.resign(held)
        self.assertEqual(waiting.result().leader.key, b"e/2")
        self.assertEqual(second.leader(b"e").kv.value, b"two")


if __name__ == "__main__":
    unittest.main()
