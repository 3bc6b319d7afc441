"""Users, roles and permissions: who may do what, beside Debian's etcd; tokens at every member; after restarts and from
snapshots; signed tokens that etcd and Leasehold take from each other; names in certificates."""

import base64
import json
import shutil
import signal
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import auth_table as table
import grpc
from auth_client import AuthClient
from auth_table import PASSWORD, authpb, rpc
from cluster import Cluster
from harness import PKI, Etcd, Node, Workspace, leasehold, run, wait_until

# Those who may do most come last: what they do is done.
CALLERS = ["nobody", "impostor", *table.USERS, "root"]
NO_USER = "INVALID_ARGUMENT: etcdserver: user name is empty"
NO_TOKEN = "UNAUTHENTICATED: etcdserver: invalid auth token"
DENIED = "PERMISSION_DENIED: etcdserver: permission denied"


def canceled(code, text):
    return f"canceled: rpc error: code = {code} desc = etcdserver: {text}"


class QuickEtcd(Etcd):
    """The control with passwords that are quick to hash."""

    extra = ()

    def command(self):
        return [*super().command(), "--bcrypt-cost", "4", *self.extra]


class AuthCase(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)

    def client(self, server, credentials=None):
        client = AuthClient(server.port, credentials)
        self.addCleanup(client.close)
        return client

    def node(self, *extra, name="n0"):
        return self.space.own(Node(self.space, None, name=name, tls=False, extra=extra))

    def tokens(self, client):
        return {user: client.token(user, PASSWORD) for user in ["root", *table.USERS]} | {
            "nobody": None, "impostor": "abcdefghijklmnop.1"}


