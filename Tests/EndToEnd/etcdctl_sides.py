"""The two things that are compared: one or three members of Debian's etcd, and as many of Leasehold."""

import json

from cluster import Cluster
from etcd_client import EtcdClient
from harness import Etcd, free_port, run, wait_until

PROGRAMS = ("etcd", "leasehold")


class EtcdMember(Etcd):
    def __init__(self, space, pki, name, tls):
        super().__init__(space, pki, name, tls)
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.initial_cluster = f"{name}={self.peer_url}"
        self.extra = []

    def command(self):
        return [
            "etcd", *self.client_flags(), "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls",
            self.peer_url, "--initial-cluster", self.initial_cluster, "--log-level", "error", *self.extra]


class Side:
    """`names`: what a script may ask for as `$NAME`; those in capitals are masked in the transcript."""

    def __init__(self, program, space, pki, size=1, tls=False, flags=(), names=None):
        self.program, self.space, self.pki = program, space, pki
        self.folder = space / program
        self.folder.mkdir(exist_ok=True)
        if program == "etcd":
            names = names or [f"m{number}" for number in range(size)]
            self.members = [space.own(EtcdMember(space, pki, name, tls)) for name in names]
            listing = ",".join(member.initial_cluster for member in self.members)
            for member in self.members:
                member.initial_cluster = listing
        else:
            self.cluster = Cluster(space, pki, size, tls, names)
            self.members = list(self.cluster.members.values())
        for member in self.members:
            member.extra = [*member.extra, *(flags.get(program, ()) if isinstance(flags, dict) else flags)]
        self.names = {"FOLDER": self.folder, "ALL": ",".join(member.endpoint for member in self.members)}
        if tls:
            self.names |= {
                "ca": pki.authority, "cert": pki.certificate("operator"), "key": pki.key("operator"),
                "other": getattr(pki, "other", None)}
        for number, member in enumerate(self.members):
            self.names |= {
                f"E{number}": member.endpoint, f"ADDRESS{number}": f"127.0.0.1:{member.port}",
                f"P{number}": member.peer_url, f"DATA{number}": member.data}

    def start(self):
        for member in self.members:
            member.spawn()
        for member in self.members:
            member.wait_ready()
        listed = self.client("member", "list")
        ids = {member["name"]: member["ID"] for member in listed["members"]}
        self.names["CLUSTER"] = f"{listed['header']['cluster_id']:x}"
        for number, member in enumerate(self.members):
            self.names[f"M{number}"] = f"{ids[member.name]:x}"
        return self

    def client(self, *arguments):
        member = self.members[0]
        done = run("etcdctl", *member.etcdctl_flags(), *arguments, "-w", "json", environment={"ETCDCTL_API": "3"})
        if done.returncode != 0:
            raise AssertionError(f"{self.program}: {done.stderr}")
        return json.loads(done.stdout)

    def leader(self):
        """Its place among the members."""

        def found():
            statuses = [json.loads(run(
                "etcdctl", *member.etcdctl_flags(), "endpoint", "status", "-w", "json",
                environment={"ETCDCTL_API": "3"}).stdout)[0]["Status"] for member in self.members]
            leaders = {status.get("leader", 0) for status in statuses}
            ids = [status["header"]["member_id"] for status in statuses]
            return [ids.index(leaders.pop())] if len(leaders) == 1 and next(iter(leaders)) in ids else None
        return wait_until(found, f"{self.program}: agreement on a leader", 20, 0.1)[0]

    def watchers(self):
        return sum(
            value for member in self.members for name, value in member.metrics().items()
            if name.startswith("etcd_debugging_mvcc_watcher_total"))

    def lead(self, number):
        """Makes this member the leader."""
        leader = self.leader()
        if leader != number:
            self.client("move-leader", self.names[f"M{number}"], "--endpoints", self.members[leader].endpoint)
        wait_until(lambda: self.leader() == number, f"{self.program}: the leadership of member {number}")

    def roles(self):
        leader = self.leader()
        follower = (leader + 1) % len(self.members)
        return {
            "FOLLOWER": self.names[f"M{follower}"], "LEADER": self.names[f"M{leader}"],
            "FOLLOWERENDPOINT": self.members[follower].endpoint}

    def destinations(self):
        """Two more servers, in cleartext and with TLS."""
        clear, secure = (
            Side(self.program, self.space, self.pki, names=[name], tls=tls).start().members[0]
            for name, tls in (("clear", False), ("secure", True)))
        return {
            "DEST": clear.endpoint, "DESTADDRESS": f"127.0.0.1:{clear.port}", "DESTTLS": secure.endpoint,
            "destca": self.pki.authority, "destcert": self.pki.certificate("operator"),
            "destkey": self.pki.key("operator")}

    def grpc(self, member=0):
        return self.space.own(Closing(EtcdClient(self.members[member].port)))

    def join(self, name, learner=True):
        """Adds a member and starts it; the others' answers do not wait for it."""
        if self.program != "etcd":
            member = self.cluster.add(name, learner)
        else:
            member = self.space.own(EtcdMember(self.space, self.pki, name, self.members[0].tls))
            self.client("member", "add", name, f"--peer-urls={member.peer_url}", *(["--learner"] if learner else []))
            member.initial_cluster = f"{self.members[0].initial_cluster},{member.initial_cluster}"
            member.extra = ["--initial-cluster-state", "existing"]
            member.spawn()
        self.members.append(member)
        self.names[f"M{len(self.members) - 1}"] = next(
            f"{listed['ID']:x}" for listed in self.client("member",
            "list")["members"] if member.peer_url in listed["peerURLs"])
        return member


class Closing:
    """Closed by the workspace."""

    def __init__(self, client):
        self.call, self.ask, self.stop = client.call, client.ask, client.close
