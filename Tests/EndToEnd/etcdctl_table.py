"""The table: every subcommand and option of etcdctl 3.4 that talks to a server, as scripts of command lines. A script runs
on servers of its own; `$NAME` is explained at `Step`. What stands in `DEVIATIONS` is answered otherwise for a reason."""

from dataclasses import dataclass

import etcd_client
from etcdctl_session import Deviation, Do, Step, Until, While

# What members say of each other while they have not been connected for long.
UNHEALTHY = "unhealthy cluster"
FORMATS = ("simple", "json", "table", "fields", "protobuf")
NO_BBOLT = Deviation(
    "a snapshot holds Leasehold's own state, which `leasehold snapshot` reads; etcdctl opens bbolt files alone",
    control=r"(?s)\A(?!.*Error)", product=r"rror|panic")
HEADER = Deviation(
    "3.4.23 leaves out the header when there is no alarm, and its etcdctl cannot print such an answer; 3.5 sends it",
    control=r"\A(\{\}|panic|\Z)", product=r"eader|Revision")

STILL_LEARNS = Deviation(
    "3.4.23 forgets that a member whose URLs are changed is a learner", control=r", false\n", product=r", true\n")
COMPACTED = Deviation(
    "3.5 knows the hash at the revision of the last compaction, 3.4.23 does not", control="been compacted",
    product=r", \d+\n")


@dataclass
class Script:
    steps: list
    size: int = 1
    tls: bool = False
    # Of the servers, or by program.
    flags: object = ()
    # Makes more of a session before its steps.
    prepare: object = None
    is_long: bool = False
    name: str = ""


def formats(line, **options):
    """The same command in every output format."""
    return [Step(f"{line} -w {name}", **options) for name in FORMATS]


def all_of(*groups):
    """One list out of steps and lists of them."""
    steps = []
    for group in groups:
        steps += all_of(*group) if isinstance(group, list) else [group]
    return steps


