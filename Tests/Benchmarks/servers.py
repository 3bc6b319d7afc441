"""The servers under load: started alike, asked over HTTP, weighed by their CPU time."""

import ctypes
import http.client
import os
import signal
import socket
import ssl
import subprocess
import time

_libc = ctypes.CDLL(None)


def die_with_parent():
    """Between fork and exec: a server must not outlive a run that was killed."""
    _libc.prctl(1, signal.SIGKILL)


TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Identity:
    """A private CA with a server's and a client's certificate, made by leasehold's own command."""

    def __init__(self, leasehold, folder):
        self.folder = folder
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([leasehold, "pki", "init", "--dir", folder], **quiet)
        subprocess.run([leasehold, "pki", "issue", "--dir", folder, "--name", "node", "--server", "--client",
                        "--host", "127.0.0.1", "--host", "localhost"], **quiet)
        subprocess.run([leasehold, "pki", "issue", "--dir", folder, "--name", "client", "--client"], **quiet)

    def path(self, name):
        return os.path.join(self.folder, name)

    def server_flags(self):
        return ["--cert-file", self.path("node.crt"), "--key-file", self.path("node.key"), "--client-cert-auth",
                "--trusted-ca-file", self.path("ca.crt")]

    def peer_flags(self):
        """Mutual TLS between members."""
        return ["--peer-cert-file", self.path("node.crt"), "--peer-key-file", self.path("node.key"),
                "--peer-client-cert-auth", "--peer-trusted-ca-file", self.path("ca.crt")]

    def client_flags(self):
        """As etcd's benchmark tool takes them."""
        return ["--cacert", self.path("ca.crt"), "--cert", self.path("client.crt"), "--key", self.path("client.key")]

    def client_context(self):
        context = ssl.create_default_context(cafile=self.path("ca.crt"))
        context.load_cert_chain(self.path("client.crt"), self.path("client.key"))
        return context


