"""The errors that etcd's clients match literally: each is provoked over gRPC at Debian's etcd and at Leasehold, and must be
the one of the table at both, code and text.

What the table names and no request can bring about at will stands in `NOT_PROVOKED`, with the reason."""

import concurrent.futures
import contextlib
import itertools
import socket
import time
import unittest

from etcd_client import rpc
from etcdctl_sides import PROGRAMS, Side
from harness import Workspace, wait_until

NOT_PROVOKED = {
    "FAILED_PRECONDITION: cluster ID mismatch": "said by members to each other, never to a client",
    "RESOURCE_EXHAUSTED: too many requests": "etcd's applying must lag 5,000 entries behind; Leasehold's in Swift tests",
    "UNAVAILABLE: leader changed": "a read must be under way in the moment of an election",
    "UNAVAILABLE: server stopped": "a request must be under way in the moment of the end",
    "UNAVAILABLE: request timed out, possibly due to previous leader failure": "an entry must be lost with its leader",
    "UNAVAILABLE: request timed out, possibly due to connection lost": "a connection must break in the very moment",
    "UNAVAILABLE: request timed out, waiting for the applied index took too long": "3.5 alone, and only when applying hangs",
    "DATA_LOSS: corrupt cluster": "a member's state must be damaged while it runs",
    "INVALID_ARGUMENT: revision of auth store is old": "rights must change between a request's check and its turn",
    "CANCELLED: watch canceled": "clients make it of a watch's last answer, the server sends no such status",
}


ANSWERED = "no error"
# Its raft library waits for a leader as long as the caller lets it.
WAITED = "UNKNOWN: context deadline exceeded"


class Case:
    """`provoke(client, side)` returns the `Call` that is refused. `control`: all that 3.4.23 says where 3.5, or what we
    make of it, says otherwise."""

    def __init__(self, error, provoke, control=None):
        self.error, self.provoke, self.control = error, provoke, control

    def expected(self, program):
        if program == "etcd" and self.control:
            return None if self.control == ANSWERED else self.control
        code, text = self.error.split(": ", 1)
        return f"{code}: etcdserver: {text}"


def put(client, key, **fields):
    return client.call("Put", rpc.PutRequest(key=key, **fields))


def compacted(client, side):
    for number in range(3):
        put(client, b"k", value=b"%d" % number)
    revision = client.ask("Put", rpc.PutRequest(key=b"k")).header.revision
    client.ask("Compact", rpc.CompactionRequest(revision=revision))
    return revision


def range_compacted(client, side):
    return client.call("Range", rpc.RangeRequest(key=b"k", revision=compacted(client, side) - 1))


def compact_again(client, side):
    return client.call("Compact", rpc.CompactionRequest(revision=compacted(client, side)))


def txn(client, *operations, compare=()):
    return client.call("Txn", rpc.TxnRequest(compare=compare, success=operations))


def put_op(key, **fields):
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, **fields))


def granted_twice(client, side):
    client.ask("LeaseGrant", rpc.LeaseGrantRequest(ID=77, TTL=100))
    return client.call("LeaseGrant", rpc.LeaseGrantRequest(ID=77, TTL=100))


def add(client, url, **fields):
    return client.call("MemberAdd", rpc.MemberAddRequest(peerURLs=[url], **fields))


def added_twice_in_a_second(client, side):
    """A member's ID comes from its URLs and the second."""
    for _ in range(10):
        time.sleep(1 - time.time() % 1)
        learner = add(client, "http://127.0.0.1:21", isLearner=True).answer.member.ID
        again = add(client, "http://127.0.0.1:21", isLearner=True)
        client.ask("MemberRemove", rpc.MemberRemoveRequest(ID=learner))
        if "member ID" in again.error:
            return again
    return again


# A member that comes back under its URLs in the same second would be the one that was removed.
ports = itertools.count(100)


def with_learner(then):
    """`then(client, ID)` while there is a learner that nobody has started."""
    def provoke(client, side):
        learner = add(client, f"http://127.0.0.1:{next(ports)}", isLearner=True).answer.member.ID
        call = then(client, learner)
        client.ask("MemberRemove", rpc.MemberRemoveRequest(ID=learner))
        return call
    return provoke


