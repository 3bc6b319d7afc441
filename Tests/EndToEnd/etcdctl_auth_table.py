"""The table's part about users, roles and what they may do. It is skipped, visibly, for as long as the server has no Auth
service (see `Table.require_auth`)."""

from etcdctl_session import Deviation, Step, Until, While
from etcdctl_table import FORMATS, Script, all_of, formats

ROOT, READER, WRITER = "--user=root:secret", "--user reader --password r", "--user=writer:w"

REFUSED = "user name is empty|permission denied"
NO_ERROR = r"(?s)\A(?!.*Error)"
# What 3.4.23 answers to whom it should not; its successors have closed these.
CLOSED_LATER = Deviation(
    "the latest 3.5 lets only users see leases, members and alarms, only those who may read a lease's keys see or renew it, "
    "and only root compact", control=NO_ERROR, product=REFUSED)
JUDGED_FIRST = Deviation(
    "the latest 3.5 asks who it is before it looks at the request", control="bad leader|been compacted", product=REFUSED)
STILL_THERE = Deviation(
    "3.4.23 has let somebody else compact before", control="been compacted", product="compacted revision 2")
PROPER_STATUS = Deviation(
    "3.5 says it by a status of its own", control="Unknown desc = auth: permission denied", product="permission denied")
OF_NOBODY = {name: CLOSED_LATER for name in ("member list", "alarm list", "alarm disarm", "compaction 2")}
DEVIATIONS = {
    "": {**OF_NOBODY, "move-leader 1234": JUDGED_FIRST}, ROOT: {"compaction 2": STILL_THERE},
    READER: {"compaction 2": JUDGED_FIRST, "move-leader 1234": JUDGED_FIRST}}

# etcd takes its time over passwords otherwise.
CHEAP = {"etcd": ["--bcrypt-cost=4"]}

USERS = Script(all_of(
    "user list", "role list", "auth enable", "user get root", "role get root",
    Step("user add root --interactive=false", input="secret\n"), Step("user add root --interactive=false",
    input="other\n"),
    "user add reader:r", "user add writer --new-user-password=w", "user add certified --no-password",
    "user add certified --no-password",
    "user add '' --new-user-password=x", "user add", "user add :x", "user add both:x --no-password",
    [Step(f"user add shown{number}:x -w {name}") for number, name in enumerate(FORMATS)],
    "user list", *[Step(f"user list -w {name}") for name in ("json", "fields", "protobuf", "table")],
    formats("user get reader"), "user get nobody", "user get", "user get reader --detail",
    Step("user passwd reader --interactive=false", input="r2\n"), Step("user passwd nobody --interactive=false",
    input="x\n"),
    Step("user passwd --interactive=false", input="x\n"), Step("user passwd reader --interactive=false -w json",
    input="r\n"),
    "role add readers", "role add readers", "role add ''", "role add",
    [Step(f"role add role-{name} -w {name}") for name in FORMATS],
    "role list", *[Step(f"role list -w {name}") for name in ("json", "fields", "protobuf", "table")],
    "role grant-permission readers read a", "role grant-permission readers read b d",
    "role grant-permission readers readwrite p/ --prefix",
    "role grant-permission readers write z --from-key", "role grant-permission readers write a",
    "role grant-permission readers eat a",
    "role grant-permission nobody read a", "role grant-permission readers read",
    "role grant-permission readers read a b --prefix",
    "role grant-permission readers read '' --prefix", formats("role grant-permission readers read f"),
    formats("role get readers"), "role get nobody", "role get",
    "role revoke-permission readers a", "role revoke-permission readers a", "role revoke-permission readers b d",
    "role revoke-permission readers b",
    "role revoke-permission readers p/ --prefix", "role revoke-permission readers z --from-key",
    "role revoke-permission nobody a",
    "role revoke-permission readers", formats("role revoke-permission readers f")[:2], "role get readers",
    "user grant-role reader readers", "user grant-role reader readers", "user grant-role reader nothing",
    "user grant-role nobody readers",
    "user grant-role reader", formats("user grant-role writer readers"), "user get reader --detail", "user get writer",
    "user revoke-role reader readers", "user revoke-role reader readers", "user revoke-role nobody readers",
    "user revoke-role reader",
    formats("user revoke-role writer readers")[:2],
    "user delete shown0", "user delete shown0", "user delete", formats("user delete shown1")[1:2],
    "role delete role-json", "role delete role-json", "role delete", formats("role delete role-table")[1:2],
    "user list", "role list", "auth enable", "user grant-role root root", "auth enable extra", "auth enable",
    "auth enable",
    f"{ROOT} auth disable extra", f"{ROOT} auth disable", "auth disable", "user delete root", "role delete root"),
    flags=CHEAP)

