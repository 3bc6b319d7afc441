"""The sidecar on real software: nginx as a WebDAV build cache, ccache in front of it, the hooks, the janitor, `nc`, `curl`.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import unittest
from pathlib import Path

from harness import PKI, Background, Nginx, Node, Workspace, leasehold, run, total, wait_until


class SidecarTest(unittest.TestCase):
    """One node per class, with the caches and flags the class names."""

    caches = ()

    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.node = cls.space.own(
            Node(cls.space, PKI(cls.space / "pki"), caches=cls.caches, extra=cls.flags(cls.space)).start())

    @classmethod
    def flags(cls, space):
        return []

    def subscriber(self, name, **options):
        lines = self.node.subscribe(name, **options)
        self.addCleanup(lines.stop)
        lines.expect("hello")
        return lines

    def register(self, cache, *keys):
        answer = self.node.call("POST", f"/v1/caches/{cache}/hits", "".join(f"{key}\n" for key in keys))[1]
        self.assertEqual(answer["registered"], len(keys), answer)

    def evict(self, cache, *keys):
        with contextlib.closing(self.node.api()) as api:
            for key in keys:
                self.assertEqual(api.call("DELETE", f"/v1/caches/{cache}/entries/{key}")[0], 202)

    def forget(self, *names):
        """Ends the subscriptions, so that the evictions of other tests do not wait for them."""
        for name in names:
            lines = self.node.subscribe(name)
            with contextlib.closing(lines):
                lines.expect("hello")
                lines.send({"op": "unsub", "forget": True})
                lines.expect("ok")


TTL_SECONDS, WINDOW_SECONDS = 5, 1


class BuildCache(SidecarTest):
    """A C program is compiled through ccache with nginx as remote storage; nginx reports by syslog; a janitor deletes."""

    caches = [f"ccache:ttl={TTL_SECONDS}s,window={WINDOW_SECONDS}s,jitter=0,register=on-hit"]

    @classmethod
    def flags(cls, space):
        return ["--sidecar-syslog", space / "hits.sock", "--sidecar-strip", "/cache/"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nginx = Nginx(cls.space, f"syslog:server=unix:{cls.space}/hits.sock,nohostname")
        cls.janitor = cls.space.own(Background(
            cls.space, "janitor", [
                leasehold(), "janitor", "--cache", "ccache", "--root", cls.nginx.blobs / "cache", "--events",
                cls.node.events_path, "--name", "janitor", "--grace", "0s", "--verbose"]))
        cls.source = cls.space / "program"
        cls.source.mkdir()
        for number in range(8):
            (cls.source / f"part{number}.c").write_text(
                f"#include <stdio.h>\nint part{number}(int x) {{ printf(\"%d\\n\", x); return x + {number}; }}\n")

    def compile(self):
        """Compiles all parts with an empty local cache: everything comes from nginx or goes to it."""
        local = self.space / "ccache"
        shutil.rmtree(local, ignore_errors=True)
        environment = {
            "CCACHE_DIR": str(local), "CCACHE_REMOTE_ONLY": "1", "CCACHE_NODISABLE": "1",
            "CCACHE_REMOTE_STORAGE": f"{self.nginx.url}|layout=flat"}
        for path in sorted(self.source.glob("*.c")):
            result = run("ccache", "gcc", "-O1", "-c", path, "-o", path.with_suffix(".o"), environment=environment)
            self.assertEqual(result.returncode, 0, result.stderr)
        stats = run("ccache", "--print-stats", environment=environment).stdout
        return sum(int(value) for name, value in re.findall(r"(\w+)\t(\d+)", stats)
                   if name in ("direct_cache_hit", "preprocessed_cache_hit"))

    def test_hits_renew_and_what_nobody_uses_is_deleted(self):
        watcher = self.subscriber("watcher")
        self.addCleanup(self.forget, "watcher")
        self.assertEqual(self.compile(), 0)
        files = {str(path.relative_to(self.nginx.blobs / "cache")): path.stat().st_size for path in self.nginx.files()}
        self.assertGreaterEqual(len(files), 8)
        wait_until(lambda: self.node.totals("ccache")["live"] == len(files), "the registration of all files")
        for key, size in files.items():
            self.assertEqual(self.node.entry("ccache", key)["size"], size, "an upload registers with its size")

        # Used again and again, well beyond the TTL: renewed, at most once a window, and still there.
        begun = last = time.monotonic()
        while time.monotonic() - begun < TTL_SECONDS + 2.5:
            last = time.monotonic()
            self.assertEqual(self.compile(), 8, "every part comes from the cache")
            wait_until(lambda: time.monotonic() > last + 1.3, "the next build")
        self.assertEqual({str(path.relative_to(self.nginx.blobs / "cache")) for path in self.nginx.files()}, set(files))
        self.assertFalse(watcher.events())
        metrics = self.node.sidecar_metrics()
        renewals = total(metrics, "leasehold_renewals_total")
        builds = (time.monotonic() - begun) / 1.3 + 1
        self.assertGreaterEqual(renewals, 8)
        self.assertLessEqual(renewals, builds * len(files))
        self.assertEqual(total(metrics, "leasehold_hook_unparsable_total", hook="syslog"), 0)

        # Nobody builds any more.
        wait_until(lambda: not self.nginx.files(), "the deletion of all files", TTL_SECONDS + WINDOW_SECONDS + 10)
        gone = time.monotonic()
        self.assertGreaterEqual(gone - last, TTL_SECONDS, "no file goes before its TTL")
        wait_until(lambda: watcher.receive(0.1) or len(watcher.events()) >= len(files), "the events", 10)
        events = {event["key"]: event for event in watcher.events()}
        self.assertEqual(set(events), set(files))
        for key, event in events.items():
            self.assertEqual((event["why"], event["cache"], event["size"]), ("expired", "ccache", files[key]))
        self.assertEqual(self.node.totals("ccache")["evicting"], len(files), "the watcher has acknowledged none")
        watcher.send(f"ack to {max(event['seq'] for event in events.values())}")
        watcher.expect("ok")
        self.assertEqual(self.node.entries("ccache"), {})
        self.assertIn("8" if len(files) == 8 else str(len(files)), self.janitor.text())

        # A file that comes back is a new life of the same key.
        self.assertEqual(self.compile(), 0)
        wait_until(lambda: self.node.totals("ccache")["live"] == len(files), "the registration of all files")

    def test_delete_through_nginx_evicts(self):
        result = run("curl", "--silent", "--fail", "--upload-file", __file__, f"{self.nginx.url}/by-hand")
        self.assertEqual(result.returncode, 0, result.stderr)
        wait_until(lambda: self.node.entry("ccache", "by-hand"), "the registration")
        self.assertEqual(self.node.entry("ccache", "by-hand")["size"], Path(__file__).stat().st_size)
        run("curl", "--silent", "--fail", "--request", "DELETE", f"{self.nginx.url}/by-hand").check_returncode()
        wait_until(lambda: (self.node.entry("ccache", "by-hand") or {}).get("state") != "live", "the eviction", 3)
        run("curl", "--silent", f"{self.nginx.url}/never-there")
        self.assertIsNone(self.node.entry("ccache", "never-there"), "a miss registers nothing")


class EventStream(SidecarTest):
    caches = ["c:ttl=1h,window=1m,jitter=0,register=on-hit", "short:ttl=2s,window=1s,jitter=0,register=on-hit"]

    def test_typed_by_hand(self):
        """`printf 'sub me' | nc -U` shows hello and events, and `ack` typed by hand works."""
        typist = Background(
            self.space, "nc", ["nc", "-U", self.node.events_path], stdin=subprocess.PIPE)
        self.addCleanup(typist.stop)
        self.addCleanup(self.forget, "me")

        def type(line):
            typist.process.stdin.write(f"{line}\n".encode())
            typist.process.stdin.flush()

        def lines(kind):
            return [line for line in map(json.loads, typist.text().splitlines()) if line["t"] == kind]

        type("sub me")
        wait_until(lambda: lines("hello"), "hello")
        self.assertEqual((lines("hello")[0]["v"], lines("hello")[0]["node"]), (1, "n0"))
        self.register("c", "typed/1", "typed/2", "typed/3")
        self.evict("c", "typed/1", "typed/2", "typed/3")
        wait_until(lambda: len(lines("evict")) == 3, "three events")
        first, second, third = lines("evict")
        self.assertEqual([first["key"], second["key"], third["key"]], ["typed/1", "typed/2", "typed/3"])
        self.assertEqual([event["why"] for event in lines("evict")], ["deleted"] * 3)
        self.assertEqual([first["seq"] + 1, first["seq"] + 2], [second["seq"], third["seq"]])
        type(f"ack {second['seq']}")
        wait_until(lambda: lines("ok"), "ok")
        self.assertIsNone(self.node.entry("c", "typed/2"))
        self.assertEqual(self.node.entry("c", "typed/1")["state"], "evicting")
        type(f"ack to {third['seq']}")
        wait_until(lambda: len(lines("ok")) == 2, "the second ok")
        self.assertEqual([self.node.entry("c", f"typed/{n}") for n in (1, 3)], [None, None])

    def test_a_pipe_that_ends_is_still_told(self):
        """The documented one-liner: its input ends at once, its subscription does not."""
        self.addCleanup(self.forget, "piped")
        reader = Background(
            self.space, "nc-piped", ["sh", "-c", f"printf 'sub piped\\n' | exec nc -U '{self.node.events_path}'"])
        self.addCleanup(reader.stop)
        wait_until(lambda: '"hello"' in reader.text(), "hello")
        self.register("short", "piped/1")
        wait_until(lambda: '"evict"' in reader.text(), "the event of an expiry", 10)
        event = json.loads(reader.text().splitlines()[-1])
        self.assertEqual((event["key"], event["why"], event["gen"], event["try"]), ("piped/1", "expired", 1, 1))
        self.assertGreaterEqual(event["idle"], 2)

    def test_curl_streams_the_same(self):
        self.addCleanup(self.forget, "curl", "lines")
        lines = self.subscriber("lines")
        base = ["curl", "--silent", "--no-buffer", "--unix-socket", self.node.events_path]
        stream = Background(self.space, "curl", [*base, "http://sidecar/v1/events?name=curl"])
        self.addCleanup(stream.stop)
        wait_until(lambda: '"hello"' in stream.text(), "hello")
        self.register("c", "curled/1", "curled/2")
        self.evict("c", "curled/1", "curled/2")
        wait_until(lambda: stream.text().count('"evict"') == 2, "both events")
        ours = [json.loads(line) for line in stream.text().splitlines() if '"evict"' in line]
        theirs = [lines.expect("evict"), lines.expect("evict")]
        self.assertEqual(ours, theirs)
        answer = run(*base, "--data-binary", f"ack to {ours[-1]['seq']}\nstat\nfrobnicate\n",
                     "http://sidecar/v1/ack?name=curl").stdout
        self.assertEqual([json.loads(line)["t"] for line in answer.splitlines()], ["ok", "ok", "err"])
        # A finite poll: what is there now, or 204 after the wait.
        again = run(*base, "--write-out", "%{http_code}", "http://sidecar/v1/events?name=curl&limit=10&wait=300ms").stdout
        self.assertTrue(again.endswith("204"), again)
        lines.send(f"ack to {ours[-1]['seq']}")
        lines.expect("ok")
        self.assertIsNone(self.node.entry("c", "curled/1"))

    def test_batches(self):
        self.addCleanup(self.forget, "batcher")
        keys = [f"batch/{number:03}" for number in range(100)]
        self.register("c", *keys)
        self.evict("c", *keys)
        lines = self.subscriber("batcher", batch=30)
        wait_until(lambda: lines.receive(0.1) or len(lines.events()) >= 100, "all events")
        messages = [line for line in lines.lines if line["t"] == "evict"]
        self.assertLessEqual(len(messages), 10)
        self.assertLessEqual(max(len(message["items"]) for message in messages), 30)
        own = [event for event in lines.events() if event["key"].startswith("batch/")]
        self.assertEqual([event["key"] for event in own], keys)
        lines.send({"op": "ack", "seqs": [event["seq"] for event in lines.events()]})
        lines.expect("ok")
        self.assertFalse([key for key in self.node.entries("c", state="evicting") if key.startswith("batch/")])

    def test_a_hit_after_the_eviction_cancels_it(self):
        self.addCleanup(self.forget, "slow")
        lines = self.subscriber("slow")
        self.register("c", "wanted")
        self.evict("c", "wanted")
        event = lines.expect("evict", key="wanted")
        self.assertEqual(self.node.call("POST", "/v1/caches/c/hit/wanted")[0], 204)
        cancel = lines.expect("cancel")
        self.assertEqual((cancel["of"], cancel["key"], cancel["gen"]), (event["seq"], "wanted", event["gen"] + 1))
        entry = self.node.entry("c", "wanted")
        self.assertEqual((entry["state"], entry["gen"]), ("live", event["gen"] + 1))
        lines.send(f"ack {event['seq']}")
        refusal = lines.expect("err")
        self.assertEqual(refusal["code"], "stale")
        self.assertEqual(self.node.entry("c", "wanted")["state"], "live", "a late acknowledgement kills no newer life")
        # Somebody else has deleted the blob already: now it cannot be stopped.
        other = self.subscriber("other")
        self.addCleanup(self.forget, "other")
        self.evict("c", "wanted")
        seq = other.expect("evict", key="wanted", gen=2)["seq"]
        other.send(f"ack {seq}")
        other.expect("ok")
        self.assertEqual(self.node.call("POST", "/v1/caches/c/hit/wanted")[0], 410)
        lines.send(f"ack to {seq}")
        lines.expect("ok")
        self.assertIsNone(self.node.entry("c", "wanted"))
        self.assertEqual(self.node.call("POST", "/v1/caches/c/hit/wanted")[0], 201)

    def test_nak_keep_and_redelivery(self):
        self.addCleanup(self.forget, "busy")
        lines = self.subscriber("busy", ackwait="1s")
        self.register("c", "busy/1", "busy/2")
        self.evict("c", "busy/1", "busy/2")
        first, second = lines.expect("evict"), lines.expect("evict")
        lines.send(f"nak {first['seq']} 200ms")
        lines.expect("ok")
        self.assertEqual(lines.expect("evict", seq=first["seq"])["try"], 2)
        self.assertEqual(lines.expect("evict", seq=second["seq"])["try"], 2, "nobody answered within ackwait")
        lines.send(f"keep {second['seq']}")
        lines.expect("ok")
        self.assertEqual(self.node.entry("c", "busy/2")["gen"], 2)
        lines.stop()
        again = self.subscriber("busy")
        self.assertGreaterEqual(again.expect("evict", seq=first["seq"])["try"], 1)
        newer = self.subscriber("busy")
        self.assertEqual(again.expect("err")["code"], "fenced")
        newer.send(f"ack {newer.expect('evict', seq=first['seq'])['seq']}")
        newer.expect("ok")

    def test_who_does_not_read_costs_no_memory_and_loses_nothing(self):
        self.addCleanup(self.forget, "sleeper")
        sleeper = self.node.subscribe("sleeper", inflight=65536)
        self.addCleanup(sleeper.stop)
        sleeper.expect("hello")
        sleeper.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        keys = [f"sleep/{number:05}/{'x' * 300}" for number in range(20_000)]
        with contextlib.closing(self.node.api(60)) as api:
            for start in range(0, len(keys), 2_000):
                body = "".join(json.dumps({"key": key, "ttl": "1s"}) + "\n" for key in keys[start:start + 2_000])
                self.assertEqual(api.call("POST", "/v1/caches/short/hits", body)[1]["registered"], 2_000)
        registered = self.resident_bytes()
        wait_until(lambda: self.node.totals("short")["evicting"] >= 20_000, "20,000 evictions", 60, 0.2)
        stalled = self.resident_bytes()
        # 20,000 events of 450 bytes are 9 MB; waiting for the reader they would be all in memory.
        unread = time.monotonic()
        seen = set()
        while len(seen) < len(keys) and time.monotonic() < unread + 60:
            sleeper.receive(1.0)
            events = sleeper.events()
            sleeper.lines.clear()
            seen |= {event["key"] for event in events}
            if events:
                sleeper.send({"op": "ack", "seqs": [event["seq"] for event in events]})
        self.assertEqual(len(seen & set(keys)), len(keys), "nothing is lost")
        wait_until(lambda: not [key for key in self.node.entries("short", state="evicting")], "the acknowledgements", 30)
        print(f"  a stalled reader: {registered >> 20} MiB resident before, {stalled >> 20} MiB with 20,000 evictions owed")
        self.assertLess(stalled - registered, 150 << 20)

    def resident_bytes(self):
        status = Path(f"/proc/{self.node.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1_024


class LogTail(SidecarTest):
    caches = ["tailed:ttl=1h,window=1m,jitter=0,register=on-hit"]

    @classmethod
    def flags(cls, space):
        (space / "access.log").write_text("")
        return ["--sidecar-tail", f"tailed={space}/access.log", "--sidecar-strip", "/cache/"]

    def line(self, key):
        return f"GET 200 - /cache/{key}\n"

    def live(self):
        return {key for key, entry in self.node.entries("tailed").items() if entry["state"] == "live"}

    def test_through_rotation_copytruncate_and_restart(self):
        log = self.space / "access.log"
        expected = set()

        def append(file, *keys):
            expected.update(keys)
            file.write("".join(self.line(key) for key in keys))
            file.flush()

        def arrived():
            wait_until(lambda: expected <= self.live(), f"the arrival of {sorted(expected - self.live())[:5]}", 10)

        # Without a saved position a log that exists is followed from where its end was when the node became ready.
        with open(log, "a") as file:
            append(file, "plain/1", "plain/2")
            file.write("GET 404 - /cache/miss\nPOST 200 - /cache/post\nGET 200 - /elsewhere/x\nnonsense\n")
            file.write("GET 200 - /cache/half")
            file.flush()
            arrived()
            file.write("-line\n")
            expected.add("half-line")
            file.flush()
            arrived()
            # Renamed under the writer, who goes on for a moment, as nginx does until it reopens.
            log.rename(self.space / "access.log.1")
            append(file, "late/1")
            with open(log, "a") as fresh:
                append(fresh, "rotated/1")
                append(file, "late/2")
                arrived()
        # copytruncate: noticed because the file is shorter than what has been read of it.
        with open(log, "a") as file:
            file.write("GET 404 - /cache/miss\n" * 100)
            append(file, "filler")
            arrived()
        shutil.copy(log, self.space / "access.log.2")
        with open(log, "r+") as file:
            file.truncate(0)
        with open(log, "a") as file:
            append(file, "truncated/1")
            arrived()
            # While nobody listens, lines come and the log is rotated: after the restart none is missed.
            self.node.kill()
            append(file, "unheard/1")
            log.rename(self.space / "access.log.3")
            with open(log, "a") as fresh:
                append(fresh, "unheard/2")
        self.node.start()
        arrived()
        self.assertEqual(self.live(), expected, "misses, other methods and other paths mean nothing")


class Commands(SidecarTest):
    """What an operator types."""

    caches = ["c:ttl=1h,window=1m,jitter=0,register=explicit"]

    def type(self, *arguments, code=0):
        result = run(leasehold(), arguments[0], "--api", f"unix:{self.node.api_path}", *arguments[1:])
        self.assertEqual(result.returncode, code, result.stderr)
        return result.stdout if code == 0 else result.stderr

    def test_hit_show_ls_evict(self):
        self.assertIn("404", self.type("hit", "--cache", "c", "a key/with spaces", code=1))
        self.assertEqual(self.node.call("PUT", "/v1/caches/c/entries/a%20key/with%20spaces", {"size": 7, "ttl": "2h",
                         "labels": {"job": "x"}, "refs": ["other"]})[0], 201)
        self.assertEqual(self.type("hit", "--cache", "c", "a key/with spaces"), "live\n")
        shown = json.loads(self.type("show", "--cache", "c", "a key/with spaces"))
        self.assertEqual((shown["key"], shown["size"], shown["ttl"], shown["labels"], shown["refs"]),
                         ("a key/with spaces", 7, "2h", {"job": "x"}, ["other"]))
        self.assertGreater(shown["remaining"], 7_199)
        for number in range(25):
            self.node.call("PUT", f"/v1/caches/c/entries/many/{number:02}", {})
        self.assertEqual(len(self.type("ls", "--cache", "c", "--prefix", "many/").splitlines()), 25)
        self.assertEqual(len(self.type("ls", "--cache", "c", "--prefix", "many/", "--limit", "3").splitlines()), 3)
        self.assertEqual(self.type("evict", "--cache", "c", "many/00"), "evicting\n")
        self.assertIn("many/00", self.type("ls", "--cache", "c", "--state", "evicting"))
        self.assertNotIn("many/00", self.type("ls", "--cache", "c", "--state", "live"))

    def test_a_dry_run_of_the_janitor_deletes_nothing(self):
        root = self.space / "dry"
        root.mkdir()
        (root / "blob").write_text("bytes")
        os.utime(root / "blob", (time.time() - 60,) * 2)
        self.node.call("PUT", "/v1/caches/c/entries/blob", {"size": 5})
        janitor = [leasehold(), "janitor", "--cache", "c", "--root", root, "--events", self.node.events_path]
        self.evict("c", "blob")
        dry = run(*janitor, "--dry-run", "--verbose", timeout=30)
        self.assertEqual(dry.returncode, 0, dry.stderr)
        self.assertIn("blob", dry.stdout)
        self.assertTrue((root / "blob").exists())
        self.assertEqual(self.node.entry("c", "blob")["state"], "evicting")


if __name__ == "__main__":
    unittest.main()
