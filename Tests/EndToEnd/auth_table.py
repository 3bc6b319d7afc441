"""Who asks for what: users, what they may do, and one request of each kind, for `test_auth`."""

from etcd_client import rpc  # first: it makes the messages

import auth_pb2 as authpb

READ, WRITE, READWRITE = 0, 1, 2
# Role → permissions. Two of `split` together cover [s/, s/m) and touch; `open` reaches to the end of all keys.
ROLES = {
    "reader": [(READ, b"r/", b"r0")],
    "writer": [(WRITE, b"w/", b"w0")],
    "both": [(READWRITE, b"b/", b"b0"), (READ, b"one", b"")],
    "split": [(READWRITE, b"s/", b"s/f"), (READWRITE, b"s/f", b"s/m"), (WRITE, b"s/x", b"")],
    "open": [(READWRITE, b"o", b"\0")],
}
USERS = {
    "alice": ["reader"], "bob": ["writer"], "carol": ["both"], "dave": ["reader", "writer"], "erin": [],
    "frank": ["split", "open"]}
PASSWORD = "correct horse"


def range_of(key, end=b"", **more):
    return "Range", rpc.RangeRequest(key=key, range_end=end, **more)


def put(key, **more):
    return "Put", rpc.PutRequest(key=key, value=b"new", **more)


def delete(key, end=b"", **more):
    return "DeleteRange", rpc.DeleteRangeRequest(key=key, range_end=end, **more)


def op(request):
    name, message = request
    field = {"Range": "request_range", "Put": "request_put", "DeleteRange": "request_delete_range",
             "Txn": "request_txn"}[name]
    return rpc.RequestOp(**{field: message})


def txn(compared=(), success=(), failure=()):
    return "Txn", rpc.TxnRequest(
        compare=[rpc.Compare(key=key, target=rpc.Compare.VERSION, result=rpc.Compare.GREATER, version=0)
                 for key in compared],
        success=[op(request) for request in success], failure=[op(request) for request in failure])


def watch(key, end=b""):
    return "Watch", rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, range_end=end))


def keys():
    """Requests on keys: (what, method, request)."""
    yield "a key of r/", *range_of(b"r/1")
    yield "a key of r/, serializable", *range_of(b"r/1", serializable=True)
    yield "all of r/", *range_of(b"r/", b"r0")
    yield "more than r/", *range_of(b"r/", b"r1")
    yield "a part of r/", *range_of(b"r/1", b"r/3", keys_only=True)
    yield "all keys", *range_of(b"\0", b"\0", count_only=True)
    yield "a key of w/", *range_of(b"w/1")
    yield "a key of b/", *range_of(b"b/1")
    yield "the single key", *range_of(b"one")
    yield "a range that is the single key", *range_of(b"one", b"one\0")
    yield "a range from the single key", *range_of(b"one", b"two")
    yield "two ranges that touch", *range_of(b"s/", b"s/m")
    yield "two ranges and the next key", *range_of(b"s/", b"s/m\0")
    yield "the rest of all keys", *range_of(b"o", b"\0")
    yield "all from p", *range_of(b"p", b"\0", count_only=True)
    yield "no key", *range_of(b"")
    yield "put w/", *put(b"w/1")
    yield "put w/ with what was there", *put(b"w/1", prev_kv=True)
    yield "put r/", *put(b"r/1")
    yield "put b/", *put(b"b/1")
    yield "put b/ with what was there", *put(b"b/1", prev_kv=True)
    yield "put s/x", *put(b"s/x")
    yield "put without a key", *put(b"")
    yield "delete of w/", *delete(b"w/9")
    yield "delete of b/", *delete(b"b/8", b"b/9")
    yield "delete of b/ with what was there", *delete(b"b/8", b"b/9", prev_kv=True)
    yield "delete of w/ with what was there", *delete(b"w/9", prev_kv=True)
    yield "delete beyond b/", *delete(b"b/8", b"c")
    yield "txn: if r/ put w/", *txn([b"r/1"], [put(b"w/2")])
    yield "txn: if w/ put w/", *txn([b"w/1"], [put(b"w/2")])
    yield "txn: else delete b/", *txn([], [], [delete(b"b/9")])
    yield "txn: reads r/ only", *txn([b"r/1"], [range_of(b"r/1")], [range_of(b"r/2")])
    yield "txn: reads r/ and b/", *txn([b"r/1"], [range_of(b"r/1")], [range_of(b"b/2")])
    yield "txn: delete w/ with what was there", *txn([], [delete(b"w/9", prev_kv=True)])
    yield "txn without anything", *txn()
    yield "watch r/", *watch(b"r/", b"r0")
    yield "watch beyond r/", *watch(b"r/", b"s")
    yield "watch the single key", *watch(b"one")