PERMISSIONS = Script(all_of(
    "put a 1", "put p/a 1", "put p/b 1", "put q 1", "user add root:secret", "user add reader:r", "user add writer:w",
    "user add bare:b",
    "user add certified --no-password", "role add readers", "role add writers",
    "role grant-permission readers read p/ --prefix",
    "role grant-permission writers readwrite a", "role grant-permission writers write p/ --prefix",
    "user grant-role reader readers",
    "user grant-role writer writers", "user grant-role root root", formats("auth enable")[:1],
    "get a", "put a 2", "--user=root get a", "--user=root:wrong get a", "--user=nobody:x get a",
    "--user=certified:x get a",
    f"{ROOT} get a", f"{ROOT} put a 3", "--user=root --password=secret get a", "--user=bare:b get a",
    f"{READER} get p/a", f"{READER} get p/ --prefix", f"{READER} get p/a --rev=3", f"{READER} get a",
    f"{READER} get '' --prefix",
    f"{READER} get p/ --from-key", f"{READER} put p/a 2", f"{READER} del p/a",
    f"{WRITER} put p/a 2", f"{WRITER} put p/a 3 --prev-kv", f"{WRITER} get p/a", f"{WRITER} del p/a",
    f"{WRITER} del p/b --prev-kv",
    f"{WRITER} get a", f"{WRITER} put a 4", f"{WRITER} put q 1", f"{WRITER} del '' --prefix",
    [Step(f"{user} txn", input=text) for user in (ROOT, READER, WRITER) for text in (
        'value("a") = "4"\n\nget a\n\nget a\n\n', 'value("p/b") = "1"\n\nget p/b\n\nget p/b\n\n', "\nput a 5\n\n\n",
        "\nget p/b\n\nput q 1\n\n",
        "\ndel p/b\n\n\n")],
    While(f"{READER} watch p/ --prefix --rev=2", until="p/b"), f"{READER} watch a --rev=2",
    f"{WRITER} watch a b --rev=2",
    While(f"{WRITER} watch a --rev=2", until="a"), "watch a --rev=2",
    Step(f"{ROOT} lease grant 500", save=("L1", r"lease (\w+) granted")), Step("lease grant 500", deviation=CLOSED_LATER),
    f"{READER} lease grant 500",
    f"{WRITER} put a 6 --lease=$L1", f"{READER} lease revoke $L1", Step(f"{READER} lease timetolive $L1 --keys", deviation=CLOSED_LATER),
    f"{READER} lease timetolive $L1",
    f"{WRITER} lease timetolive $L1 --keys", Step(f"{READER} lease keep-alive --once $L1", deviation=CLOSED_LATER),
    Step("lease list", deviation=CLOSED_LATER), Step(f"{READER} lease list", deviation=CLOSED_LATER),
    f"{WRITER} lease revoke $L1", Step("lease timetolive $L1", deviation=CLOSED_LATER),
    [Step(f"{who} {what}", deviation=DEVIATIONS[who].get(what)) for who in ("", ROOT, READER) for what in (
        "user list", "role list", "user get reader", "user get writer", "role get readers", "role get writers",
        "role add more",
        "user add more:m", "user delete more", "role delete more", "member list", "member add x --peer-urls=nonsense",
        "endpoint health", "alarm list", "alarm disarm", "compaction 2", "defrag", "move-leader 1234",
        "role grant-permission readers read a", "role revoke-permission readers a", "user revoke-role reader nothing")],
    f"{READER} endpoint status", f"{ROOT} snapshot save $FOLDER/db", Step(f"{READER} snapshot save $FOLDER/db2", deviation=PROPER_STATUS),
    f"{READER} lock p/lock echo x",
    f"{WRITER} elect a me", f"{ROOT} lock m echo held",
    f"{ROOT} user delete root", f"{ROOT} role delete root", f"{ROOT} user revoke-role root root",
    f"{ROOT} role delete readers", f"{READER} get p/a", f"{ROOT} user delete writer", f"{WRITER} get a",
    Step(f"{ROOT} user passwd bare --interactive=false", input="new\n"), "--user=bare:b get a", "--user=bare:new get a",
    f"{READER} auth disable", "auth disable", f"{ROOT} auth disable", "get a", f"{ROOT} get a",
    "--user=nobody:x get a"), flags=CHEAP)

AUTH_SCRIPTS = {"users_and_roles": USERS, "permissions": PERMISSIONS}
