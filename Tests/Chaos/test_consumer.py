"""The consumer writes down what it was told and answered, item by item, and reads its socket's place anew."""

import json
import socket
import unittest

import shared
from cache_load import Consumer
from harness import Workspace, wait_until


class Consuming(unittest.TestCase):
    def setUp(self):
        self.space = Workspace()
        self.addCleanup(self.space.close)
        self.address = self.space / "sidecar"
        self.consumer = Consumer(self.space, "c", self.address)
        self.addCleanup(self.consumer.kill)

    def listen(self, name):
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(str(self.space / name))
        server.listen()
        server.settimeout(20)
        self.address.write_text(str(self.space / name))
        return server

    def accept(self, server):
        connection = server.accept()[0]
        self.addCleanup(connection.close)
        lines = connection.makefile("r")
        self.assertEqual(json.loads(lines.readline())["op"], "sub")
        return connection, lines

    def say(self, connection, **message):
        connection.sendall(json.dumps(message).encode() + b"\n")

    def heard(self, *kinds):
        return [(line["kind"], line.get("seq")) for line in self.consumer.lines() if line["kind"] in kinds]

    def test_an_answer_counts_for_each_item(self):
        connection, lines = self.accept((self.listen("one"), self.consumer.start())[0])
        self.say(connection, t="hello", epoch="e", head=3, acked=0)
        items = [{"seq": seq, "key": f"k{seq}", "gen": 1, "why": "expired", "try": 1} for seq in (1, 2)]
        connection.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in (
            {"t": "evict", "items": items}, {"t": "cancel", "seq": 3, "of": 1, "key": "k1", "gen": 2})))
        asked = []
        while len(asked) < 3:
            now = json.loads(lines.readline())["seqs"]
            asked += now
            if 1 in now:
                self.say(connection, t="err", code="stale", msg="lives again", seq=1, gen=2)
            else:
                self.say(connection, t="ok", op="ack", acked=3)
        self.assertEqual(asked, [1, 2, 3])
        wait_until(lambda: len(self.heard("ok", "stale")) == 3, "the notes")
        self.assertEqual(self.heard("evict", "cancel"), [("evict", 1), ("evict", 2), ("cancel", 3)])
        self.assertEqual(self.heard("ok", "stale"), [("stale", 1), ("ok", 2), ("ok", 3)])

    def test_it_follows_the_socket(self):
        self.accept((self.listen("one"), self.consumer.start())[0])[0].close()
        other = self.listen("two")
        connection, _ = self.accept(other)
        self.say(connection, t="hello", epoch="e", head=7, acked=7)
        wait_until(lambda: ("hello", None) in self.heard("hello"), "the hello")


if __name__ == "__main__":
    unittest.main()
