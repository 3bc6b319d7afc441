"""Runs steps of etcdctl against one cluster and writes a transcript in which identities, sizes, addresses and times are
masked, so that the transcripts of two servers can be compared line by line."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass, field

import etcd_client
from harness import spawn, tail, wait_until

ENVIRONMENT = {"ETCDCTL_API": "3"}
# What `-w protobuf` prints, by subcommand: of most answers about leases the header alone.
MESSAGES = {
    "get": "RangeResponse", "put": "PutResponse", "del": "DeleteRangeResponse", "txn": "TxnResponse",
    "watch": "WatchResponse", "lease grant": "ResponseHeader", "lease revoke": "LeaseRevokeResponse",
    "lease timetolive": "ResponseHeader", "lease list": "ResponseHeader",
    "lease keep-alive": "ResponseHeader", "member list": "MemberListResponse",
    "member add": "MemberAddResponse", "member remove": "MemberRemoveResponse",
    "member update": "MemberUpdateResponse", "member promote": "MemberPromoteResponse",
    "alarm list": "AlarmResponse", "alarm disarm": "AlarmResponse", "auth enable": "AuthEnableResponse",
    "auth disable": "AuthDisableResponse", **{
        f"{kind} {call}": f"Auth{kind.title()}{''.join(word.title() for word in call.split('-'))}Response"
        for kind, calls in (
            ("user", ("add", "delete", "get", "list", "grant-role", "revoke-role")),
            ("role", ("add", "delete", "get", "list", "grant-permission", "revoke-permission"))) for call in calls},
    "user passwd": "AuthUserChangePasswordResponse"}

IDENTITIES = r"cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|ID|hash"
FIELDS = r"ClusterID|MemberID|RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|ID|Hash|Leader|ElectionTerm"
MASKS = [(re.compile(pattern), replacement) for pattern, replacement in (
    (r"-{2,}", "--"),
    (r"[ \t]+", " "),
    (rf'"({IDENTITIES})": ?\d+', r'"\1":0'),
    (rf'"({FIELDS})" ?: ?\d+', r'"\1" : 0'),
    (r'"version":"3\.[0-9.]+"', '"version":"V"'),
    (r'"Version" : "3\.[0-9.]+"', '"Version" : "V"'),
    (r"\b3\.[45]\.\d+\b", "VERSION"),
    (r"took(?:\"?: ?\"?| = |\s)\"?[\d.]+[mµn]?s\"?", "took T"),
    (r"(\d+m)?\d+(\.\d+)?(ms|µs)\b", "T"),
    (r"remaining\(\d+s\)", "remaining(Ns)"),
    (r'"ttl":\d+,"granted-ttl"', '"ttl":N,"granted-ttl"'),
    (r'"TTL" : \d+', '"TTL" : N'),
    (r"\b[\d.]+ [kM]?B\b", "SIZE"),
    # What `check` measures, and its verdict about the machine.
    (r"(Compact\w+ with revision) \d+", r"\1 N"),
    (r"^(PASS|FAIL): (Throughput|Slowest request|Stddev|Approximate system memory).*", r"\2"),
    (r"^(PASS|FAIL)$", "VERDICT"),
    # The end of `endpoint status`: term, index, applied index; and of `endpoint hashkv`.
    (r"((?:true|false),? \|? ?)\d+(,? \|? ?)\d+(,? \|? ?)\d+", r"\1N\2N\3N"),
    (r"(<E\d>(?:,| \|) )\d{6,10}\b", r"\1HASH"),
    # What is left of identities: leases in the keys of locks, and whoever was not known by name.
    (r"\b[0-9a-f]{14,16}\b", "ID"),
    (r"\b[0-9]{16,20}\b", "ID"),
    )]


@dataclass
class Step:
    """One command line of etcdctl, as it would be typed; `$NAME` stands for what an earlier step has saved, or for what
    the place of the script provides (see `Session.names`).

    `input`: standard input. `save`: (name, pattern) of what to remember from the output, from its first group.
    `again_while`: a text in the error for which the step is run again, until it is answered otherwise.
    `deviation`: why Leasehold's answer is another one, and patterns that each side's answer must match."""

    line: str
    input: str = None
    save: tuple = None
    again_while: str = None
    until: str = None
    deviation: object = None
    # Which member is asked, by the order of their names.
    member: int = 0
    # Lines in no particular order.
    is_unordered: bool = False
    endpoints: str = None

    @property
    def command_lines(self):
        return [self.line]


@dataclass
class Deviation:
    reason: str
    control: str
    product: str


@dataclass
class While(Step):
    """A command that goes on: it runs, `during` happens once it is `ready` (a pattern in its output; None: the server
    counts a watcher more), and it is interrupted when its output matches `until` (None: it ends by itself)."""

    during: list = field(default_factory=list)
    ready: str = ""

    @property
    def command_lines(self):
        return [self.line] + [line for step in self.during for line in as_step(step).command_lines]


@dataclass
class Until(Step):
    """A command that is repeated until its output matches `until`. Only the last time is noted."""


@dataclass
class Do:
    """Something else than etcdctl: `action(session)`."""

    action: object
    command_lines = ()


def as_step(step):
    return Step(step) if isinstance(step, str) else step


FORMATS_OPTION = r"(?:-w |--write-out=)(\w+)"


def command_lines(steps):
    """Every command line of these steps, as words."""
    return [shlex.split(line) for step in steps for line in as_step(step).command_lines]


class Session:
    def __init__(self, side, help, space):
        """`side`: a `Side` of running servers."""
        self.side, self.help, self.space = side, help, space
        self.transcript = []
        self.saved = {}
        self.names = dict(side.names)
        self.deviations = []

    # -- running

    def perform(self, steps):
        for step in map(as_step, steps):
            if isinstance(step, Do):
                step.action(self)
            elif isinstance(step, While):
                self.run_while(step)
            elif isinstance(step, Until):
                result = []

                def matches():
                    result[:] = [self.etcdctl(step)]
                    return re.search(step.until, result[0].stdout + result[0].stderr)
                try:
                    wait_until(matches, f"'{step.until}' from {step.line}", 20, 0.1)
                except AssertionError as error:
                    last = result[0].stdout + result[0].stderr
                    raise AssertionError(f"{self.side.program}: {error}, it said {last}") from None
                self.note(step, result[0].returncode, result[0].stdout, result[0].stderr)
            else:
                self.run(step)

    def run(self, step):
        done = self.etcdctl(step)
        end = time.monotonic() + 20
        while step.again_while and step.again_while in done.stderr and time.monotonic() < end:
            time.sleep(0.2)
            done = self.etcdctl(step)
        if step.save:
            name, pattern = step.save
            found = re.search(pattern, done.stdout)
            if not found:
                raise AssertionError(f"{self.side.program}: {step.line} said {done.stdout}{done.stderr}, no {pattern}")
            self.remember(name, found[1])
        self.note(step, done.returncode, done.stdout, done.stderr)

    def remember(self, name, value):
        self.saved[name] = value

    def arguments(self, step):
        """etcdctl's command line for this step."""
        words = []
        for word in shlex.split(step.line):
            words.append(self.filled(word))
        if "--endpoints" in step.line or "--discovery-srv" in step.line or step.line.startswith("help"):
            return ["etcdctl", *words]
        endpoints = self.value(step.endpoints) if step.endpoints else self.side.members[step.member].endpoint
        return ["etcdctl", "--endpoints", endpoints, *words]

    def value(self, name):
        if name in self.saved:
            return self.saved[name]
        value = self.names[name]
        return str(value() if callable(value) else value)

    def etcdctl(self, step):
        arguments = self.arguments(step)
        return run_raw(arguments, self.filled(step.input or ""))

    def filled(self, text):
        return re.sub(r"\$((?!ETCD)\w+)", lambda match: self.value(match[1]), text)

    def run_while(self, step):
        log = self.space / f"{self.side.program}-while-{len(self.transcript)}.out"
        errors = log.with_suffix(".err")
        for path in (log, errors):
            path.write_text("")
        watchers = self.side.watchers() if step.ready is None else 0
        with open(log, "wb") as output:
            process = spawn(
                self.arguments(step), errors, stdout=output, stdin=subprocess.PIPE, env={**os.environ, **ENVIRONMENT})
        said = lambda: log.read_bytes().decode("latin-1") + errors.read_text(errors="replace")
        try:
            if step.input:
                process.stdin.write(step.input.encode())
                process.stdin.flush()
            if step.ready is None:
                wait_until(lambda: self.side.watchers() > watchers or process.poll() is not None,
                           f"{self.side.program}: a watch by {step.line}")
            elif step.ready:
                wait_until(lambda: re.search(step.ready, said()), f"{self.side.program}: '{step.ready}' by {step.line}")
            self.perform(step.during)
            if step.until is None:
                code = process.wait(20)
            else:
                wait_until(lambda: re.search(step.until, said()),
                           f"{self.side.program}: '{step.until}' by {step.line}, which said {tail(log)} {tail(errors)}",
                           20)
                process.send_signal(signal.SIGINT)
                process.wait(20)
                code = "stopped"
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
        self.note(step, code, log.read_bytes().decode("latin-1"), errors.read_text(errors="replace"))

    def revision(self):
        """The store's current one."""
        return str(self.side.client("get", "a")["header"]["revision"])

    # -- writing the transcript

    def note(self, step, code, output, error):
        # etcdctl's client logs retries as JSON; the verdict is the line that begins with Error.
        errors = [line for line in error.splitlines() if re.match(r"Error|[^{].*(unhealthy|healthy:|Failed|Finished)",
            line)]
        # A check's exit code says whether the machine is fast enough.
        title = f"$ {step.line} → {'?' if step.line.startswith('check perf --load=s') else code}"
        if step.deviation:
            self.deviations.append((step, output + error))
            self.transcript.append(f"{title.split(' → ')[0]}: {step.deviation.reason}")
            return
        printed = self.readable(step, output).splitlines()
        if step.line.startswith("check"):
            printed = [line for line in printed if line]
        lines = printed + [f"! {self.masked(line)}" for line in errors]
        self.transcript += [title, *(sorted(lines) if step.is_unordered else lines)]

    def readable(self, step, output):
        words = shlex.split(step.line)
        if "protobuf" in step.line and output and not output.startswith("protobuf"):
            kind = MESSAGES.get(self.help.command_of([w for w in words if not w.startswith("-")]))
            if kind:
                return self.masked(protobuf_text(kind, output.encode("latin-1")))
        if step.is_unordered and output.startswith(("{", "[")):
            output = json.dumps(sorted_lists(json.loads(output)), indent=0, ensure_ascii=False)
        # In the order of their IDs, which are not the same at both.
        output = re.sub(r'ETCD_INITIAL_CLUSTER="(.*)"', lambda match: str(sorted(match[1].split(","))), output)
        # etcd keeps the keys of a lease in a map: in no order.
        output = re.sub(r"attached keys\(\[([^]]*)\]\)",
                        lambda match: f"attached keys({sorted(match[1].split())})", output)
        return self.masked(output)

    def masked(self, text):
        names = {value: name for name, value in self.saved.items() if value}
        for name in self.names:
            if name.isupper():
                names[self.value(name)] = name
        for value in sorted(names, key=len, reverse=True):
            text = text.replace(value, f"<{names[value]}>")
            if re.fullmatch(r"[0-9a-f]{8,16}", value):
                text = text.replace(str(int(value, 16)), f"<#{names[value]}>")
        lines = [line for line in map(behind_progress, text.splitlines()) if line is not None]
        for pattern, replacement in MASKS:
            lines = [pattern.sub(replacement, line) for line in lines]
        text = "\n".join(line.rstrip() for line in lines)
        return text


