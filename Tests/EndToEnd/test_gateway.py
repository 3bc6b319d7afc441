"""The JSON gateway beside etcd's own: the same requests to Debian's etcd 3.4.23 and to Leasehold, statuses and bodies
compared; streams, WebSockets, HTTP/2, TLS, large bodies and slow clients.

Where both differ on purpose the table says so, and why.
"""

import base64
import json
import subprocess
import unittest

from gateway_client import GatewayClient, decoded, encoded, normalised
from harness import PKI, Etcd, Node, Workspace, leasehold, parse_metrics, run, spawn, total, wait_until

# etcd 3.5 answers so, which has a later grpc-gateway.
IN_3_5 = "3.5"
# Taken by the control, refused by later releases of 3.5 with a code of its own.
REFUSED_LATER = "refused later"
# Status and code are etcd's; the text comes from another decoder of JSON, and nobody reads it by machine.
OUR_TEXT = "our text"
# grpc-gateway answers these in plain text; here they have the body of every other error.
OUR_BODY = "our body"

K = encoded("foo")
TXN = {
    "compare": [{"key": K, "target": "VERSION", "result": "GREATER", "version": "0"}],
    "success": [{"request_range": {"key": K}}, {"requestPut": {"key": encoded("b"), "value": encoded("2")}}],
    "failure": [{"request_delete_range": {"key": K}}]}


def later(status):
    """What grpc-gateway 1.16 (etcd 3.5) makes of a failed precondition, 412 before."""
    return 400 if status == 412 else status


