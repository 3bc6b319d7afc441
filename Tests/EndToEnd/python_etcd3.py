"""What programs do with PyPI's `etcd3` client. Runs in a process of its own (the client wants another protobuf than Debian's):

    python_etcd3.py '{"port": 2379, "ca": …, "key": …, "certificate": …, "folder": …, "auth": true}'

Each function below uses the client and returns what it has seen, without what differs by nature. The last line printed is
JSON: {function: what it returned, or {"error": …}}."""

import json
import sys
import threading
import time
import traceback

import etcd3
from etcd3.etcdrpc import AlarmRequest  # noqa: F401  the generated code loads

SECONDS = 10


class Program:
    def __init__(self, options):
        self.options = options
        self.client = self.connect()

    def connect(self, **options):
        return etcd3.client(
            host="127.0.0.1", port=self.options["port"], ca_cert=self.options["ca"], cert_key=self.options["key"],
            cert_cert=self.options["certificate"], timeout=SECONDS, **options)

    def empty(self):
        for _, about in self.client.get_all():
            self.client.delete(about.key)

    # -- what programs do

    def keys_and_values(self):
        c = self.client
        seen = [c.get("k")[0], c.put("k", "1").prev_kv.value, c.put("k", "2", prev_kv=True).prev_kv.value]
        value, about = c.get("k")
        seen += [value, about.key, about.version, about.mod_revision - about.create_revision, about.lease_id]
        for number in range(5):
            c.put(f"p/{number}", str(9 - number))
        for order, target in (("ascend", "key"), ("descend", "key"), ("ascend", "value"), ("descend", "mod")):
            seen.append([value for value, _ in c.get_prefix("p/", sort_order=order, sort_target=target)])
        seen.append([value for value, _ in c.get_range("p/1", "p/3")])
        seen.append([about.key for _, about in c.get_prefix("p/", keys_only=True)])
        seen.append(len(list(c.get_all())))
        seen += [c.get("k", serializable=True)[0], c.get_response("k").count]
        seen += [c.put_if_not_exists("k", "x"), c.put_if_not_exists("new", "x"), c.replace("k", "2", "3"),
            c.replace("k", "2", "4")]
        seen += [c.delete("k"), c.delete("k"), c.delete("new", prev_kv=True, return_response=True).prev_kvs[0].value]
        seen.append(c.delete_prefix("p/").deleted)
        return seen

    def compaction(self):
        c = self.client
        for number in range(3):
            c.put("k", str(number))
        revision = c.get("k")[1].mod_revision
        c.compact(revision, physical=True)
        seen = [c.get("k")[0]]
        for again in (lambda: c.compact(revision), lambda: list(c.get_prefix("k", revision=revision - 1))):
            try:
                again()
            except Exception as error:
                seen.append(said(error))
        return seen

    def transactions(self):
        c, t = self.client, self.client.transactions
        c.put("k", "1")
        seen = [outcome(c.transaction(
            compare=[t.value("k") == "1", t.version("k") > 0], success=[t.put("k", "2"), t.get("k")],
                failure=[t.delete("k")]))]
        seen.append(outcome(c.transaction(
            compare=[t.value("k") == "1"], success=[t.put("k", "3")], failure=[t.get("k"), t.delete("k")])))
        seen.append(outcome(c.transaction(compare=[t.create("k") == 0, t.mod("k") == 0], success=[t.txn(
            [t.version("k") == 0], [t.put("k", "inner")], [])], failure=[])))
        seen.append(c.get("k")[0])
        try:
            c.transaction(compare=[], success=[t.put("k", "1"), t.put("k", "2")], failure=[])
        except Exception as error:
            seen.append(said(error))
        return seen

    def leases(self):
        c = self.client
        lease = c.lease(300)
        c.put("a", "1", lease=lease)
        c.put("b", "1", lease=lease.id)
        seen = [lease.ttl, 290 < lease.remaining_ttl <= 300, lease.granted_ttl, sorted(lease.keys)]
        seen += [c.get("a")[1].lease_id == lease.id, [answer.TTL for answer in lease.refresh()]]
        chosen = c.lease(300, lease_id=4242)
        seen += [chosen.id, c.get_lease_info(4242).grantedTTL]
        try:
            c.lease(300, lease_id=4242)
        except Exception as error:
            seen.append(said(error))
        lease.revoke()
        seen += [c.get("a")[0], lease.remaining_ttl]
        chosen.revoke()
        try:
            chosen.revoke()
        except Exception as error:
            seen.append(said(error))
        short = c.lease(2)
        c.put("short", "1", lease=short)
        end = time.monotonic() + 20
        while c.get("short")[0] is not None and time.monotonic() < end:
            time.sleep(0.1)
        return [*seen, c.get("short")[0]]

    def watches(self):
        c = self.client
        events, cancel = c.watch_prefix("w/")
        by_callback, arrived = [], threading.Event()

        def callback(answer):
            by_callback.extend((type(event).__name__, event.key, event.value) for event in answer.events)
            if len(by_callback) >= 4:
                arrived.set()
        watch = c.add_watch_prefix_callback("w/", callback)
        with_previous, cancel_previous = c.watch("w/1", prev_kv=True)
        c.put("w/1", "1")
        c.put("w/1", "2")
        c.put("other", "x")
        c.delete("w/1")
        c.put("w/2", "3")
        seen = [(type(event).__name__, event.key, event.value) for event in take(events, 4)]
        seen += [event._event.prev_kv.value for event in take(with_previous, 3)]
        seen += [arrived.wait(SECONDS), by_callback]
        cancel()
        cancel_previous()
        c.cancel_watch(watch)
        past, cancel_past = c.watch("w/1", start_revision=c.get("w/2")[1].mod_revision - 1)
        seen += [type(event).__name__ for event in take(past, 1)]
        cancel_past()
        threading.Timer(0.3, lambda: c.put("once", "now")).start()
        seen.append(c.watch_once("once", timeout=SECONDS).value)
        c.compact(c.get("once")[1].mod_revision)
        old, _ = c.watch("once", start_revision=2)
        try:
            next(old)
        except etcd3.exceptions.RevisionCompactedError as error:
            seen.append(error.compacted_revision == c.get("once")[1].mod_revision)
        return seen

    def locks(self):
        c = self.client
        seen = []
        with c.lock("mutex", ttl=20) as lock:
            seen += [lock.is_acquired(), c.lock("mutex", ttl=20).acquire(timeout=1)]
        seen += [lock.is_acquired()]
        second = c.lock("mutex", ttl=20)
        seen += [second.acquire(), [answer.TTL for answer in second.refresh()], second.release(), second.is_acquired()]
        return seen

    def members(self):
        c = self.client
        members = list(c.members)
        seen = [(member.name, len(list(member.peer_urls)), len(list(member.client_urls))) for member in members]
        seen += [list(members[0].active_alarms), c.status().leader.id == members[0].id, c.status().db_size > 0]
        for change in (lambda: c.remove_member(7), lambda: c.update_member(7, ["http://127.0.0.1:31"]),
                       lambda: c.add_member(["nonsense"]), lambda: c.remove_member(members[0].id)):
            try:
                change()
            except Exception as error:
                seen.append(said(error))
        return seen

    def maintenance(self):
        c = self.client
        c.put("k", "v")
        seen = [c.defragment(), c.hash() != 0, [int(number) for number in c.status().version.split(".")][0]]
        path = f"{self.options['folder']}/snapshot"
        with open(path, "wb") as file:
            c.snapshot(file)
        with open(path, "rb") as file:
            size = len(file.read())
        return [*seen, size % 512, size > 512]

    def alarms(self):
        c = self.client
        member = next(iter(c.members)).id
        shown = lambda alarms: [(alarm.alarm_type, alarm.member_id == member) for alarm in alarms]
        seen = [shown(c.list_alarms()), shown(c.create_alarm(member)), shown(c.list_alarms())]
        try:
            c.put("k", "v")
        except Exception as error:
            seen.append(said(error))
        return [*seen, shown(c.disarm_alarm(member)), shown(c.list_alarms()), c.put("k", "v").prev_kv.value]

    def users(self):
        """The client has no calls that manage users: its stub does that, and it logs in."""
        if not self.options["auth"]:
            return "skipped"
        c, rpc = self.client, etcd3.etcdrpc
        c.put("secret", "1")
        c.put("open/a", "2")
        stub = c.authstub if hasattr(c, "authstub") else rpc.AuthStub(c.channel)
        for call, request in (
                (stub.UserAdd, rpc.AuthUserAddRequest(name="root", password="r")),
                (stub.UserAdd, rpc.AuthUserAddRequest(name="guest", password="g")),
                (stub.RoleAdd, rpc.AuthRoleAddRequest(name="readers")),
                (stub.UserGrantRole, rpc.AuthUserGrantRoleRequest(user="root", role="root")),
                (stub.UserGrantRole, rpc.AuthUserGrantRoleRequest(user="guest", role="readers"))):
            call(request, timeout=SECONDS)
        request = rpc.AuthRoleGrantPermissionRequest(name="readers")
        request.perm.key, request.perm.range_end = b"open/", b"open0"
        stub.RoleGrantPermission(request, timeout=SECONDS)
        stub.AuthEnable(rpc.AuthEnableRequest(), timeout=SECONDS)
        root, guest = (self.connect(user=name, password=word) for name, word in (("root", "r"), ("guest", "g")))
        seen = [root.get("secret")[0], guest.get("open/a")[0], [value for value, _ in guest.get_prefix("open/")]]
        for call in (lambda: guest.get("secret"), lambda: guest.put("open/a", "3"), lambda: c.get("open/a"),
                     lambda: self.connect(user="guest", password="wrong")):
            try:
                call()
            except Exception as error:
                seen.append(said(error))
        rpc.AuthStub(root.channel).AuthDisable(
            rpc.AuthDisableRequest(), timeout=SECONDS, metadata=root.metadata, credentials=root.call_credentials)
        return [*seen, c.get("secret")[0]]


def take(events, count):
    return [next(events) for _ in range(count)]


def outcome(answer):
    """Of a transaction: what came of it, and what its operations said."""
    succeeded, answers = answer
    return [succeeded, [
        [value for value, _ in one] if isinstance(one, list) else type(one).__name__ for one in answers]]


def said(error):
    """The client's own kinds of errors have names, others carry gRPC's status."""
    code = getattr(error, "code", None)
    return [type(error).__name__] if code is None else [code().name, error.details()]


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (int, str, bool, type(None))) else type(value).__name__


def main():
    program = Program(json.loads(sys.argv[1]))
    seen = {}
    for name, function in vars(Program).items():
        if name.startswith("_") or name in ("connect", "empty"):
            continue
        program.empty()
        try:
            seen[name] = plain(function(program))
        except Exception:
            seen[name] = {"error": traceback.format_exc()}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