KEYS = Script(all_of(
    *[f"put {key} {value}" for key, value in (("a", "1"), ("b", "2"), ("c", "3"), ("ca", "4"), ("cb", "5"), ("d",
    "''"))],
    formats("put b again"), formats("put b again --prev-kv"),
    Step("put typed", input="two lines\nof input"), "put dashed -- -1", "put c --ignore-value",
    "put none --ignore-value",
    Step("lease grant 500", save=("L1", r"lease (\w+) granted")),
    "put leased 1 --lease=$L1", "put leased 2 --ignore-lease", "put leased 3", "put leased 4 --ignore-lease",
    "put none 1 --ignore-lease", "put leased --ignore-value --ignore-lease", "put leased x --ignore-value",
    "put leased 1 --lease=7b", "put leased 1 --lease=xyz", "put leased 1 --lease=$L1 --ignore-lease", "put '' 1", "put",
    "put a b c", "put ключ значение",
    formats("get a"), formats("get none"), formats("get a d"), formats("get c --prefix --limit=1"),
    *[formats(f"get --prefix '' {option}") for option in ("--keys-only", "--hex", "--print-value-only", "--rev=4")],
    "get c --from-key", "get '' --from-key", "get '' --prefix", "get a --limit=0", "get a --consistency=s",
    "get a --consistency=l",
    "get a --consistency=x", "get a --rev=2 --hex -w json", "get a --rev=9999", "get a --rev=-1",
    "get a --prefix --from-key",
    "get a b --prefix", "get a b --from-key", "get", "get '' ''", "get b a", "get a --limit=-1",
    *[f"get '' --prefix --sort-by={field} --order={order} --limit=4"
      for field in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION") for order in ("ASCEND", "DESCEND")],
    "get '' --prefix --order=DESCEND", "get '' --prefix --sort-by=VALUE", "get '' --prefix --sort-by=SIZE",
    "get '' --prefix --order=RANDOM", "get '' --prefix --print-value-only --keys-only",
    "del ca", "del ca", formats("del nothing"), formats("del cb --prev-kv"), "del c d --prev-kv", "del '' --prev-kv",
    "del a --prefix --prev-kv", "del typed --from-key --prev-kv -w json", "del a b --prefix",
    "del a --prefix --from-key",
    "del", "del '' --prefix", "get '' --prefix -w json"))

TXN_TYPED = 'mod("a") > "0"\n\nput b 1\nget a\ndel c\n\nget b\n\n'
TRANSACTIONS = Script(all_of(
    "put a 1", "put c 1",
    formats("txn", input='value("a") = "1"\n\nget a\nget c --prefix\n\nget b\n\n'),
    formats("txn", input='value("a") = "2"\n\nput x y\n\nget a\ndel c --prev-kv\nput d "a b"\n\n'),
    [Step(f"txn {flag}", input=TXN_TYPED) for flag in ("-i", "--interactive", "--interactive=false")],
    *[Step("txn -w json", input=f"{compare}\n\nget a\n\nget b\n\n") for compare in (
        'create("a") = "2"', 'create("none") = "0"', 'version("a") > "0"', 'mod("a") < "2"', 'value("a") != "1"',
        'value("a") > "0"', 'lease("a") = "0"', 'c("a") = "2"', 'm("a") = "2"', 'val("a") = "1"', 'ver("a") = "1"',
        'other("a") = "1"', 'value("a") ~ "1"', 'value("a")', '', 'version("a") = "many"')],
    *[Step("txn", input=f"\n{operations}\n\n\n") for operations in (
        "put a 1\nput a 2", "put a 1\ndel a", "get a --rev=9999", "put ''", "jump a", "put a 1 --lease=7b",
        "put q --prev-kv", "get a --limit=1 --sort-by=VALUE --order=DESCEND", "del a z --prev-kv")],
    "txn extra", "get '' --prefix -w json"))

WATCHES = Script(all_of(
    "put a 1", "put a 2", "put b 1", "del a", "put a end",
    *[While(f"watch a --rev=2 -w {name}", until="end|ZW5k") for name in ("simple", "json", "fields")],
    While("watch a --rev=2 -w protobuf", until="end"), "watch a --rev=2 -w table",
    While("watch a --rev=2 --prev-kv", until="end"), While("watch a c --rev=2 -w json", until="ZW5k"),
    While("watch '' --prefix --rev=2 --prev-kv --hex -w json", until="ZW5k"),
    While("watch a --hex --rev=2", until=r"x65\\x6e\\x64"),
    While("watch n", ready=None, until="last", during=["put n 1", "put na 1", "del n", "put n last"]),
    While("watch n --prefix --prev-kv", ready=None, until="final",
          during=["put n 2", "put nb 1", "del n --prefix", "put n final"]),
    While("watch n --rev=2 -- echo it is", until="(?s)(it is.*){6}"),
    While("watch n --rev=2 -- printenv ETCD_WATCH_EVENT_TYPE ETCD_WATCH_KEY ETCD_WATCH_VALUE ETCD_WATCH_REVISION",
          until='"final"'),
    While("watch -i", input="watch a --rev=2\nwatch b --rev=2\nprogress\n", is_unordered=True,
          until=r"(?s)(?=.*end\n)(?=.*progress notify)(?=.*\nb\n)"),
    While("watch --interactive", input="watch a --rev=2 --prev-kv\n", until="end"),
    Step("watch -i", input="cancel\nwatch\n"), "watch", "watch a b --prefix", "watch a --rev=2 --prefix=perhaps",
    "compaction 4", "watch a --rev=2", "watch a --rev=2 -w json", "watch a --rev=2 -w fields",
    While("watch a --rev=4", until="end")))

LEASES = Script(all_of(
    *[Step(f"lease grant 500 -w {name}") for name in FORMATS],
    Step("lease grant 300", save=("L1", r"lease (\w+) granted")), Step("lease grant 900", save=("L2",
    r"lease (\w+) granted")),
    "put a 1 --lease=$L1", "put b 1 --lease=$L1", "put c 1 --lease=$L2",
    formats("lease timetolive $L1"), formats("lease timetolive $L1 --keys", is_unordered=True), "lease timetolive 7b",
    "lease timetolive 7b -w json",
    "lease timetolive zz", "lease timetolive",
    *[Step(f"lease list -w {name}") for name in ("simple", "table")], "lease list extra",
    formats("lease keep-alive --once $L1"), While("lease keep-alive $L2", until="keepalived"),
    "lease keep-alive --once 7b",
    "lease keep-alive 7b", "lease keep-alive", "lease keep-alive --once zz",
    "lease revoke $L1", "lease revoke $L1", formats("lease revoke $L2 -w json")[0], "lease revoke zz", "lease revoke",
    "lease grant -5", "lease grant 9000000001", "lease grant soon", "lease grant", "get '' --prefix",
    Step("lease grant 2", save=("L3", r"lease (\w+) granted")), "put short 1 --lease=$L3", "get short -w json",
    Until("get short", until=r"^$"), "lease timetolive $L3"))

MAINTENANCE = Script(all_of(
    "put a 1", "put a 2", "put a 3",
    *[formats(f"endpoint {command}{cluster}") for command in ("health", "status", "hashkv") for cluster in ("",
    " --cluster")],
    "endpoint hashkv --rev=3 -w json", "endpoint hashkv --rev=999", "endpoint health extra",
    "endpoint status --endpoints=$E0,$E0",
    *[f"endpoint {command} --endpoints=127.0.0.1:1 --command-timeout=300ms" for command in ("health", "status",
    "hashkv")],
    formats("member list"), "alarm list", [Step(f"alarm list -w {name}", deviation=HEADER) for name in ("json",
    "fields")],
    Step("alarm list -w protobuf", deviation=Deviation(HEADER.reason, control=r"\A\Z", product=r".")),
    "alarm list -w table", formats("alarm disarm"), "alarm list extra", "alarm disarm extra",
    "defrag", "defrag --cluster", "defrag --endpoints=127.0.0.1:1 --command-timeout=300ms", "defrag extra",
    "compaction 2", "compaction 2", "compaction 999", "compaction 3 --physical", "compaction -- -1", "compaction x",
    "compaction",
    "get a --rev=2", "endpoint hashkv --rev=2", Step("endpoint hashkv --rev=3", deviation=COMPACTED),
    "endpoint hashkv -w json", "compaction 4 -w json",
    *[f"move-leader {target}" for target in ("$M0", "1234", "xyz", "")],
    "frobnicate", "version", "help", "help get", "completion bash", "completion zsh --no-descriptions",
    "completion fish --no-descriptions", "completion powershell --no-descriptions", "completion bash --no-descriptions",
    "migrate --data-dir=$FOLDER/none --wal-dir=$FOLDER/none --no-ttl --transformer=true", "migrate"))

SNAPSHOTS = Script(all_of(
    "put a 1", "put b 2", Step("snapshot save $FOLDER/db"), "snapshot save", "snapshot save $FOLDER/none/db",
    "snapshot status", "snapshot status $FOLDER/none", "snapshot restore",
    "snapshot restore $FOLDER/none --data-dir=$FOLDER/r0",
    [Step(f"snapshot status $FOLDER/db -w {name}", deviation=NO_BBOLT) for name in ("simple", "json", "table",
    "fields")],
    Step("snapshot restore $FOLDER/db --data-dir=$FOLDER/r1 --name=r --initial-cluster=r=http://127.0.0.1:1 "
         "--initial-cluster-token=t --initial-advertise-peer-urls=http://127.0.0.1:1 --wal-dir=$FOLDER/r1w",
         deviation=NO_BBOLT),
    Step("snapshot restore $FOLDER/db --data-dir=$FOLDER/r2 --skip-hash-check", deviation=NO_BBOLT),
    Step("defrag --data-dir=$FOLDER/r1", deviation=NO_BBOLT)))

LOCKS = Script(all_of(
    "lock m echo held", "lock m --ttl=5 echo held", "lock m --ttl=5 sh -c 'exit 3'", "lock", "lock m --ttl=0 echo x",
    While("lock m --ttl=20", ready="m/", until="m/", during=[
        "get m --prefix --keys-only", "get m --prefix --print-value-only"]),
    "lock m echo again",
    While("elect e first", ready="first", until="first", during=[
        While("elect -l e", until="first"), While("elect --listen e", until="first"),
        "get e --prefix --print-value-only"]),
    "elect", "elect e", While("elect e third", until="third"), "get '' --prefix"))

TLS = "--cacert=$ca --cert=$cert --key=$key"
TRANSPORT = Script(all_of(
    f"put k v {TLS}", f"get k {TLS} --insecure-transport=false", f"get k {TLS} --debug",
    "get k --insecure-skip-tls-verify --cert=$cert --key=$key", "get k --command-timeout=500ms --cacert=$ca",
    "get k --command-timeout=500ms --cert=$cert --key=$key", "get k --cacert=$ca --cert=$cert",
    "get k --command-timeout=500ms --cacert=$other --cert=$cert --key=$key", "get k --cacert=$FOLDER/none",
    f"get k {TLS} --keepalive-time=1s --keepalive-timeout=1s --dial-timeout=1s --command-timeout=3s",
    f"get k -w xml {TLS}", f"get k --write-out=json {TLS}", f"get k --endpoints=$ADDRESS0 {TLS}",
    "get k --endpoints=http://$ADDRESS0 --command-timeout=500ms",
    "get k --discovery-srv=unknown.invalid --insecure-discovery=false --discovery-srv-name=x",
    "get k -d unknown.invalid --insecure-discovery",
    "get k --dial-timeout=300ms --endpoints=127.0.0.1:1 --command-timeout=300ms",
    f"endpoint health {TLS}", "endpoint health --command-timeout=500ms --cacert=$ca"), tls=True)

# The last of them has arrived, under whatever prefix.
ARRIVED = r"b\n2"


def mirror(flags):
    """Mirrors what is there and one change, then shows what has arrived."""
    return [
        While(f"make-mirror {flags}", until="", ready="", during=[
            Until("get '' --prefix --endpoints=$DEST", until=ARRIVED), "put p/late 9",
            Until("get '' --prefix --endpoints=$DEST", until=r"late\n9")]),
        "get '' --prefix --endpoints=$DEST", "del '' --prefix --endpoints=$DEST", "del p/late"]


def second_servers(session):
    """Where to mirror to: of the same program, in cleartext and with TLS."""
    session.names |= session.side.destinations()


MIRRORS = Script(all_of(
    "put p/a 1", "put p/b 2", "put other 3", mirror("$DESTADDRESS"), mirror("--prefix=p/ $DESTADDRESS"),
    mirror("--prefix=p/ --dest-prefix=q/ $DESTADDRESS"), mirror("--prefix=p/ --no-dest-prefix $DESTADDRESS"),
    mirror("--dest-insecure-transport $DESTADDRESS"),
    While("make-mirror --dest-cacert=$destca --dest-cert=$destcert --dest-key=$destkey "
          "--dest-insecure-transport=false $DESTTLS", until="", ready="", during=[
              Until("get '' --prefix --endpoints=$DESTTLS --cacert=$destca --cert=$destcert --key=$destkey",
                    until=ARRIVED)]),
    "make-mirror", "make-mirror a b"), prepare=second_servers)

MEMBERS = Script(all_of(
    "put a 1", Do(lambda session: session.side.lead(0)), formats("member list", is_unordered=True),
    *[formats(command, is_unordered=True, endpoints="ALL") for command in ("endpoint status", "endpoint health")],
    *[formats(f"endpoint {command} --cluster", is_unordered=True) for command in ("status", "health", "hashkv")],
    Step("defrag --cluster", is_unordered=True), Step("member list --endpoints=$ALL", is_unordered=True),
    Step("member add --learner --peer-urls=http://127.0.0.1:11 l1", again_while=UNHEALTHY, is_unordered=True,
         save=("LEARNER", r"Member *(\w+) added")),
    *formats("member list", is_unordered=True),
    "member add --learner --peer-urls=http://127.0.0.1:12 l2",
    # An ID depends on the URLs and on the second.
    Step("member add --peer-urls=http://127.0.0.1:11 twice", again_while="member ID already exist"),
    "member promote $LEARNER", "member promote $M0", "member promote 1234", "member promote xyz", "member promote",
    Step("member update $LEARNER --peer-urls=http://127.0.0.1:13", again_while=UNHEALTHY), "member update $LEARNER",
    "member update 1234 --peer-urls=http://127.0.0.1:14",
    Step("member update $LEARNER --peer-urls=$P0"), "member update xyz --peer-urls=http://127.0.0.1:14",
    "member update",
    Step("member list", deviation=STILL_LEARNS), "member remove 1234", "member remove xyz", "member remove",
    Step("member remove $LEARNER"), "member remove $LEARNER",
    "member add", "member add n", "member add n --peer-urls=nonsense",
    "member add n --peer-urls=http://127.0.0.1:15/path",
    Step("member add v1 --peer-urls=http://127.0.0.1:15 -w json", again_while=UNHEALTHY, is_unordered=True),
    Step("member list -w fields", is_unordered=True),
    "member add v2 --peer-urls=http://127.0.0.1:16", Do(lambda session: session.names.update(session.side.roles())),
    "move-leader $FOLLOWER --endpoints=$FOLLOWERENDPOINT", "move-leader 1234 --endpoints=$ALL",
    "move-leader $FOLLOWER --endpoints=$ALL"), size=3)

QUOTA = Script(all_of(
    "put before 1", Do(lambda session: fill(session)), "put after 1", formats("alarm list")[:1], "endpoint health",
    "del before", "lease grant 100", "get before", "del filler", Do(lambda session: session.remember("NOW", session.revision())),
    "compaction $NOW --physical", "defrag", "put after 1", "alarm disarm", "alarm list", "alarm disarm", "put after 1",
    "get after", "endpoint health"),
    flags={"etcd": ["--quota-backend-bytes", str(24 << 20)],
           "leasehold": ["--quota-backend-bytes", str(24 << 20), "--quota-alarm-manual"]})


def fill(session):
    """Values over one key until there is no more room for another."""
    client = session.side.grpc()
    for number in range(200):
        call = client.call("Put", etcd_client.rpc.PutRequest(key=b"filler", value=b"x" * (1 << 20)))
        if call.refusal:
            assert "database space exceeded" in call.refusal, call.refusal
            return
    raise AssertionError(f"{session.side.program}: no quota was met")


PERFORMANCE = Script([
    "check datascale --load=s", "check datascale --load=s --prefix=/scale/ --auto-compact --auto-defrag",
    "check datascale --load=?",
    "check perf --load=?", "get '' --prefix", "check perf --load=s --prefix=/perf/ --auto-compact --auto-defrag",
    "get '' --prefix"], is_long=True)

SCRIPTS = {
    "keys": KEYS, "transactions": TRANSACTIONS, "watches": WATCHES, "leases": LEASES, "maintenance": MAINTENANCE,
    "snapshots": SNAPSHOTS, "locks": LOCKS, "transport": TRANSPORT, "mirrors": MIRRORS, "members": MEMBERS,
    "quota": QUOTA,
    "workloads": PERFORMANCE}