# (method, path, body, deviation): sent in this order to both servers, which start empty.
TABLE = [
    ("POST", "/v3/kv/put", {"key": K, "value": encoded("bar")}, None),
    ("POST", "/v3/kv/range", {"key": K}, None),
    ("POST", "/v3beta/kv/range", {"key": K}, None),
    ("POST", "/v3/kv/put", {"key": K, "value": encoded("x"), "prev_kv": True}, None),
    ("POST", "/v3/kv/put", {"key": K, "ignore_value": True}, None),
    ("POST", "/v3/kv/put", {"key": K, "value": K, "ignore_value": True}, None),
    ("POST", "/v3/kv/range", {"key": K, "range_end": "AA==", "limit": "1", "sort_order": "DESCEND"}, None),
    ("POST", "/v3/kv/range", {"key": K, "rangeEnd": "AA==", "sortTarget": "MOD", "sort_order": 2}, None),
    ("POST", "/v3/kv/range", {"key": K, "count_only": True}, None),
    ("POST", "/v3/kv/range", {"key": K, "keys_only": True, "serializable": True}, None),
    ("POST", "/v3/kv/range", {"key": K, "sort_order": 77}, REFUSED_LATER),
    ("POST", "/v3/kv/range", {"key": K, "bogus": {"a": [1, "x"]}}, None),
    ("POST", "/v3/kv/range", {"key": K, "revision": "100"}, None),
    ("POST", "/v3/kv/range", {}, None),
    ("POST", "/v3/kv/range", "", None),
    ("POST", "/v3/kv/range", "null", None),
    ("POST", "/v3/kv/range", '{"key":null}', None),
    ("POST", "/v3/kv/range", f'{{"key":"{K}"}}trailing', None),
    ("POST", "/v3/kv/range", f'{{"key":"{K}"}}{{"key":"x"}}', None),
    ("POST", "/v3/kv/range", f'{{"key":"YQ==","key":"{K}"}}', None),
    ("POST", "/v3/kv/range", "{", None),
    ("POST", "/v3/kv/range", "nonsense", OUR_TEXT),
    ("POST", "/v3/kv/range", "[]", OUR_TEXT),
    ("POST", "/v3/kv/range", '"x"', OUR_TEXT),
    ("POST", "/v3/kv/range", "12", OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":12}', OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":"!!!"}', OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","limit":1.5}', OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","limit":"x"}', OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","limit":true}', OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","limit":99999999999999999999}', OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","sort_order":"BAD"}', OUR_TEXT),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","serializable":"true"}', OUR_TEXT),
    ("GET", "/v3/kv/range", None, OUR_BODY),
    ("PUT", "/v3/kv/range", "{}", OUR_BODY),
    ("DELETE", "/v3/kv/range", None, OUR_BODY),
    ("POST", "/v3/kv/nope", "{}", OUR_BODY),
    ("POST", "/v3/nope", "{}", OUR_BODY),
    ("POST", "/v3/kv/range/", {"key": K}, OUR_BODY),
    ("POST", "/nope", "{}", OUR_BODY),
    ("POST", "/v3/kv/txn", TXN, None),
    ("POST", "/v3/kv/txn", {"success": [{"request_put": {"key": K}}, {"request_put": {"key": K}}]}, None),
    ("POST", "/v3/kv/txn", {"success": [{}]}, None),
    ("POST", "/v3/kv/txn", {"success": {}}, OUR_TEXT),
    ("POST", "/v3/kv/txn", {"success": [{"request_txn": TXN}]}, None),
    ("POST", "/v3/kv/txn", {}, None),
    ("POST", "/v3/kv/deleterange", {"key": encoded("b"), "prev_kv": True}, None),
    ("POST", "/v3/kv/deleterange", {"key": encoded("b")}, None),
    ("POST", "/v3/lease/grant", {"TTL": "100", "ID": "5"}, None),
    ("POST", "/v3/lease/grant", {"TTL": 100, "ID": 6}, None),
    ("POST", "/v3/lease/grant", {"TTL": "100", "ID": "5"}, IN_3_5),
    ("POST", "/v3/lease/grant", {"TTL": "9000000001", "ID": "7"}, None),
    ("POST", "/v3/kv/put", {"key": encoded("leased"), "lease": "5"}, None),
    ("POST", "/v3/kv/put", {"key": encoded("leased"), "lease": "99"}, None),
    ("POST", "/v3/lease/keepalive", {"ID": "5"}, None),
    ("POST", "/v3/lease/keepalive", '{"ID":"5"}{"ID":"99"}\n{"ID":6}', None),
    ("POST", "/v3/lease/keepalive", '{"ID":"5"}garbage', None),
    ("POST", "/v3/lease/keepalive", "", None),
    ("POST", "/v3/lease/keepalive", '{"ID":"5"', None),
    ("POST", "/v3/lease/keepalive", '{"ID":"x"}', OUR_TEXT),
    ("POST", "/v3/kv/lease/timetolive", {"ID": "99", "keys": True}, None),
    ("POST", "/v3/lease/timetolive", {"ID": "99"}, None),
    ("POST", "/v3/lease/leases", {}, None),
    ("POST", "/v3/kv/lease/leases", {}, None),
    ("POST", "/v3/lease/revoke", {"ID": "5"}, None),
    ("POST", "/v3/kv/lease/revoke", {"ID": "5"}, None),
    ("POST", "/v3/kv/compaction", {"revision": "3"}, None),
    ("POST", "/v3/kv/compaction", {"revision": "3"}, None),
    ("POST", "/v3/kv/compaction", {"revision": "1000"}, None),
    ("POST", "/v3/kv/range", {"key": K, "revision": "2"}, None),
    ("POST", "/v3/cluster/member/list", {}, "names"),
    ("POST", "/v3/cluster/member/list", {"linearizable": True}, "names"),
    ("POST", "/v3/cluster/member/remove", {"ID": "5"}, None),
    ("POST", "/v3/cluster/member/update", {"ID": "5", "peerURLs": ["http://x:1"]}, None),
    ("POST", "/v3/cluster/member/promote", {"ID": "5"}, None),
    ("POST", "/v3/cluster/member/add", {"peerURLs": ["nonsense"]}, None),
    ("POST", "/v3/maintenance/status", {}, None),
    ("POST", "/v3/maintenance/hash", {}, None),
    ("POST", "/v3/maintenance/defragment", {}, None),
    ("POST", "/v3/maintenance/transfer-leadership", {"targetID": "5"}, IN_3_5),
    ("POST", "/v3/lock/lock", {"name": encoded("l"), "lease": "6"}, None),
    ("POST", "/v3/lock/lock", {"name": encoded("l"), "lease": "6"}, None),
    ("POST", "/v3/lock/lock", {"name": encoded("l"), "lease": "555"}, None),
    ("POST", "/v3/lock/unlock", {"key": encoded("l/6")}, None),
    ("POST", "/v3/lock/unlock", {"key": encoded("l/6")}, None),
    ("POST", "/v3/lock/unlock", {}, None),
    ("POST", "/v3/election/leader", {"name": encoded("e")}, None),
    ("POST", "/v3/election/campaign", {"name": encoded("e"), "value": K, "lease": "6"}, None),
    ("POST", "/v3/election/campaign", {"name": encoded("e"), "value": encoded("2"), "lease": "6"}, None),
    ("POST", "/v3/election/campaign", {"name": encoded("e"), "lease": "555"}, None),
    ("POST", "/v3/election/leader", {"name": encoded("e")}, None),
    ("POST", "/v3/election/proclaim", {"value": K}, None),
    ("POST", "/v3/election/proclaim", {"leader": {"key": encoded("e/9"), "rev": "3", "lease": "6"}}, None),
    ("POST", "/v3/election/resign", {"leader": {"key": encoded("e/9"), "rev": "3", "lease": "6"}}, None),
    ("POST", "/v3/election/resign", {}, None),
]