def own_id(side, number=0):
    return int(side.names[f"M{number}"], 16)


ONE_MEMBER = [
    Case("OUT_OF_RANGE: mvcc: required revision has been compacted", range_compacted),
    Case("OUT_OF_RANGE: mvcc: required revision has been compacted", compact_again),
    Case("OUT_OF_RANGE: mvcc: required revision is a future revision",
         lambda client, side: client.call("Range", rpc.RangeRequest(key=b"k", revision=1 << 40))),
    Case("OUT_OF_RANGE: mvcc: required revision is a future revision",
         lambda client, side: client.call("Compact", rpc.CompactionRequest(revision=1 << 40))),
    Case("OUT_OF_RANGE: mvcc: required revision is a future revision",
         lambda client, side: client.call("HashKV", rpc.HashKVRequest(revision=1 << 40))),
    Case("OUT_OF_RANGE: too large lease TTL",
         lambda client, side: client.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=9_000_000_001))),
    Case("NOT_FOUND: requested lease not found", lambda client, side: put(client, b"k", lease=7)),
    Case("NOT_FOUND: requested lease not found",
         lambda client, side: client.call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=7))),
    Case("NOT_FOUND: requested lease not found", lambda client, side: txn(client, put_op(b"k", lease=7))),
    Case("FAILED_PRECONDITION: lease already exists", granted_twice),
    Case("INVALID_ARGUMENT: key is not provided", lambda client, side: put(client, b"")),
    Case("INVALID_ARGUMENT: key is not provided", lambda client, side: client.call("Range", rpc.RangeRequest())),
    Case("INVALID_ARGUMENT: key is not provided", lambda client, side: client.call("DeleteRange",
    rpc.DeleteRangeRequest())),
    Case("INVALID_ARGUMENT: key is not provided", lambda client, side: txn(client, compare=[rpc.Compare()])),
    Case("INVALID_ARGUMENT: key not found", lambda client, side: put(client, b"absent", ignore_value=True)),
    Case("INVALID_ARGUMENT: key not found", lambda client, side: put(client, b"absent", ignore_lease=True)),
    Case("INVALID_ARGUMENT: value is provided", lambda client, side: put(client, b"k", value=b"v", ignore_value=True)),
    Case("INVALID_ARGUMENT: lease is provided", lambda client, side: put(client, b"k", lease=7, ignore_lease=True)),
    Case("INVALID_ARGUMENT: too many operations in txn request",
         lambda client, side: txn(client, *[put_op(b"%d" % number) for number in range(129)])),
    Case("INVALID_ARGUMENT: duplicate key given in txn request",
         lambda client, side: txn(client, put_op(b"k"), put_op(b"k"))),
    Case("INVALID_ARGUMENT: invalid sort option",
         lambda client, side: client.call("Range", rpc.RangeRequest(key=b"k", sort_order=7)),
         control=ANSWERED),
    Case("INVALID_ARGUMENT: request is too large", lambda client, side: put(client, b"k", value=b"x" * 1_600_000)),
    Case("NOT_FOUND: member not found",
         lambda client, side: client.call("MemberUpdate", rpc.MemberUpdateRequest(ID=7,
             peerURLs=["http://127.0.0.1:23"]))),
    Case("NOT_FOUND: member not found", lambda client, side: client.call("MemberPromote",
    rpc.MemberPromoteRequest(ID=7))),
    Case("FAILED_PRECONDITION: Peer URLs already exists",
         lambda client, side: add(client, side.members[0].peer_url, isLearner=True)),
    Case("FAILED_PRECONDITION: member ID already exist", added_twice_in_a_second),
    Case("INVALID_ARGUMENT: given member URLs are invalid", lambda client, side: add(client, "nonsense")),
    # etcd gives this one no code.
    Case("UNKNOWN: re-configuration failed due to not enough started members",
         lambda client, side: client.call("MemberRemove", rpc.MemberRemoveRequest(ID=own_id(side)))),
    Case("FAILED_PRECONDITION: can only promote a learner member",
         lambda client, side: client.call("MemberPromote", rpc.MemberPromoteRequest(ID=own_id(side)))),
    Case("FAILED_PRECONDITION: can only promote a learner member which is in sync with leader",
         with_learner(lambda client, learner: client.call("MemberPromote", rpc.MemberPromoteRequest(ID=learner)))),
    Case("FAILED_PRECONDITION: too many learner members in cluster",
         with_learner(lambda client, learner: add(client, "http://127.0.0.1:24", isLearner=True))),
    Case("FAILED_PRECONDITION: bad leader transferee",
         lambda client, side: client.call("MoveLeader", rpc.MoveLeaderRequest(targetID=7))),
]