def behind_progress(line):
    """What follows a bar of progress, which ends without a newline; None where there is only the bar."""
    if not re.search(r"^ *\d+ / \d+ .*%", line):
        return line
    follows = re.search(r"(Compacting|PASS|FAIL).*", line)
    return follows and follows[0]


def run_raw(arguments, input):
    """stdout byte by byte, for protobuf."""
    done = subprocess.run(
        [str(argument) for argument in arguments], input=input.encode(), capture_output=True, timeout=100,
        env={**os.environ, **ENVIRONMENT})
    is_text = "protobuf" not in arguments
    done.stdout = done.stdout.decode("utf-8" if is_text else "latin-1", errors="replace")
    done.stderr = done.stderr.decode(errors="replace")
    return done


def protobuf_text(kind, data):
    message = getattr(etcd_client.rpc, kind).FromString(data.rstrip(b"\n") if kind == "WatchResponse" else data)
    header = message if kind == "ResponseHeader" else message.header
    if kind == "ResponseHeader" or message.HasField("header"):
        for name in ("cluster_id", "member_id", "raft_term"):
            setattr(header, name, bool(getattr(header, name)))
    return str(message)


def sorted_lists(value):
    if isinstance(value, list):
        return sorted((sorted_lists(item) for item in value), key=sort_key)
    if isinstance(value, dict):
        return {name: sorted_lists(item) for name, item in sorted(value.items())}
    return value


def sort_key(item):
    if isinstance(item, dict):
        return json.dumps({name: item[name] for name in ("name", "Endpoint", "peerURLs") if name in item})
    return str(item)