class Servers(unittest.TestCase):
    """Etcd and a node, in cleartext, both empty."""

    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.etcd = GatewayClient(self.space.own(Etcd(self.space, None, tls=False)).start())
        self.node = GatewayClient(self.space.own(Node(self.space, None, tls=False)).start())


class Table(Servers):
    def answers(self, client, method, path, body):
        status, headers, text = client.request(method, path, body)
        if not headers.get_content_type() == "application/json":
            return status, text
        return status, [normalised(json.loads(line)) for line in text.splitlines() if line]

    def check(self, method, path, body, deviation):
        expected, wanted = self.answers(self.etcd, method, path, body)
        status, found = self.answers(self.node, method, path, body)
        if deviation == IN_3_5:
            self.assertEqual(expected, 412, "the control has caught up; the deviation can go")
            expected = later(expected)
        if deviation == REFUSED_LATER:
            expected, wanted = 400, [{"error": text, "code": 3, "message": text}
                                     for text in ["etcdserver: invalid sort option"]]
        if deviation in (OUR_TEXT, OUR_BODY) and status >= 400:
            fields = json.loads(self.node.request(method, path, body)[2])
            if path.startswith("/v3"):
                self.assertEqual(fields["error"], fields["message"])
            if deviation == OUR_TEXT:
                self.assertEqual(fields["code"], wanted[0]["code"])
            wanted = found
        if deviation == "names":
            for answer in (*wanted, *found):
                for member in answer["members"]:
                    member["name"] = "set"
        self.assertEqual((status, found), (expected, wanted))

    def test_same_requests_same_answers(self):
        for method, path, body, deviation in TABLE:
            with self.subTest(f"{method} {path} {body}"):
                self.check(method, path, body, deviation)

    def test_what_3_5_added(self):
        """Paths that the control does not have; what 3.5.1 answers was looked up."""
        for path, body, status, expected in [
            ("/v3/maintenance/hashkv", {}, 200, {"header": {"revision": "1"}}),
            ("/v3/maintenance/downgrade", {"action": "VALIDATE", "version": "3.4.0"}, 200,
             {"header": {"revision": "1"}, "version": "set"}),
            ("/v3/maintenance/downgrade", {"version": "3.3.0"}, 400, {
                "error": "etcdserver: invalid downgrade target version", "code": 3,
                "message": "etcdserver: invalid downgrade target version"}),
            ("/v3/maintenance/downgrade", {"version": "x"}, 400, {
                "error": "etcdserver: wrong downgrade target version format", "code": 3,
                "message": "etcdserver: wrong downgrade target version format"}),
            ("/v3/maintenance/alarm", {}, 200, {"header": {"revision": "1"}}),
            ("/v3alpha/kv/range", {"key": K}, 200, {"header": {"revision": "1"}}),
        ]:
            with self.subTest(f"{path} {body}"):
                found = self.node.post(path, body)
                answer = normalised(found[1])
                answer.pop("compact_revision", None)
                if "header" in answer:
                    answer["header"] = {"revision": answer["header"]["revision"]}
                answer.pop("hash", None)
                self.assertEqual((found[0], answer), (status, expected))
        self.assertEqual(self.etcd.request("POST", "/v3/maintenance/hashkv", "{}")[0], 404)

    def test_sizes(self):
        """As large as a request may be, larger, larger than a message may be: etcd's statuses and words. A body beyond
        all that is not read to its end, where etcd would read any."""
        for count, expected in ((1_500_000, 200), (1_600_000, 400), (2_200_000, 429)):
            body = {"key": K, "value": encoded(b"x" * count)}
            answers = [client.post("/v3/kv/put", body) for client in (self.etcd, self.node)]
            self.assertEqual([status for status, _ in answers], [expected] * 2)
            self.assertEqual(normalised(answers[0][1]), normalised(answers[1][1]))
        status, _, _ = self.node.request("POST", "/v3/kv/put", json.dumps({"key": encoded(b"x" * 12_000_000)}))
        self.assertEqual(status, 413)
        self.assertEqual(len(self.node.ask("/v3/kv/range", {"key": K})["kvs"][0]["value"]), 2_000_000)
        for number in range(6):
            self.node.put(f"large/{number}", "x" * 1_000_000)
        found = self.node.ask("/v3/kv/range", {"key": encoded("large/"), "range_end": encoded("large0")})
        self.assertEqual([len(record["value"]) for record in found["kvs"]], [1_333_336] * 6)