class Server:
    """One member on a data directory of its own. `peers`: the peer URLs of all members of its cluster by their names;
    without them it is alone."""

    def __init__(self, name, binary, folder, identity, member="n0", peers=None):
        self.name = name
        self.folder = folder
        self.identity = identity
        self.member = member
        self.peers = peers
        self.port = free_port()
        self.binary = binary
        os.makedirs(folder)
        self.log_path = os.path.join(folder, "log")
        self.command = [binary, *self.arguments()]
        self.spawn()

    def spawn(self):
        """Starts the process on what the data directory holds."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, preexec_fn=die_with_parent)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"{'https' if self.identity else 'http'}://{self.address}"

    def urls(self):
        """Where the load goes."""
        return [self.url]

    def common_arguments(self):
        arguments = ["--name", self.member, "--data-dir", os.path.join(self.folder, "data"),
                     "--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        return arguments + (self.identity.server_flags() if self.identity else [])

    def cluster_arguments(self, peers):
        own = peers[self.member]
        arguments = ["--listen-peer-urls", own, "--initial-advertise-peer-urls", own, "--initial-cluster",
                     ",".join(f"{member}={url}" for member, url in peers.items())]
        return arguments + (self.identity.peer_flags() if own.startswith("https:") else [])

    def await_health(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.is_ready():
                    return
            except (OSError, RuntimeError):
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = open(self.log_path, errors="replace").read()[-2000:]
                raise SystemExit(f"{self.name} did not become healthy\n{tail}")
            time.sleep(0.05)

    def is_ready(self):
        return b"true" in self.request("GET", "/health")

    def request(self, method, path, body=None, port=None):
        if port is None and self.identity:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=10, context=self.identity.client_context())
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request(method, path, body=body)
            response = connection.getresponse()
            content = response.read()
            if response.status >= 300:
                raise RuntimeError(f"{self.name}: {method} {path}: {response.status} {content[:200]!r}")
            return content
        finally:
            connection.close()

    def call(self, method, message):
        """One unary gRPC call, by curl; `message` as protobuf. Returns the answer's protobuf."""
        command = ["curl", "--silent", "--show-error", "--fail", "--data-binary", "@-", "--header", "te: trailers",
                   "--header", "content-type: application/grpc"]
        if self.identity:
            command += ["--http2", "--cacert", self.identity.path("ca.crt"), "--cert", self.identity.path("client.crt"),
                        "--key", self.identity.path("client.key")]
        else:
            command += ["--http2-prior-knowledge"]
        body = b"\0" + len(message).to_bytes(4, "big") + message
        answer = subprocess.run([*command, self.url + method], input=body, stdout=subprocess.PIPE, check=True).stdout
        if len(answer) < 5:
            raise SystemExit(f"{self.name} refuses {method}")
        return answer[5:]

    def cpu_seconds(self):
        """utime + stime of all its threads, the ended ones too."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        """Resident bytes: (anonymous, file-backed)."""
        sizes = {}
        with open(f"/proc/{self.process.pid}/smaps_rollup") as rollup:
            for line in rollup:
                words = line.split()
                if len(words) == 3 and words[2] == "kB":
                    sizes[words[0]] = int(words[1]) * 1024
        return sizes["Anonymous:"], sizes["Rss:"] - sizes["Anonymous:"]

    def peak_bytes(self):
        """The largest resident size so far."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

    def disk_bytes(self):
        """What the data directory takes on the disk, holes not counted."""
        return sum(os.stat(os.path.join(folder, name)).st_blocks * 512
                   for folder, _, names in os.walk(os.path.join(self.folder, "data")) for name in names)

    def gauges(self):
        """The values of /metrics without labels, by name."""
        values = {}
        for line in self.request("GET", "/metrics").decode().splitlines():
            if line and line[0] != "#" and "{" not in line:
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def keys(self):
        """How many keys the applied state has."""
        return int(self.gauges()["etcd_debugging_mvcc_keys_total"])

    def kill(self):
        """kill -9, and wait until the process is gone."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# Ten million leases with a key each are more than the 2 GiB that either server admits unless told otherwise.
ROOM = ["--quota-backend-bytes", str(16 << 30)]


class Etcd(Server):
    def arguments(self):
        peers = self.peers or {self.member: f"http://127.0.0.1:{free_port()}"}
        return [*self.common_arguments(), *ROOM, *self.cluster_arguments(peers), "--log-level", "warn"]


class Leasehold(Server):
    def arguments(self):
        return ["node", *self.common_arguments(), *ROOM, *(self.cluster_arguments(self.peers) if self.peers else [])]


class LeaseholdWithSidecar(Server):
    """With two caches: in `calm` every hit but a key's first is coalesced, in `busy` practically none is."""

    def arguments(self):
        self.api_port = free_port()
        return ["node", *self.common_arguments(), "--sidecar-api", f"127.0.0.1:{self.api_port}",
                "--cache", "calm:ttl=12h,window=1h,jitter=0,register=on-hit",
                "--cache", "busy:ttl=12h,window=1ms,jitter=0,register=on-hit"]

    def is_ready(self):
        return super().is_ready() and bool(self.request("GET", "/v1/caches/busy", port=self.api_port))

    def metric(self, name):
        """The sum over all labels."""
        total = 0.0
        for line in self.request("GET", "/metrics", port=self.api_port).decode().splitlines():
            if line.split("{")[0].split(" ")[0] == name:
                total += float(line.rsplit(" ", 1)[1])
        return total


MEMBERS = 3


class Cluster:
    """Members of one kind on this machine, under load as one server. `identity`: mutual TLS between them too."""

    def __init__(self, name, binary, folder, identity):
        self.name = name
        self.identity = identity
        scheme = "https" if identity else "http"
        peers = {f"n{number}": f"{scheme}://127.0.0.1:{free_port()}" for number in range(MEMBERS)}
        self.members = [self.kind(f"{name} {member}", binary, os.path.join(folder, member), identity, member, peers)
                        for member in peers]

    def await_health(self):
        for member in self.members:
            member.await_health()

    def leader(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            leaders = [member for member in self.members if member.gauges()["etcd_server_is_leader"]]
            if len(leaders) == 1:
                return leaders[0]
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: {len(leaders)} leaders")
            time.sleep(0.05)

    def follower(self):
        leader = self.leader()
        return next(member for member in self.members if member is not leader)

    def urls(self):
        """All members', the leader's first: a load of one connection goes there."""
        leader = self.leader()
        return [leader.url, *(member.url for member in self.members if member is not leader)]

    def call(self, method, message):
        return self.leader().call(method, message)

    def cpu_seconds(self):
        return sum(member.cpu_seconds() for member in self.members)

    def leader_changes(self):
        """The most that a member has seen, the first election among them."""
        return int(max(member.gauges()["etcd_server_leader_changes_seen_total"] for member in self.members))

    def stop(self):
        # All of them at once: one that is left would look for a leader first.
        for member in self.members:
            member.process.terminate()
        for member in self.members:
            member.stop()


class EtcdCluster(Cluster):
    kind = Etcd


class LeaseholdCluster(Cluster):
    kind = Leasehold