def fill(client, side):
    for _ in range(100):
        call = put(client, b"filler", value=b"x" * 1_000_000)
        if call.answer is None:
            return call
    return call


FULL = [
    Case("RESOURCE_EXHAUSTED: mvcc: database space exceeded", fill),
    Case("RESOURCE_EXHAUSTED: mvcc: database space exceeded", lambda client, side: put(client, b"small")),
    Case("RESOURCE_EXHAUSTED: mvcc: database space exceeded", lambda client, side: txn(client, put_op(b"small"))),
    Case("RESOURCE_EXHAUSTED: mvcc: database space exceeded",
         lambda client, side: client.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=100))),
]

LEARNER = [
    Case("UNAVAILABLE: rpc not supported for learner", lambda client, side: put(client, b"k")),
    Case("UNAVAILABLE: rpc not supported for learner",
         lambda client, side: client.call("Range", rpc.RangeRequest(key=b"k"))),
    Case("UNAVAILABLE: rpc not supported for learner",
         lambda client, side: client.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=100))),
    Case("UNAVAILABLE: rpc not supported for learner",
         lambda client, side: client.call("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:25"]))),
]

WITHOUT_AUTH = [
    Case("FAILED_PRECONDITION: authentication is not enabled",
         lambda client, side: client.call("Authenticate", rpc.AuthenticateRequest(name="root", password="x"))),
    Case("FAILED_PRECONDITION: root user does not exist",
         lambda client, side: client.call("AuthEnable", rpc.AuthEnableRequest())),
    Case("INVALID_ARGUMENT: user name is empty", lambda client, side: client.call("UserAdd", rpc.AuthUserAddRequest())),
    Case("FAILED_PRECONDITION: user name not found",
         lambda client, side: client.call("UserGet", rpc.AuthUserGetRequest(name="nobody"))),
    Case("FAILED_PRECONDITION: role name not found",
         lambda client, side: client.call("RoleGet", rpc.AuthRoleGetRequest(role="none"))),
    Case("FAILED_PRECONDITION: user name already exists", lambda client, side: twice(
        client, "UserAdd", rpc.AuthUserAddRequest(name="root", password="secret"))),
    Case("FAILED_PRECONDITION: root user does not have root role",
         lambda client, side: client.call("AuthEnable", rpc.AuthEnableRequest())),
    Case("FAILED_PRECONDITION: role name already exists", lambda client, side: twice(
        client, "RoleAdd", rpc.AuthRoleAddRequest(name="root"))),
    Case("FAILED_PRECONDITION: role is not granted to the user",
         lambda client, side: client.call("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="root", role="root"))),
    Case("FAILED_PRECONDITION: permission is not granted to the role",
         lambda client, side: client.call("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="root",
             key=b"k"))),
]


def twice(client, name, request):
    client.ask(name, request)
    return client.call(name, request)


def token(client, name, password):
    return [("token", client.ask("Authenticate", rpc.AuthenticateRequest(name=name, password=password)).token)]


def enable(client):
    for name, request in (
            ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root")),
            ("UserAdd", rpc.AuthUserAddRequest(name="guest", password="guest")), ("AuthEnable",
            rpc.AuthEnableRequest())):
        client.ask(name, request)


WITH_AUTH = [
    Case("INVALID_ARGUMENT: user name is empty", lambda client, side: put(client, b"k")),
    Case("INVALID_ARGUMENT: authentication failed, invalid user ID or password",
         lambda client, side: client.call("Authenticate", rpc.AuthenticateRequest(name="root", password="wrong"))),
    Case("INVALID_ARGUMENT: authentication failed, invalid user ID or password",
         lambda client, side: client.call("Authenticate", rpc.AuthenticateRequest(name="nobody", password="x"))),
    Case("UNAUTHENTICATED: invalid auth token",
         lambda client, side: client.call("Put", rpc.PutRequest(key=b"k"), metadata=[("token", "nonsense.1")])),
    Case("PERMISSION_DENIED: permission denied",
         lambda client, side: client.call("Put", rpc.PutRequest(key=b"k"), metadata=token(client, "guest", "guest"))),
    Case("PERMISSION_DENIED: permission denied",
         lambda client, side: client.call("AuthDisable", rpc.AuthDisableRequest(), metadata=token(client, "guest",
             "guest"))),
    Case("INVALID_ARGUMENT: invalid auth management",
         lambda client, side: client.call(
             "UserDelete", rpc.AuthUserDeleteRequest(name="root"), metadata=token(client, "root", "secret"))),
]


class Errors(unittest.TestCase):
    def sides(self, prepare=lambda side: None, **options):
        space = Workspace()
        self.addCleanup(space.close)

        # On this thread: a server ends with the thread that has started it.
        sides = [Side(program, space, None, **options).start() for program in PROGRAMS]
        for side in sides:
            prepare(side)
        return sides

    def provoke(self, cases, sides, member=0):
        clients = [side.grpc(member) for side in sides]
        for case in cases:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                calls = list(pool.map(case.provoke, clients, sides))
            for side, call in zip(sides, calls):
                with self.subTest(case.error, program=side.program):
                    self.assertEqual(call.error, case.expected(side.program))

    def test_one_member(self):
        self.provoke(ONE_MEMBER, self.sides())

    def test_a_full_store(self):
        self.provoke(FULL, self.sides(flags=["--quota-backend-bytes", str(16 << 20)]))

    def test_a_learner(self):
        def join(side):
            learner = side.join("learner")
            wait_until(lambda: listens(learner.port), f"{side.program}: a learner that listens")
            client = side.grpc(1)
            wait_until(
                lambda: "learner" in (put(client, b"k").error or ""), f"{side.program}: a learner that serves")
        self.provoke(LEARNER, self.sides(join), member=1)

    def test_three_members(self):
        sides = self.sides(lambda side: side.lead(0), size=3)
        self.provoke([Case(
            "FAILED_PRECONDITION: not leader",
            lambda client, side: client.call("MoveLeader", rpc.MoveLeaderRequest(targetID=own_id(side, 1))))], sides,
                member=1)
        for side in sides:
            side.members[2].kill()
        self.provoke([Case("UNAVAILABLE: unhealthy cluster", when_noticed)], sides)
        for side in sides:
            side.members[1].kill()
        self.provoke([
            Case("UNAVAILABLE: no leader", no_leader),
            Case("UNAVAILABLE: request timed out", lambda client, side: put(client, b"k"), control=WAITED),
            Case("UNAVAILABLE: request timed out", lambda client, side: client.call("Range",
            rpc.RangeRequest(key=b"k"))),
        ], sides)

    def test_auth(self):
        sides = self.sides()
        probe = sides[1].grpc().call("AuthStatus", rpc.AuthStatusRequest())
        if probe.error and "UNIMPLEMENTED" in probe.error:
            self.skipTest("the server has no Auth service")
        self.provoke(WITHOUT_AUTH, sides)
        for side in sides:
            enable(side.grpc())
        self.provoke(WITH_AUTH, sides)


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def when_noticed(client, side):
    """A voter beside one that is gone, once that is known."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        call = add(client, f"http://127.0.0.1:{next(ports)}")
        if call.answer is None:
            return call
        client.ask("MemberRemove", rpc.MemberRemoveRequest(ID=call.answer.member.ID))
    return call


def no_leader(client, side):
    """Clients that want to know at once say so with each call."""
    def refused():
        call = client.call("Range", rpc.RangeRequest(key=b"k"), metadata=[("hasleader", "true")])
        return call if "no leader" in (call.error or "") else None
    return wait_until(refused, f"{side.program}: the loss of the leader", 30, 0.1)


if __name__ == "__main__":
    unittest.main()