class Tokens(Servers):
    def test_a_token_travels_as_etcds_clients_send_it(self):
        if self.node.post("/v3/auth/status", {})[0] == 501:
            self.skipTest("this member knows no users")
        stories = []
        for client in (self.etcd, self.node):
            story = [later(client.post("/v3/auth/authenticate", {"name": "root", "password": "r"})[0])]
            for path, body in (
                ("user/add", {"name": "root", "password": "r"}), ("role/add", {"name": "root"}),
                ("user/grant", {"user": "root", "role": "root"}), ("enable", {}),
            ):
                client.ask("/v3/auth/" + path, body)
            token = client.ask("/v3/auth/authenticate", {"name": "root", "password": "r"})["token"]
            # A lock of its own each time: nobody gives one back.
            for number, headers in enumerate((
                {}, {"Authorization": "nonsense"}, {"Authorization": token}, {"Grpc-Metadata-Token": token},
                {"authorization": token},
            )):
                for path, body in (
                    ("/v3/kv/range", {"key": K}), ("/v3/lock/lock", {"name": encoded(f"l{number}")}),
                    ("/v3/auth/user/list", {}),
                ):
                    status, answer = client.post(path, body, headers)
                    story.append((path, later(status), answer.get("error"), answer.get("code"), answer.get("users")))
            story.append(client.post("/v3/auth/authenticate", {"name": "root", "password": "wrong"}))
            watch = client.socket("/v3/watch")
            self.addCleanup(watch.close)
            watch.send({"create_request": {"key": K}})
            story.append(watch.next()["result"].get("canceled"))
            stories.append(story)
            if client is self.node:
                watch = client.socket("/v3/watch", f"Bearer, {token}")
                self.addCleanup(watch.close)
                watch.send({"create_request": {"key": K}})
                self.assertNotIn("canceled", watch.next()["result"])
            client.ask("/v3/auth/disable", {}, {"Authorization": token})
        self.assertEqual(*stories)