class BesideEtcd(AuthCase):
    def setUp(self):
        super().setUp()
        etcd = self.space.own(QuickEtcd(self.space, None, tls=False).spawn())
        ours = self.node("--bcrypt-cost", "4").spawn()
        self.etcd, self.ours = (self.client(server) for server in (etcd, ours))
        for server in (etcd, ours):
            server.wait_ready()

    def fates(self, client, requests, leases, tokens):
        """{(caller, what): fate}, in the order of the requests."""
        found = {}
        for what, name, request in requests(leases) if requests.__code__.co_argcount else requests():
            for caller in CALLERS:
                found[caller, what] = client.fate(name, request, tokens[caller])
        return found

    def prepared(self):
        """Each server's leases and tokens."""
        return self.at_both(lambda client: (client, table.prepare(client), self.tokens(client)))

    def at_both(self, work):
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(work, (self.etcd, self.ours)))

    def both_fates(self, requests, prepared):
        """What became of the requests at etcd, and here."""
        parts = {client: (leases, tokens) for client, leases, tokens in prepared}
        return self.at_both(lambda client: self.fates(client, requests, *parts[client]))

    def assert_equal(self, control, ours, deviations=None):
        different = {}
        for key, fate in ours.items():
            expected = (deviations or {}).get(key, control[key])
            if fate != expected:
                different[key] = {"etcd": control[key], "expected": expected, "ours": fate}
        self.assertEqual(different, {}, "\n".join(f"{k}: {v}" for k, v in different.items()))

    def test_every_user_and_every_request_on_keys_leases_and_administration(self):
        prepared = self.prepared()
        count = 0
        for requests in (table.keys, table.leases, table.administration):
            control, found = self.both_fates(requests, prepared)
            self.assert_equal(control, found, self.of_3_5(control))
            count += len(found)
        self.assertGreater(count, 600)

    def of_3_5(self, control):
        """Where etcd 3.5 answers otherwise than 3.4: maintenance is refused with the codes of all the others, and the root
        role shows that it has everything (#13006)."""
        codes = {"UNKNOWN: auth: permission denied": DENIED, "UNKNOWN: auth: user name is empty": NO_USER,
                 "UNKNOWN: auth: invalid auth token": NO_TOKEN}
        deviations = {key: codes[fate] for key, fate in control.items() if fate in codes}
        if ("root", "role root") in control:
            self.assertEqual(control["root", "role root"], "OK []")
            deviations["root", "role root"] = "OK [(2, b'', b'\\x00')]"
        return deviations

    def test_what_etcd_has_closed_since(self):
        """3.4.23 lets anybody do these; 3.5.30 does not (CVE-2026-33413, CVE-2026-33343, CVE-2026-44283), and neither do
        we. A watch from one key on is judged by all of its keys, which etcd does not do yet."""
        prepared = self.prepared()
        users = set(table.USERS)
        allowed = {  # to whom besides root
            "txn in a txn: put w/": {"bob", "dave", "frank"}, "txn in a txn: reads r/": {"dave", "frank"},
            "txn in a txn: if r/": set(), "txn: put w/ with what was there": {"frank"},
            "watch all from o": {"frank"}, "watch all from b": set(), "compact": set(), "status": users,
            "members": users, "members, linearizable": users, "alarms": users, "end an alarm": set(),
            "move the leader": set(), "txn: put w/ on a lease of r/": {"frank"}, "grant": users,
            "keep a lease of r/ alive": {"frank"}, "keep a lease without keys alive": users,
            "keep a lease alive that is not there": users, "time of a lease of r/": users,
            "keys of a lease of r/": {"alice", "dave", "frank"}, "leases": {"frank"},
            "revoke a lease that is not there": users}
        asked = set()
        for requests in (table.later, table.later_leases):
            control, found = self.both_fates(requests, prepared)
            if ("root", "compact") in control:
                control["root", "compact"] = "OK"  # there, somebody has done it before
            for (caller, what), fate in found.items():
                asked.add(what)
                with self.subTest(caller=caller, what=what):
                    is_watch = what.startswith("watch")
                    if caller == "root" or caller in allowed[what]:
                        self.assertEqual(fate, control["root", what])
                    elif caller == "nobody":
                        self.assertEqual(fate, canceled("InvalidArgument", "user name is empty") if is_watch else NO_USER)
                    elif caller == "impostor":
                        self.assertEqual(fate, canceled("Unauthenticated", "invalid auth token") if is_watch else NO_TOKEN)
                    else:
                        self.assertEqual(fate, canceled("PermissionDenied", "permission denied") if is_watch else DENIED)
        self.assertEqual(asked, set(allowed))

    def test_making_and_unmaking_users_and_roles(self):
        """A story of administration, before users count and after; each step's answer is etcd's."""
        def user(name, **more):
            return rpc.AuthUserAddRequest(name=name, **more)

        def permit(kind, key, end=b""):
            return "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(
                name="r", perm=authpb.Permission(permType=kind, key=key, range_end=end))

        story = [
            ("AuthDisable", rpc.AuthDisableRequest()), ("AuthEnable", rpc.AuthEnableRequest()),
            ("Authenticate", rpc.AuthenticateRequest(name="root", password="x")),
            ("UserAdd", user("root", password="pw")), ("UserAdd", user("root", password="pw")),
            ("AuthEnable", rpc.AuthEnableRequest()),
            ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root")),
            ("RoleGet", rpc.AuthRoleGetRequest(role="root")), ("RoleAdd", rpc.AuthRoleAddRequest(name="root")),
            ("RoleAdd", rpc.AuthRoleAddRequest(name="r")),
            permit(1, b"k"), permit(0, b"k", b"m"), permit(2, b"a", b"\0"), permit(2, b"k"),
            ("RoleGet", rpc.AuthRoleGetRequest(role="r")),
            ("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="r", key=b"k")),
            ("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="r", key=b"k")),
            ("RoleGet", rpc.AuthRoleGetRequest(role="r")), ("UserAdd", user("zoe", password="z")),
            ("UserAdd", user("Zoe", password="z")), ("UserAdd", user("zo\u00e9", password="z")),
            ("UserAdd", user("keyless", options=authpb.UserAddOptions(no_password=True))),
            ("UserList", rpc.AuthUserListRequest()), ("RoleList", rpc.AuthRoleListRequest()),
            ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="zoe", role="r")),
            ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="zoe", role="root")),
            ("UserGet", rpc.AuthUserGetRequest(name="zoe")), ("RoleDelete", rpc.AuthRoleDeleteRequest(role="root")),
            ("UserGet", rpc.AuthUserGetRequest(name="root")),
            ("AuthEnable", rpc.AuthEnableRequest()),
            ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root")),
            ("UserGet", rpc.AuthUserGetRequest(name="zoe")), ("UserDelete", rpc.AuthUserDeleteRequest(name="Zoe")),
            ("UserDelete", rpc.AuthUserDeleteRequest(name="Zoe")), ("AuthEnable", rpc.AuthEnableRequest()),
            ("AuthEnable", rpc.AuthEnableRequest()),
            ("Authenticate", rpc.AuthenticateRequest(name="root", password="x")),
            ("Authenticate", rpc.AuthenticateRequest(name="root", password="pw")),
            ("Authenticate", rpc.AuthenticateRequest(name="keyless")),
            ("Authenticate", rpc.AuthenticateRequest(name="Zoe", password="z")),
        ]
        for number, (name, request) in enumerate(story):
            with self.subTest(step=number, name=name):
                self.assertEqual(self.ours.fate(name, request), self.etcd.fate(name, request))

    def test_etcdctl_enables_and_uses_it(self):
        """`etcdctl auth enable` makes the root role by itself; `--user` authenticates each command."""
        commands = [
            ["user", "add", "root:pw"], ["auth", "enable"], ["get", "a"], ["--user=root:pw", "user", "list"],
            ["--user=root:pw", "role", "add", "r"],
            ["--user=root:pw", "role", "grant-permission", "r", "readwrite", "a", "--prefix"],
            ["--user=root:pw", "role", "get", "r"], ["--user=root:pw", "user", "add", "u:pw"],
            ["--user=root:pw", "user", "grant-role", "u", "r"], ["--user=u:pw", "put", "a1", "1"],
            ["--user=u:pw", "put", "b1", "1"], ["--user=u:no", "put", "a1", "1"], ["--user=u:pw", "get", "a1"],
            ["--user=u:pw", "del", "a", "--prefix"], ["--user=u:pw", "get", "", "--from-key"],
            ["--user=root:pw", "user", "get", "u", "--detail"], ["--user=u:pw", "auth", "disable"],
            ["--user=root:pw", "auth", "disable"], ["get", "a"]]
        for arguments in commands:
            results = []
            for client in (self.etcd, self.ours):
                done = run("etcdctl", "--endpoints", client.target, *arguments, environment={"ETCDCTL_API": "3"})
                lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
                results.append((done.returncode, done.stdout, lines))
            with self.subTest(arguments=arguments):
                self.assertEqual(results[1], results[0])