def later():
    """What etcd closed after 3.4.23: (what, method, request)."""
    yield "txn in a txn: put w/", *txn([], [txn([], [put(b"w/3")])])
    yield "txn in a txn: reads r/", *txn([], [txn([], [range_of(b"r/1")]), put(b"w/4")])
    yield "txn in a txn: if r/", *txn([], [], [txn([b"r/1"], [put(b"b/4")])])
    yield "txn: put w/ with what was there", *txn([], [put(b"w/1", prev_kv=True)])
    yield "watch all from o", *watch(b"o", b"\0")
    yield "watch all from b", *watch(b"b/1", b"\0")
    yield "compact", "Compact", rpc.CompactionRequest(revision=1)
    yield "status", "Status", rpc.StatusRequest()
    yield "members", "MemberList", rpc.MemberListRequest()
    yield "members, linearizable", "MemberList", rpc.MemberListRequest(linearizable=True)
    yield "alarms", "Alarm", rpc.AlarmRequest()
    yield "end an alarm", "Alarm", rpc.AlarmRequest(action=2, memberID=5, alarm=1)
    yield "move the leader", "MoveLeader", rpc.MoveLeaderRequest(targetID=5)


def leases(lease):
    """On leases that `lease` names by the key on them; `None` has none."""
    def attached(key):
        return lease[key]

    yield "put w/ on a lease of w/", *put(b"w/5", lease=attached("w/leased"))
    yield "put w/ on a lease of r/", *put(b"w/5", lease=attached("r/leased"))
    yield "put w/ on a lease without keys", *put(b"w/6", lease=attached(None))
    yield "revoke a lease of r/", "LeaseRevoke", rpc.LeaseRevokeRequest(ID=attached("r/leased"))


def later_leases(lease):
    yield "grant", "LeaseGrant", rpc.LeaseGrantRequest(TTL=600)
    yield "keep a lease of r/ alive", "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=lease["r/leased"])
    yield "keep a lease without keys alive", "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=lease[None])
    yield "keep a lease alive that is not there", "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=77)
    yield "time of a lease of r/", "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease["r/leased"])
    yield "keys of a lease of r/", "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease["r/leased"], keys=True)
    yield "leases", "LeaseLeases", rpc.LeaseLeasesRequest()
    yield "revoke a lease that is not there", "LeaseRevoke", rpc.LeaseRevokeRequest(ID=77)
    yield "txn: put w/ on a lease of r/", *txn([], [put(b"w/5", lease=lease["r/leased"])])


