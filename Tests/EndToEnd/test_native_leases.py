"""leaseholdpb.Leases over the wire of a real node: milliseconds, batches, durability, and etcd's view of the same leases."""

import subprocess
import sys
import time
import unittest

import grpc
from harness import PKI, REPOSITORY, Node, Workspace, wait_until

PROTOS = REPOSITORY / "Sources" / "EtcdAPI" / "Protos"
CALL_SECONDS = 20
# The node's minimum with its default election time-out, in milliseconds.
MINIMUM = 2_000


class NativeLeases:
    """The service by method names, with messages made by protoc when the tests start."""

    def __init__(self, node, messages):
        self.messages = messages
        # A pool of its own: gRPC shares connections by address otherwise, also those to a node that was killed.
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{node.port}", options=[("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)])

    def call(self, name, **fields):
        method = self.channel.unary_unary(
            f"/leaseholdpb.Leases/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=getattr(self.messages, f"{name}Response").FromString)
        return method(getattr(self.messages, f"{name}Request")(**fields), timeout=CALL_SECONDS)

    def remaining(self, ids):
        return list(self.call("TimeToLive", ids=ids).remaining_ms)

    def stop(self):
        self.channel.close()


class NativeLeaseTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        subprocess.run(
            ["protoc", f"--python_out={cls.space}", f"--proto_path={PROTOS}", "leases.proto"], check=True)
        sys.path.insert(0, str(cls.space))
        cls.addClassCleanup(sys.path.remove, str(cls.space))
        import leases_pb2
        cls.messages = leases_pb2
        cls.pki = PKI(cls.space / "pki")

    def setUp(self):
        name = self.id().rsplit(".", 1)[-1]
        self.node = Node(self.space, self.pki, name=name, tls=False).start()
        self.addCleanup(self.node.stop)
        self.connect()

    def connect(self):
        self.leases = NativeLeases(self.node, self.messages)
        self.addCleanup(self.leases.stop)

    def items(self, count, ttl_ms, prefix="k"):
        return [self.messages.GrantAndPutRequest.Item(key=b"%s/%06d" % (prefix.encode(), number), value=b"v", ttl_ms=ttl_ms)
                for number in range(count)]

    def keys(self, prefix="k"):
        result = self.node.etcdctl("get", "--prefix", prefix, "--keys-only")
        self.assertEqual(result.returncode, 0, result.stderr)
        return [line for line in result.stdout.splitlines() if line]

    def refusal(self, name, **fields):
        with self.assertRaises(grpc.RpcError) as caught:
            self.leases.call(name, **fields)
        return caught.exception.code(), caught.exception.details()

    def test_a_lease_with_a_key_runs_out_on_time_and_never_early(self):
        ttl = 2_750
        before = time.monotonic()
        answer = self.leases.call("GrantAndPut", items=self.items(500, ttl))
        granted = time.monotonic()
        self.assertEqual(list(answer.ttls_ms), [ttl] * 500)
        self.assertEqual(len(set(answer.leases)), 500)
        revision = answer.header.revision
        self.assertTrue(all(0 < left <= ttl for left in self.leases.remaining(answer.leases)))
        while self.keys():
            self.assertLess(time.monotonic(), granted + ttl / 1000 + 5, "expiry is long overdue")
        self.assertGreaterEqual(time.monotonic() - before, ttl / 1000, "no lease may end early")
        wait_until(lambda: set(self.leases.remaining(answer.leases)) == {-1}, "the end of all leases", 5)
        # Each lease ended at a revision of its own, as etcd's clients expect.
        self.assertEqual(self.leases.call("TimeToLive", ids=[1]).header.revision, revision + 500)

    def test_renewals_hold_leases_and_skip_what_is_not_there(self):
        held, dropped = (self.leases.call("Grant", leases=[{"ttl_ms": MINIMUM}]).ids[0] for _ in range(2))
        end = time.monotonic() + 2 * MINIMUM / 1000
        while time.monotonic() < end:
            self.assertEqual(list(self.leases.call("Renew", ids=[held, 4_711]).ttls_ms), [MINIMUM, 0])
            time.sleep(0.1)
        wait_until(lambda: self.leases.remaining([dropped]) == [-1], "the end of the lease that nobody renewed", 5)
        self.assertGreater(self.leases.remaining([held])[0], 0)
        self.assertEqual(list(self.leases.call("Renew", ids=[dropped]).ttls_ms), [0])

    def test_what_was_answered_survives_kill_9(self):
        answer = self.leases.call("GrantAndPut", items=self.items(1_000, 600_000))
        granted = self.leases.call("Grant", leases=[{"ttl_ms": 300_000, "id": 99}, {"ttl_ms": 1, "id": 98}])
        self.assertEqual((list(granted.ids), list(granted.ttls_ms)), ([99, 98], [300_000, MINIMUM]))
        ids = [*answer.leases, 99]
        before = self.leases.remaining(ids)
        self.node.kill()
        self.node.start()
        self.connect()
        after = self.leases.remaining(ids)
        # The lease clock stood still while the node was down, and not one lease got its whole time again.
        self.assertTrue(all(0 <= old - new < 10_000 for old, new in zip(before, after)), (before[:3], after[:3]))
        self.assertEqual(len(self.keys()), 1_000)

    def test_etcd_clients_see_the_same_leases(self):
        lease = self.leases.call("GrantAndPut", items=self.items(1, 60_500)).leases[0]
        shown = self.node.etcdctl("lease", "timetolive", f"{lease:x}", "--keys").stdout
        self.assertIn("granted with TTL(60s)", shown)
        self.assertIn("k/000000", shown)
        self.assertEqual(self.node.etcdctl("lease", "revoke", f"{lease:x}").returncode, 0)
        self.assertEqual(self.keys(), [])
        self.assertEqual(self.leases.remaining([lease]), [-1])

    def test_refusals_are_clear_and_change_nothing(self):
        self.leases.call("Grant", leases=[{"ttl_ms": 60_000, "id": 7}])
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        taken = self.items(2, 60_000)
        taken[1].lease = 7
        twice = self.items(1, 60_000) * 2
        for name, fields, expected in [
            ("Renew", {"ids": []}, (invalid, "leasehold: the request names no lease")),
            ("Renew", {"ids": range(1, 10_002)}, (invalid, "leasehold: 10001 leases in one request; the limit is 10000")),
            ("GrantAndPut", {"items": self.items(1_001, 60_000)},
             (invalid, "leasehold: 1001 leases in one request; the limit is 1000")),
            ("GrantAndPut", {"items": twice}, (invalid, "leasehold: item 1: its key stands twice")),
            ("Grant", {"leases": [{"ttl_ms": 1 << 62}]},
             (grpc.StatusCode.OUT_OF_RANGE, "leasehold: item 0: too large lease TTL")),
            ("GrantAndPut", {"items": taken},
             (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: lease already exists")),
        ]:
            with self.subTest(expected[1]):
                self.assertEqual(self.refusal(name, **fields), expected)
        self.assertEqual(self.keys(), [])
        self.assertTrue(self.node.is_healthy())


if __name__ == "__main__":
    unittest.main()