class Streams(Servers):
    def watch_story(self, client, watch, send=None):
        """What a watch tells of the same changes; `send` adds requests where that is possible."""
        told = [watch.next()]
        client.put("foo", "1")
        client.put("other", "1")
        client.ask("/v3/kv/txn", {"success": [
            {"request_put": {"key": K, "value": encoded("2")}},
            {"request_put": {"key": encoded("foo/a"), "value": encoded("3")}}]})
        client.ask("/v3/kv/deleterange", {"key": K})
        while sum(len(answer["result"].get("events", [])) for answer in told) < 4:
            told.append(watch.next())
        if send:
            send({"progress_request": {}})
            told.append(watch.next())
            send({"create_request": {"key": K, "start_revision": "2", "watch_id": "7"}})
            told += [watch.next(), watch.next()]
            send({"cancel_request": {"watch_id": "7"}})
            told.append(watch.next())
            send({"create_request": {"key": K, "range_end": encoded("a")}})
            told.append(watch.next())
        return self.by_event(told)

    def by_event(self, answers):
        """How events are put into answers is timing; the events are not."""
        told = []
        for answer in answers:
            result = normalised(answer["result"])
            events = result.pop("events", None)
            if events is None:
                told.append(result)
            else:
                told += [{"watch_id": result.get("watch_id"), "event": event} for event in events]
        return told

    def test_a_watch_over_http(self):
        stories = []
        for client in (self.etcd, self.node):
            watch = client.stream("/v3/watch", {"create_request": {"key": K, "range_end": encoded("fop")}})
            self.addCleanup(watch.close)
            self.assertEqual(watch.start(), 200)
            self.assertEqual(watch.answer.headers["transfer-encoding"], "chunked")
            self.assertEqual(watch.answer.headers["content-type"], "application/json")
            stories.append(self.watch_story(client, watch))
        self.assertEqual(*stories)

    def test_a_watch_over_a_websocket(self):
        stories = []
        for client in (self.etcd, self.node):
            watch = client.socket("/v3/watch", "Bearer, token-that-nobody-asks-for")
            self.addCleanup(watch.close)
            self.assertEqual(watch.status, 101)
            self.assertEqual(watch.headers["sec-websocket-protocol"], "Bearer")
            self.assertEqual(watch.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            watch.close()
            watch = client.socket("/v3/watch")
            self.addCleanup(watch.close)
            watch.send({"create_request": {"key": K, "range_end": encoded("fop")}})
            stories.append(self.watch_story(client, watch, watch.send))
        self.assertEqual(*stories)

    def test_other_methods_over_a_websocket(self):
        for path, messages, count in [
            ("/v3/kv/range", ["{}"], 1), ("/v3/kv/range", [{"key": K}], 1),
            ("/v3/lease/keepalive", [{"ID": "8"}, {"ID": "9"}], 2), ("/v3beta/watch", [{"create_request": {}}], 1),
        ]:
            with self.subTest(path):
                told = []
                for client in (self.etcd, self.node):
                    socket = client.socket(path)
                    self.addCleanup(socket.close)
                    for message in messages:
                        socket.send(message)
                    told.append([normalised(socket.next()) for _ in range(count)])
                    if path == "/v3/kv/range":
                        self.assertIsNone(socket.next())
                self.assertEqual(*told)
        socket = self.node.socket("/v3/watch")
        socket.send("garbage")
        self.assertEqual(socket.next()["code"], 2)
        self.assertIsNone(socket.next())
        self.assertEqual(self.node.socket("/v3/nope").status, 404)

    def test_watches_from_the_past(self):
        for client in (self.etcd, self.node):
            for number in range(3):
                client.put("foo", str(number))
            client.ask("/v3/kv/compaction", {"revision": "3"})
        for request in (
            {"key": K, "start_revision": "3", "filters": []}, {"key": K, "start_revision": "3", "prev_kv": True},
            {"key": K, "start_revision": "1"}, {"key": K, "start_revision": "3", "filters": ["NOPUT"]},
            {"key": K, "range_end": encoded("a")},
        ):
            with self.subTest(str(request)):
                told = []
                for client in (self.etcd, self.node):
                    watch = client.stream("/v3/watch", {"create_request": request})
                    self.addCleanup(watch.close)
                    answers = [watch.next()]
                    if request.get("filters") != ["NOPUT"] and "range_end" not in request:
                        answers.append(watch.next())
                    told.append(self.by_event(answers))
                self.assertEqual(*told)

    def test_a_snapshot_is_whole(self):
        self.node.put("foo", "x" * 200_000)
        stream = self.node.stream("/v3/maintenance/snapshot", {})
        blobs = b"".join(base64.b64decode(answer["result"]["blob"]) for answer in stream.rest())
        self.assertEqual(len(blobs) % 512, 32)
        path = self.space / "backup.db"
        path.write_bytes(blobs)
        result = run(leasehold(), "snapshot", "status", path)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_lock_whose_waiter_leaves_is_not_waited_for(self):
        """Over HTTP nobody says good-bye: the connection ends, and the waiter's key must go at once."""
        self.node.ask("/v3/lease/grant", {"TTL": "600", "ID": "1"})
        self.node.ask("/v3/lock/lock", {"name": encoded("l"), "lease": "1"})
        waiters = []
        for lease in ("2", "3"):
            self.node.ask("/v3/lease/grant", {"TTL": "600", "ID": lease})
            waiters.append(self.node.stream("/v3/lock/lock", {"name": encoded("l"), "lease": lease}))
            self.addCleanup(waiters[-1].close)
            wait_until(lambda: len(self.keys("l/")) == int(lease), "the waiter's key")
        waiters[0].close()
        wait_until(lambda: self.keys("l/") == ["l/1", "l/3"], "the key's end")
        self.node.ask("/v3/lock/unlock", {"key": encoded("l/1")})
        self.assertEqual(decoded(json.loads(waiters[1].start() and waiters[1].answer.read())["key"]), "l/3")

    def keys(self, prefix):
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self.node.ask("/v3/kv/range", {"key": encoded(prefix), "range_end": encoded(end), "keys_only": True})
        return [decoded(record["key"]) for record in found.get("kvs", [])]

    def test_a_client_that_does_not_read_misses_nothing(self):
        """8 MB of events for a client that reads nothing meanwhile, and requests of another go on."""
        watch = self.node.stream("/v3/watch", {"create_request": {"key": encoded("k")}})
        self.addCleanup(watch.close)
        self.assertTrue(watch.next()["result"]["created"])
        count = 80
        for number in range(count):
            self.node.put("k", f"{number}:" + "x" * 100_000)
        seen = []
        while len(seen) < count:
            seen += [decoded(event["kv"]["value"]).split(":")[0] for event in watch.next()["result"].get("events", [])]
        self.assertEqual(seen, [str(number) for number in range(count)])

    def test_a_large_answer_waits_for_its_reader(self):
        """Nobody else waits with it, and it is whole."""
        for number in range(12):
            self.node.put(f"large/{number:02}", str(number) * 500_000)
        request = {"key": encoded("large/"), "range_end": encoded("large0")}
        stream = self.node.stream("/v3/kv/range", request)
        self.addCleanup(stream.close)
        self.assertEqual(stream.start(), 200)
        for number in range(50):
            self.node.put("other", str(number))
        found = json.loads(stream.answer.read())
        self.assertEqual(
            [decoded(record["value"])[:2] for record in found["kvs"]], [str(number)[:2] * (2 // len(str(number)))
                                                                       for number in range(12)])
        self.assertEqual(found["count"], "12")

    def test_calls_count_once_and_watches_end_with_their_clients(self):
        before = parse_metrics(self.node.request("GET", "/metrics")[2])
        for _ in range(5):
            self.node.put("foo", "1")
        watch = self.node.stream("/v3/watch", {"create_request": {"key": K}})
        watch.next()
        after = parse_metrics(self.node.request("GET", "/metrics")[2])

        def grew(name, **labels):
            return total(after, name, **labels) - total(before, name, **labels)

        self.assertEqual(grew("grpc_server_started_total", grpc_service="etcdserverpb.KV", grpc_method="Put"), 5)
        handled = {"grpc_service": "etcdserverpb.KV", "grpc_method": "Put", "grpc_code": "OK"}
        self.assertEqual(grew("grpc_server_handled_total", **handled), 5)
        self.assertEqual(grew("etcd_mvcc_put_total"), 5)
        self.assertEqual(grew("etcd_debugging_mvcc_watcher_total"), 1)
        self.assertGreater(grew("etcd_network_client_grpc_received_bytes_total"), 0)
        watch.close()
        wait_until(
            lambda: total(self.node.server.metrics(), "etcd_debugging_mvcc_watcher_total") == 0, "the watch's end")


class OverTLS(unittest.TestCase):
    """The same port with TLS and certificates of clients: HTTP/1.1, HTTP/2, WebSockets."""

    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.pki = PKI(self.space / "pki")
        self.server = self.space.own(Node(self.space, self.pki)).start()
        self.client = GatewayClient(self.server)

    def curl(self, *arguments, seconds=10):
        flags = ["--cacert", self.pki.authority, "--cert", self.pki.certificate("operator"),
                 "--key", self.pki.key("operator"), "-sS", "--max-time", str(seconds)]
        return subprocess.run(
            ["curl", *map(str, flags), *arguments], capture_output=True, text=True, timeout=seconds + 10)

    def test_both_versions_of_http(self):
        for version, name in (("--http1.1", "1.1"), ("--http2", "2")):
            result = self.curl(
                version, "-w", "\n%{http_version} %{http_code}", "-d", json.dumps({"key": K}),
                f"{self.server.endpoint}/v3/kv/range")
            body, report = result.stdout.rsplit("\n", 1)
            self.assertEqual(report, f"{name} 200", result.stderr)
            self.assertEqual(list(json.loads(body)), ["header"])
            refused = self.curl(version, "-w", "\n%{http_code}", "-d", "{", f"{self.server.endpoint}/v3/kv/range")
            self.assertEqual(refused.stdout.rsplit("\n", 1)[1], "400")
            self.assertEqual(json.loads(refused.stdout.rsplit("\n", 1)[0])["code"], 3)

    def test_streams_of_both_versions(self):
        for number, version in enumerate(("--http1.1", "--http2")):
            self.client.put(f"k{number}", "1")
            request = {"create_request": {"key": encoded(f"k{number}"), "start_revision": "1"}}
            result = self.curl(version, "-N", "-d", json.dumps(request), f"{self.server.endpoint}/v3/watch", seconds=2)
            lines = [json.loads(line)["result"] for line in result.stdout.splitlines()]
            self.assertTrue(lines[0]["created"])
            self.assertEqual([decoded(event["kv"]["value"]) for event in lines[1]["events"]], ["1"])
        wait_until(lambda: total(self.server.metrics(), "etcd_debugging_mvcc_watcher_total") == 0, "the watches' end")

    def test_a_websocket(self):
        watch = self.client.socket("/v3/watch")
        self.addCleanup(watch.close)
        watch.send({"create_request": {"key": K}})
        self.assertTrue(watch.next()["result"]["created"])
        self.client.put("foo", "x" * 100_000)
        self.assertEqual(len(decoded(watch.next()["result"]["events"][0]["kv"]["value"])), 100_000)

    def test_a_waiter_that_leaves_is_not_waited_for(self):
        """Killed clients of both versions: their keys go with them."""
        self.client.ask("/v3/lock/lock", {"name": encoded("l")})
        prefix = {"key": encoded("l/"), "range_end": encoded("l0"), "count_only": True}
        for version in ("--http1.1", "--http2"):
            flags = ["--cacert", self.pki.authority, "--cert", self.pki.certificate("operator"),
                     "--key", self.pki.key("operator"), "-s", version, "-d", json.dumps({"name": encoded("l")})]
            waiter = spawn(["curl", *flags, f"{self.server.endpoint}/v3/lock/lock"], self.space / "curl.log")
            wait_until(lambda: self.client.ask("/v3/kv/range", prefix)["count"] == "2", "the waiter's key")
            waiter.kill()
            waiter.wait()
            wait_until(lambda: self.client.ask("/v3/kv/range", prefix)["count"] == "1", "the end of the waiter's key")

    def test_cleartext_http2(self):
        node = self.space.own(Node(self.space, None, name="clear", tls=False)).start()
        result = self.curl(
            "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}", "-d",
            json.dumps({"key": K, "value": K}), f"{node.endpoint}/v3/kv/put")
        self.assertEqual(result.stdout.rsplit("\n", 1)[1], "2 200", result.stderr)
        # An offer to change to HTTP/2 is not taken, and does no harm.
        result = self.curl(
            "--http2", "-w", "\n%{http_version} %{http_code}", f"{node.endpoint}/version", f"{node.endpoint}/version")
        self.assertEqual(result.stdout.count("1.1 200"), 2, result.stdout)


class PatroniRequests(unittest.TestCase):
    """The requests of Patroni's etcd3 client (4.0), in its order: find the members, take the leader's key by a lease, keep
    it, watch it, lose it."""

    def test_a_leader_comes_and_goes(self):
        space = Workspace()
        self.addCleanup(space.close)
        client = GatewayClient(space.own(Node(space, None, tls=False)).start())
        version = json.loads(client.request("GET", "/version")[2])
        self.assertGreaterEqual(tuple(int(part) for part in version["etcdserver"].split(".")), (3, 0, 4))
        self.assertGreaterEqual(tuple(int(part) for part in version["etcdcluster"].split(".")), (3, 4))
        members = client.ask("/v3/cluster/member/list", {})["members"]
        self.assertEqual([url for member in members for url in member["clientURLs"]], [client.server.endpoint])

        leader, folder = encoded("/service/batman/leader"), encoded("/service/batman/")
        watch = client.stream("/v3/watch", {"create_request": {
            "key": folder, "range_end": encoded("/service/batman0"), "start_revision": "2", "filters": []}})
        self.addCleanup(watch.close)
        self.assertTrue(watch.next()["result"]["created"])
        lease = client.ask("/v3/lease/grant", {"TTL": 2})["ID"]

        def take(value):
            return client.ask("/v3/kv/txn", {
                "compare": [{"target": "CREATE", "create_revision": "0", "key": leader}],
                "success": [{"request_put": {"key": leader, "value": encoded(value), "lease": lease}}]})

        self.assertTrue(take("one")["succeeded"])
        self.assertNotIn("succeeded", take("two"))
        self.assertEqual(watch.next()["result"]["events"][0]["kv"]["value"], encoded("one"))
        kept = client.ask("/v3/lease/keepalive", {"ID": lease})
        self.assertEqual(kept["result"]["TTL"], "2")
        found = client.ask("/v3/kv/range", {"key": folder, "range_end": encoded("/service/batman0"),
                                            "serializable": True})
        self.assertEqual(found["kvs"][0]["lease"], lease)
        # Nobody keeps it any more.
        self.assertEqual(watch.next()["result"]["events"][0]["type"], "DELETE")
        self.assertNotIn("TTL", client.ask("/v3/lease/keepalive", {"ID": lease})["result"])
        status, answer = client.post("/v3/kv/put", {"key": leader, "value": K, "lease": lease})
        self.assertEqual((status, answer["error"]), (404, "etcdserver: requested lease not found"))


if __name__ == "__main__":
    unittest.main()