def administration():
    """What is root's, and what users may ask about themselves."""
    def permission(key, end=b"", kind=READ):
        return authpb.Permission(permType=kind, key=key, range_end=end)

    yield "hash", "Hash", rpc.HashRequest()
    yield "hash of keys", "HashKV", rpc.HashKVRequest()
    yield "defragment", "Defragment", rpc.DefragmentRequest()
    yield "snapshot", "Snapshot", rpc.SnapshotRequest()
    yield "add a member", "MemberAdd", rpc.MemberAddRequest(peerURLs=["nonsense"])
    yield "remove a member", "MemberRemove", rpc.MemberRemoveRequest(ID=5)
    yield "promote a member", "MemberPromote", rpc.MemberPromoteRequest(ID=5)
    yield "update a member", "MemberUpdate", rpc.MemberUpdateRequest(ID=5, peerURLs=["http://127.0.0.1:9"])
    yield "enable", "AuthEnable", rpc.AuthEnableRequest()
    yield "users", "UserList", rpc.AuthUserListRequest()
    yield "roles", "RoleList", rpc.AuthRoleListRequest()
    yield "user alice", "UserGet", rpc.AuthUserGetRequest(name="alice")
    yield "user root", "UserGet", rpc.AuthUserGetRequest(name="root")
    yield "user nobody", "UserGet", rpc.AuthUserGetRequest(name="nobody")
    yield "role reader", "RoleGet", rpc.AuthRoleGetRequest(role="reader")
    yield "role root", "RoleGet", rpc.AuthRoleGetRequest(role="root")
    yield "role nothing", "RoleGet", rpc.AuthRoleGetRequest(role="nothing")
    yield "add a user", "UserAdd", rpc.AuthUserAddRequest(name="erin", password="x")
    yield "add no user", "UserAdd", rpc.AuthUserAddRequest(password="x")
    yield "delete a user", "UserDelete", rpc.AuthUserDeleteRequest(name="gone")
    yield "delete root", "UserDelete", rpc.AuthUserDeleteRequest(name="root")
    yield "change a password", "UserChangePassword", rpc.AuthUserChangePasswordRequest(name="gone", password="x")
    yield "grant a role", "UserGrantRole", rpc.AuthUserGrantRoleRequest(user="alice", role="nothing")
    yield "grant a role to nobody", "UserGrantRole", rpc.AuthUserGrantRoleRequest(user="gone", role="reader")
    yield "grant a role again", "UserGrantRole", rpc.AuthUserGrantRoleRequest(user="alice", role="reader")
    yield "revoke a role", "UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="alice", role="writer")
    yield "revoke root's role", "UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="root", role="root")
    yield "revoke a role of nobody", "UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="gone", role="root")
    yield "add a role", "RoleAdd", rpc.AuthRoleAddRequest(name="reader")
    yield "add no role", "RoleAdd", rpc.AuthRoleAddRequest()
    yield "delete a role", "RoleDelete", rpc.AuthRoleDeleteRequest(role="nothing")
    yield "delete the root role", "RoleDelete", rpc.AuthRoleDeleteRequest(role="root")
    yield "permit no role", "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(
        name="nothing", perm=permission(b"a"))
    yield "forbid what was not permitted", "RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(
        role="reader", key=b"r/")
    yield "forbid no role", "RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="nothing", key=b"a")
    yield "authenticate", "Authenticate", rpc.AuthenticateRequest(name="alice", password="wrong")
    yield "authenticate as nobody", "Authenticate", rpc.AuthenticateRequest(name="gone", password="x")
    yield "authenticate without a name", "Authenticate", rpc.AuthenticateRequest()


def prepare(client):
    """Users, roles, keys and leases; answers the leases by the key on them. Users count afterwards."""
    leases = {}
    for key in ("r/leased", "w/leased", None):
        leases[key] = client.ask("LeaseGrant", rpc.LeaseGrantRequest(TTL=3_600)).ID
        if key:
            client.ask("Put", rpc.PutRequest(key=key.encode(), value=b"old", lease=leases[key]))
    for key in (b"r/1", b"r/2", b"w/1", b"b/1", b"one", b"o", b"s/1"):
        client.ask("Put", rpc.PutRequest(key=key, value=b"old"))
    for role, permissions in ROLES.items():
        client.ask("RoleAdd", rpc.AuthRoleAddRequest(name=role))
        for kind, key, end in permissions:
            client.ask("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(
                name=role, perm=authpb.Permission(permType=kind, key=key, range_end=end)))
    for user, roles in USERS.items():
        client.ask("UserAdd", rpc.AuthUserAddRequest(name=user, password=PASSWORD))
        for role in roles:
            client.ask("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=user, role=role))
    client.ask("RoleAdd", rpc.AuthRoleAddRequest(name="root"))
    client.ask("UserAdd", rpc.AuthUserAddRequest(name="root", password=PASSWORD))
    client.ask("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    client.ask("AuthEnable", rpc.AuthEnableRequest())
    return leases
