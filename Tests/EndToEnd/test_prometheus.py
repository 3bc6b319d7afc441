"""A real Prometheus scrapes a cluster over mutual TLS: what etcd's dashboard and alerts ask for is there, with etcd's types
and buckets."""

import json
import re
import unittest
import urllib.parse
import urllib.request

from cluster import Cluster
from harness import PKI, Etcd, Workspace, free_port, spawn, tail, wait_until

# What etcd's Grafana dashboard and its mixin of alerts ask for, and what operators look for beside that.
ASKED_FOR = """
etcd_server_has_leader etcd_server_is_leader etcd_server_is_learner etcd_server_leader_changes_seen_total
etcd_server_proposals_committed_total etcd_server_proposals_applied_total etcd_server_proposals_failed_total
etcd_server_proposals_pending etcd_server_quota_backend_bytes etcd_server_slow_apply_total
etcd_server_slow_read_indexes_total etcd_server_version
etcd_disk_wal_fsync_duration_seconds_bucket etcd_disk_backend_commit_duration_seconds_bucket
etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes
etcd_mvcc_put_total etcd_mvcc_range_total etcd_mvcc_delete_total etcd_mvcc_txn_total
etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
etcd_network_peer_received_bytes_total etcd_network_peer_sent_bytes_total etcd_network_peer_sent_failures_total
etcd_network_peer_round_trip_time_seconds_bucket etcd_network_active_peers
etcd_debugging_lease_granted_total etcd_debugging_lease_revoked_total etcd_debugging_lease_renewed_total
etcd_debugging_server_lease_expired_total etcd_debugging_mvcc_watcher_total etcd_debugging_mvcc_watch_stream_total
etcd_debugging_mvcc_slow_watcher_total etcd_debugging_mvcc_current_revision etcd_debugging_mvcc_compact_revision
grpc_server_started_total grpc_server_handled_total grpc_server_handling_seconds_bucket
process_resident_memory_bytes process_open_fds leasehold_lease_expiry_lag_seconds_bucket leasehold_raft_loop_busy_ratio
""".split()
# Of these the two servers are to have the same type and, where they are histograms, the same bounds.
SHARED = re.compile(r"(etcd|grpc|process)_")
SCRAPE_INTERVAL = "1s"


def types(exposition):
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE))


def bounds(exposition, name):
    """Of a histogram, as numbers: the two servers write 1 differently."""
    return {float(bound) for bound in re.findall(rf'^{name}_bucket\{{[^}}]*le="([^"]+)"', exposition, re.MULTILINE)}


class Prometheus:
    def __init__(self, space, pki, ports):
        self.port = free_port()
        self.log = space / "prometheus.log"
        (space / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": SCRAPE_INTERVAL},
            "scrape_configs": [{
                "job_name": "leasehold", "scheme": "https",
                "tls_config": {
                    "ca_file": str(pki.authority), "cert_file": str(pki.certificate("operator")),
                    "key_file": str(pki.key("operator"))},
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}]}))
        self.process = spawn([
            "prometheus", f"--config.file={space}/prometheus.yml", f"--storage.tsdb.path={space}/prometheus",
            f"--web.listen-address=127.0.0.1:{self.port}"], self.log)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def ask(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            if self.process.poll() is not None:
                raise AssertionError(f"prometheus ended:\n{tail(self.log)}") from None
            return None

    def series(self, query):
        data = self.ask("query", query=query)
        return data["result"] if data else []


class Scrape(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.pki = PKI(cls.space / "pki")
        cls.cluster = Cluster(cls.space, cls.pki).start()
        for command in (["put", "a", "1"], ["get", "a"], ["del", "a"], ["lease", "grant", "60"], ["compact", "2"]):
            done = cls.cluster.etcdctl(*command)
            assert done.returncode == 0, done.stderr
        ports = [member.port for member in cls.cluster.members.values()]
        cls.prometheus = cls.space.own(Prometheus(cls.space, cls.pki, ports))
        wait_until(lambda: len(cls.prometheus.series("up == 1")) == 3, "three members that can be scraped", 60, 0.3)

    def test_everything_that_dashboards_ask_for_has_data_from_every_member(self):
        missing = {}
        for name in ASKED_FOR:
            members = {series["metric"]["instance"] for series in self.prometheus.series(name)}
            if len(members) != 3:
                missing[name] = len(members)
        self.assertEqual(missing, {}, "series, and how many members have them")

    def test_one_leads_and_every_member_counts_what_it_exchanges_with_the_two_others(self):
        self.assertEqual([series["value"][1] for series in self.prometheus.series("sum(etcd_server_is_leader)")], ["1"])
        for name in ("sent_bytes_total", "received_bytes_total", "round_trip_time_seconds_count"):
            with self.subTest(name):
                wait_until(
                    lambda: len(self.prometheus.series(f"etcd_network_peer_{name} > 0")) == 6,
                    "two peers at each of three members", 20, 0.3)

    def test_types_and_buckets_are_those_of_etcd(self):
        etcd = self.space.own(Etcd(self.space, None, tls=False).start())
        theirs = etcd.get("/metrics")[1]
        ours = self.cluster["m0"].get("/metrics")[1]
        our_types, their_types = types(ours), types(theirs)
        shared = [name for name in our_types if SHARED.match(name) and name in their_types]
        self.assertGreater(len(shared), 30)
        self.assertEqual({name: our_types[name] for name in shared}, {name: their_types[name] for name in shared})
        for name in shared:
            if our_types[name] == "histogram" and bounds(theirs, name):
                self.assertEqual(bounds(ours, name), bounds(theirs, name), name)


if __name__ == "__main__":
    unittest.main()