class Life(AuthCase):
    def test_tokens_end_with_disuse_with_their_user_and_with_the_password(self):
        node = self.node("--auth-token-ttl", "2", "--bcrypt-cost", "4").start()
        client = self.client(node)
        table.prepare(client)
        root = client.token("root", PASSWORD)
        read = table.range_of(b"r/1")
        used, unused = client.token("alice", PASSWORD), client.token("alice", PASSWORD)
        self.assertRegex(used, r"^[A-Za-z]{16}\.[0-9]+$")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self.assertTrue(client.fate(*read, used).startswith("OK"))
            client.fate(*read, root)
            time.sleep(0.2)
        self.assertEqual(client.fate(*read, unused), NO_TOKEN)
        client.ask("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="alice", password="other"), root)
        self.assertEqual(client.fate(*read, used), NO_TOKEN)
        self.assertEqual(
            client.fate("Authenticate", rpc.AuthenticateRequest(name="alice", password=PASSWORD)),
            "INVALID_ARGUMENT: etcdserver: authentication failed, invalid user ID or password")
        token = client.token("alice", "other")
        client.ask("UserDelete", rpc.AuthUserDeleteRequest(name="alice"), root)
        self.assertEqual(client.fate(*read, token), NO_TOKEN)
        client.ask("AuthDisable", rpc.AuthDisableRequest(), root)
        self.assertTrue(client.fate(*read, "anything").startswith("OK"))

    def test_permissions_that_make_no_sense(self):
        """The first one ends the process of etcd 3.4.23; the others it takes (3.5.8 and later do not)."""
        client = self.client(self.node("--bcrypt-cost", "4").start())
        table.prepare(client)
        root, bob = client.token("root", PASSWORD), client.token("bob", PASSWORD)
        invalid = "INVALID_ARGUMENT: etcdserver: invalid auth management"
        for permission, answer in (
                (None, "INVALID_ARGUMENT: etcdserver: permission not given"),
                (authpb.Permission(key=b""), invalid), (authpb.Permission(key=b"", range_end=b"\0"), invalid),
                (authpb.Permission(key=b"b", range_end=b"a"), invalid),
                (authpb.Permission(key=b"b", range_end=b"b"), invalid),
                (authpb.Permission(key=b"b", permType=7), invalid)):
            request = rpc.AuthRoleGrantPermissionRequest(name="reader", perm=permission)
            self.assertEqual(client.fate("RoleGrantPermission", request, root), answer)
            self.assertEqual(client.fate("RoleGrantPermission", request, bob), DENIED)
            self.assertEqual(client.fate("RoleGrantPermission", request), NO_USER)

    def test_a_watch_that_began_goes_on_and_a_new_one_is_judged_anew(self):
        node = self.node("--bcrypt-cost", "4").start()
        client = self.client(node)
        table.prepare(client)
        root, alice = client.token("root", PASSWORD), client.token("alice", PASSWORD)
        name, request = table.watch(b"r/", b"r0")
        watched = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch", request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=rpc.WatchResponse.FromString)(iter([request]), metadata=[("token", alice)], timeout=20)
        self.assertTrue(next(watched).created)
        client.ask("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="alice", role="reader"), root)
        client.ask(*table.put(b"r/1"), root)
        self.assertEqual(next(watched).events[0].kv.key, b"r/1")
        self.assertEqual(client.fate(name, request, alice), canceled("PermissionDenied", "permission denied"))

    def test_passwords_stay_out_of_log_lines_and_answers_and_survive_restart_and_restore(self):
        node = self.node("--bcrypt-cost", "4", "--log-level", "debug").start()
        client = self.client(node)
        table.prepare(client)
        root = client.token("root", PASSWORD)
        saved = run("etcdctl", "--endpoints", node.endpoint, "--user", f"root:{PASSWORD}", "snapshot", "save",
                    self.space / "file", environment={"ETCDCTL_API": "3"})
        self.assertEqual(saved.returncode, 0, saved.stderr)
        node.kill()
        client = self.client(node.start())
        # Tokens live in memory, or come again from the log: either way the user can have a new one.
        self.assertIn(client.fate(*table.range_of(b"r/1"), root)[:2], ("OK", "UN"))
        self.assertTrue(client.fate(*table.range_of(b"r/1"), client.token("alice", PASSWORD)).startswith("OK"))
        self.assertEqual(node.stop(), 0)
        self.assertNotIn(PASSWORD, node.log.read_text())
        data = self.space / "restored"
        done = run(leasehold(), "snapshot", "restore", self.space / "file", "--data-dir", data)
        self.assertEqual(done.returncode, 0, done.stderr)
        other = self.node("--bcrypt-cost", "4", name="default")
        shutil.rmtree(other.data, ignore_errors=True)
        data.rename(other.data)
        other.start()
        restored = self.client(other)
        self.assertEqual(restored.fate(*table.range_of(b"r/1")), NO_USER)
        token = restored.token("bob", PASSWORD)
        self.assertTrue(restored.fate(*table.put(b"w/1"), token).startswith("OK"))
        self.assertEqual(restored.fate(*table.put(b"r/1"), token), DENIED)
        self.assertEqual(other.stop(), 0)
        checked = run(leasehold(), "verify", "--data-dir", other.data)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        for place in [self.space / "file", *other.data.rglob("*")]:
            if place.is_file():
                self.assertNotIn(PASSWORD.encode(), place.read_bytes(), place)


    def test_a_sidecar_in_the_member_needs_no_user(self):
        node = self.space.own(Node(self.space, None, tls=False, caches=["c:ttl=3s,window=1s"], extra=["--bcrypt-cost", "4"]))
        client = self.client(node.start())
        self.assertEqual(node.call("PUT", "/v1/caches/c/entries/before", {"size": 1})[0], 201)
        table.prepare(client)
        self.assertEqual(node.call("PUT", "/v1/caches/c/entries/after", {"size": 1})[0], 201)
        self.assertEqual(node.call("POST", "/v1/caches/c/hit/before")[0], 204)
        for key in ("before", "after"):
            wait_until(lambda: (node.entry("c", key) or {}).get("state") != "live", f"the end of {key}", 20, 0.2)


class ThreeMembers(AuthCase):
    def test_a_member_that_lags_lets_nothing_through(self):
        """It has not heard that users count when it takes a request; the request is judged where it is applied."""
        cluster = Cluster(self.space, None, 3, tls=False)
        cluster.start()
        leader = cluster.leader()
        follower = next(member for member in cluster.alive() if member is not leader)
        client, late = self.client(leader), self.client(follower)
        client.ask("UserAdd", rpc.AuthUserAddRequest(name="root", password=PASSWORD))
        client.ask("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        lease = client.ask("LeaseGrant", rpc.LeaseGrantRequest(TTL=600)).ID
        self.assertTrue(late.fate(*table.put(b"x")).startswith("OK"))
        requests = [table.put(b"x"), table.delete(b"x"), ("LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease)),
                    ("LeaseGrant", rpc.LeaseGrantRequest(TTL=9)), ("UserAdd", rpc.AuthUserAddRequest(name="eve")),
                    ("Alarm", rpc.AlarmRequest(action=1, alarm=1)), table.txn([], [table.put(b"x")]),
                    ("LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=lease)), table.range_of(b"x")]
        follower.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{follower.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the follower's pause")
        with ThreadPoolExecutor(len(requests)) as pool:
            fates = [pool.submit(late.fate, *request) for request in requests]
            client.ask("AuthEnable", rpc.AuthEnableRequest())
            follower.process.send_signal(signal.SIGCONT)
            self.assertEqual([fate.result() for fate in fates], [NO_USER] * len(requests))
        root = client.token("root", PASSWORD)
        self.assertEqual(client.fate(*table.range_of(b"x"), root), "OK [b'x', 1]")
        self.assertEqual(client.fate("UserList", rpc.AuthUserListRequest(), root), "OK ['root']")
        self.assertEqual(list(client.ask("Alarm", rpc.AlarmRequest(), root).alarms), [])

    def settled(self, client, request, token):
        """Right after rights have changed, a member that lags may say that what it knew of them is old (so do etcd's);
        clients ask again."""
        return wait_until(
            lambda: next((fate for fate in [client.fate(*request, token)] if "auth store is old" not in fate), None),
            "an answer by present rights", 5, 0.02)

    def test_tokens_and_rights_at_every_member_and_after_losing_the_leader(self):
        cluster = Cluster(self.space, None, 3, tls=False)
        for member in cluster.members.values():
            member.extra = ["--bcrypt-cost", "4"]
        cluster.start()
        members = list(cluster.members.values())
        clients = [self.client(member) for member in members]
        table.prepare(clients[1])
        for issuer in clients:
            token = issuer.token("dave", PASSWORD)
            for client in clients:
                # At once, also where the entry may not have been applied yet.
                self.assertRegex(self.settled(client, table.put(b"w/1"), token), "^OK")
                self.assertRegex(self.settled(client, table.range_of(b"r/1"), token), "^OK")
                self.assertEqual(self.settled(client, table.put(b"r/1"), token), DENIED)
                self.assertEqual(client.fate(*table.put(b"r/1")), NO_USER)
                self.assertTrue(client.fate(*table.watch(b"r/1"), token).startswith("OK"))
        root = clients[0].token("root", PASSWORD)
        clients[2].ask("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="dave", role="writer"), root)
        old = "INVALID_ARGUMENT: etcdserver: revision of auth store is old"
        for client in clients:
            # A member that has not heard of it yet names the revision that it knows, and is told so, as in etcd.
            fate = wait_until(
                lambda: (fate := client.fate(*table.put(b"w/1"), token)) != old and fate, "the news at every member")
            self.assertEqual(fate, DENIED)

        def leader():
            answers = [client.ask("Status", rpc.StatusRequest(), root) for client in clients]
            return next((i for i, a in enumerate(answers) if a.leader == a.header.member_id), None)

        first = wait_until(lambda: (leader() or 0) + 1, "a leader") - 1
        members[first].kill()
        rest = [client for index, client in enumerate(clients) if index != first]
        fate = wait_until(
            lambda: (rest[0].fate(*table.put(b"b/1"), root) or "").startswith("OK"), "a write without the leader", 30)
        self.assertTrue(fate)
        for client in rest:
            self.assertEqual(client.fate(*table.put(b"w/1"), token), DENIED)
        members[first].start()
        again = self.client(members[first])
        self.assertEqual(again.fate(*table.put(b"w/1"), again.token("dave", PASSWORD)), DENIED)
        hashes = {
            client.ask("HashKV", rpc.HashKVRequest(revision=5), client.token("root", PASSWORD)).hash
            for client in [*rest, again]}
        self.assertEqual(len(hashes), 1)


class Signed(AuthCase):
    def key(self, *options):
        private, public = self.space / "key.pem", self.space / "pub.pem"
        for command in (["genpkey", *options, "-out", private], ["pkey", "-in", private, "-pubout", "-out", public]):
            done = run("openssl", *command)
            self.assertEqual(done.returncode, 0, done.stderr)
        return f"pub-key={public},priv-key={private}"

    def exchange(self, method, keys):
        """Both servers know the same users at the same revision, so each takes what the other has signed."""
        option = f"jwt,{keys},sign-method={method},ttl=5m"

        ours = self.node("--auth-token", option, "--bcrypt-cost", "4").spawn()
        etcd = self.space.own(QuickEtcd(self.space, None, tls=False))
        etcd.extra = ["--auth-token", option]
        etcd.spawn()
        clients = []
        for server in (ours, etcd):
            server.wait_ready()
            clients.append(self.client(server))
            table.prepare(clients[-1])
        tokens = [client.token("bob", PASSWORD) for client in clients]
        claims = [json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")) for token in tokens]
        self.assertEqual(claims[0]["revision"], claims[1]["revision"])
        self.assertEqual(list(claims[0]), list(claims[1]))
        self.assertEqual(tokens[0].split(".")[0], tokens[1].split(".")[0])
        for client in clients:
            for token in tokens:
                self.assertTrue(client.fate(*table.put(b"w/1"), token).startswith("OK"), client.target)
                self.assertEqual(client.fate(*table.put(b"r/1"), token), DENIED)
                head, body, signature = token.split(".")
                for bad in (f"{head}.{body}.{signature[:-6]}AAAAAA", f"{head}.{body}.", f"{head}.{body}"):
                    self.assertEqual(client.fate(*table.put(b"w/1"), bad), NO_TOKEN)
        # A signed token keeps the revision that it was made under.
        for client in clients:
            root = client.token("root", PASSWORD)
            client.ask("RoleAdd", rpc.AuthRoleAddRequest(name="new"), root)
            for token in tokens:
                self.assertEqual(
                    client.fate(*table.put(b"w/1"), token),
                    "INVALID_ARGUMENT: etcdserver: revision of auth store is old")

    def test_rs256(self):
        self.exchange("RS256", self.key("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))

    def test_ps384(self):
        self.exchange("PS384", self.key("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))

    def test_es256(self):
        self.exchange("ES256", self.key("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))

    def test_es512(self):
        self.exchange("ES512", self.key("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"))

    def test_hs256(self):
        secret = self.space / "secret"
        secret.write_bytes(b"\x00 not text \xff")
        self.exchange("HS256", f"priv-key={secret}")

    def test_a_member_with_the_public_key_alone_checks_and_does_not_sign(self):
        keys = self.key("-algorithm", "ED25519")
        node = self.node("--auth-token", f"jwt,{keys},sign-method=EdDSA", "--bcrypt-cost", "4").start()
        client = self.client(node)
        table.prepare(client)
        token = client.token("alice", PASSWORD)
        self.assertEqual(node.stop(), 0)
        public = keys.split(",")[0]
        node.extra = ["--auth-token", f"jwt,{public},sign-method=EdDSA"]
        client = self.client(node.start())
        self.assertEqual(client.fate(*table.range_of(b"r/1"), token), "OK [b'r/1', 1]")
        self.assertEqual(
            client.fate("Authenticate", rpc.AuthenticateRequest(name="alice", password=PASSWORD)),
            "UNKNOWN: auth: token signing attempted with verify-only key")

    def test_settings_that_make_no_sense_are_named(self):
        (self.space / "text").write_text("no key")
        for option, words in (
                ("kerberos", "neither simple nor jwt"), ("jwt", "sign-method is missing"),
                ("jwt,sign-method=RS257,priv-key=x", "is none of HS256"),
                ("jwt,sign-method=RS256", "needs priv-key"), ("jwt,sign-method=RS256,priv-key=/nowhere", "does not exist"),
                (f"jwt,sign-method=RS256,priv-key={self.space / 'text'}", "no private key in it"),
                ("jwt,sign-method=RS256,colour=red", "there is no option colour"),
                ("jwt,sign-method=RS256,ttl=soon,priv-key=x", "is no duration")):
            done = run(leasehold(), "node", "--data-dir", self.space / "d", "--auth-token", option,
                       "--listen-client-urls", "http://127.0.0.1:0")
            with self.subTest(option=option):
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(words, done.stderr)
                self.assertLess(len(done.stderr.strip().splitlines()), 4, done.stderr)


class Certificates(AuthCase):
    def test_the_name_in_a_certificate_is_the_user(self):
        pki = PKI(self.space / "pki")
        for name in ("root", "bob", "mallory"):
            pki.make("issue", "--name", name, "--client")
        node = self.space.own(Node(self.space, pki, extra=["--bcrypt-cost", "4"]).start())

        def connected(name):
            read = lambda path: path.read_bytes()
            return self.client(node, grpc.ssl_channel_credentials(
                read(pki.authority), read(pki.key(name)), read(pki.certificate(name))))

        table.prepare(connected("operator"))
        bob, mallory, root = connected("bob"), connected("mallory"), connected("root")
        self.assertTrue(bob.fate(*table.put(b"w/1")).startswith("OK"))
        self.assertEqual(bob.fate(*table.put(b"r/1")), DENIED)
        self.assertEqual(bob.fate("UserList", rpc.AuthUserListRequest()), DENIED)
        self.assertEqual(mallory.fate(*table.put(b"w/1")), DENIED)
        self.assertTrue(root.fate("UserList", rpc.AuthUserListRequest()).startswith("OK"))
        # A token says more than a certificate, also when it is wrong.
        alice = bob.token("alice", PASSWORD)
        self.assertEqual(bob.fate(*table.put(b"w/1"), alice), DENIED)
        self.assertTrue(bob.fate(*table.range_of(b"r/1"), alice).startswith("OK"))
        self.assertEqual(root.fate(*table.range_of(b"r/1"), "x.1"), NO_TOKEN)
        done = node.etcdctl("get", "w/1", user="bob")
        self.assertIn("permission denied", done.stderr)
        self.assertEqual(node.etcdctl("put", "w/2", "x", user="bob").stdout, "OK\n")


if __name__ == "__main__":
    unittest.main()
