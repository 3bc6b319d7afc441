"""Several members on one machine: starts them with etcd's flags and mTLS between them, adds and removes, finds the
leader."""

import json

from harness import Node, free_port, wait_until


class Member(Node):
    def __init__(self, space, pki, name, cluster, tls=True):
        super().__init__(space, pki, name, tls)
        self.cluster = cluster
        self.peer_port = free_port()
        self.state = "new"
        self.extra = []

    @property
    def peer_url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.peer_port}"

    def peer_tls_flags(self):
        return [
            "--peer-cert-file", self.pki.certificate("node"), "--peer-key-file", self.pki.key("node"),
            "--peer-client-cert-auth", "--peer-trusted-ca-file", self.pki.authority]

    def command(self):
        flags = [
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", self.cluster.initial_cluster, "--initial-cluster-token", "test",
            "--initial-cluster-state", self.state]
        if self.tls:
            flags += self.peer_tls_flags()
        return [*super().command(), *flags, *self.extra]

    def status(self):
        """etcdctl's endpoint status, None when the member does not answer."""
        result = self.etcdctl("endpoint", "status", "-w", "json", timeout=10)
        return json.loads(result.stdout)[0]["Status"] if result.returncode == 0 else None


class Cluster:
    def __init__(self, space, pki, size=3, tls=True, names=None, kind=Member):
        self.space, self.pki, self.tls, self.kind = space, pki, tls, kind
        self.members = {}
        for name in names or [f"m{number}" for number in range(size)]:
            self._make(name)
        self.initial_cluster = self._listing()

    def _make(self, name):
        self.members[name] = self.space.own(self.kind(self.space, self.pki, name, self, self.tls))
        return self.members[name]

    def _listing(self):
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members.values())

    def start(self):
        for member in self.members.values():
            member.spawn()
        for member in self.members.values():
            member.wait_ready()
        return self

    def __getitem__(self, name):
        return self.members[name]

    def alive(self):
        return [member for member in self.members.values() if member.is_alive]

    def etcdctl(self, *arguments, **options):
        """Through any living member."""
        return self.alive()[0].etcdctl(*arguments, **options)

    def leader(self, seconds=20):
        """The member that all living ones follow."""

        def agreed():
            statuses = [member.status() for member in self.alive()]
            leaders = {status and status.get("leader", 0) for status in statuses}
            if len(leaders) != 1 or not all(leaders):
                return None
            leader = leaders.pop()
            return next((m for m, s in zip(self.alive(), statuses) if s["header"]["member_id"] == leader), None)

        return wait_until(agreed, "agreement on a leader", seconds, 0.1)

    def add(self, name, learner=False):
        """Adds a member through a living one and starts it."""
        member = self._make(name)
        arguments = ["member", "add", name, f"--peer-urls={member.peer_url}"] + (["--learner"] if learner else [])
        result = next(m for m in self.alive()).etcdctl(*arguments)
        if result.returncode != 0:
            raise AssertionError(result.stderr)
        self.initial_cluster = self._listing()
        member.state = "existing"
        member.spawn()
        return member

    def ids(self):
        """Members by name, as the cluster lists them."""
        listed = json.loads(self.etcdctl("member", "list", "-w", "json").stdout)["members"]
        return {member.get("name", ""): f"{member['ID']:x}" for member in listed}

    def remove(self, name):
        result = self.etcdctl("member", "remove", self.ids()[name])
        if result.returncode != 0:
            raise AssertionError(result.stderr)
        return self.members.pop(name)

    def hashes(self, revision):
        """HashKV of every living member at one revision."""
        found = {}
        for member in self.alive():
            result = member.etcdctl("endpoint", "hashkv", "-w", "json", f"--rev={revision}")
            found[member.name] = json.loads(result.stdout)[0]["HashKV"]["hash"] if result.returncode == 0 else None
        return found
