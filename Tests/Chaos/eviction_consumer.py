"""A subscriber of the eviction stream, in a process of its own so that it can be killed in the middle.

    eviction_consumer.py NAME ADDRESS JOURNAL [--nak SHARE] [--leave SECONDS]

ADDRESS is a file that holds the path of the event socket; it is read at each connection, for the sidecar moves. What is
received and what is answered goes to JOURNAL, one JSON object a line with the moment on the machine's monotonic clock:
{"at", "kind": "hello" | "evict" | "cancel" | "ack" (about to be sent) | "ok" | "stale" | "nak" | "closed", "seq", …}.
A line is handed to the kernel before the next step, so a kill loses none. What is at hand is acknowledged together, in
sets of random size, and the next set only after the answer, so that it is clear which answer belongs to which items.
"""

import argparse
import collections
import json
import os
import random
import select
import socket
import sys
import time

RECONNECT_SECONDS = 0.1
# Beyond the heartbeat of 15 s: who hears nothing for so long asks anew.
SILENCE_SECONDS = 20.0
ANSWER_SECONDS = 8.0
NAK_WAIT = "300ms"
ACK_WAIT = "10s"
INFLIGHT = 256
MOST_AT_ONCE = 64


class Ended(Exception):
    """The connection has ended."""


class Consumer:
    def __init__(self, name, address, journal, nak, leave):
        self.name, self.address, self.nak, self.leave = name, address, nak, leave
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.random = random.Random()
        self.done = set()       # answered for good; what came twice before that is in the queue twice

    def note(self, kind, **fields):
        os.write(self.journal, json.dumps({"at": time.monotonic(), "kind": kind, **fields}).encode() + b"\n")

    def run(self):
        while True:
            try:
                self.follow()
            except (Ended, OSError):
                self.note("closed")
            time.sleep(RECONNECT_SECONDS)

    def follow(self):
        with open(self.address) as file:
            path = file.read()
        self.socket = socket.socket(socket.AF_UNIX)
        with self.socket:
            self.socket.connect(path)
            self.buffer, self.items = b"", collections.deque()
            self.send({"op": "sub", "name": self.name, "inflight": INFLIGHT, "ackwait": ACK_WAIT})
            # Now and then it goes away by itself, whatever is under way.
            until = time.monotonic() + (self.random.expovariate(1 / self.leave) if self.leave else float("inf"))
            while time.monotonic() < until:
                if not self.items:
                    self.receive(SILENCE_SECONDS)
                while self.items:
                    self.answer(self.choose())
            self.note("closed")

    def send(self, operation):
        self.socket.sendall(json.dumps(operation).encode() + b"\n")

    def receive(self, seconds):
        """Takes in what comes; the answer to an operation if one is among it."""
        if not select.select([self.socket], [], [], seconds)[0]:
            raise Ended
        data = self.socket.recv(1 << 16)
        if not data:
            raise Ended
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        answer = None
        for line in lines:
            answer = self.take(json.loads(line)) or answer if line else answer
        return answer

    def take(self, message):
        kind = message["t"]
        if kind == "evict":
            for item in message.get("items", [message]):
                self.note(
                    "evict", seq=item["seq"], key=item["key"], gen=item["gen"], why=item["why"], tried=item["try"])
                self.items.append(item["seq"])
        elif kind == "cancel":
            self.note("cancel", seq=message["seq"], of=message["of"], key=message["key"], gen=message["gen"])
            self.items.append(message["seq"])
        elif kind == "hello":
            self.note("hello", epoch=message["epoch"], head=message["head"], acked=message["acked"])
        elif kind == "hb":
            self.note("hb", head=message["head"], acked=message["acked"])
        elif kind == "gap":
            self.note("gap", first=message["first"])
        elif kind in ("ok", "err"):
            return message
        return None

    def choose(self):
        """The next ones to be answered together, each once."""
        chosen = []
        count = self.random.randint(1, MOST_AT_ONCE)
        while self.items and len(chosen) < count:
            sequence = self.items.popleft()
            if sequence not in self.done and sequence not in chosen:
                chosen.append(sequence)
        return chosen

    def answer(self, sequences):
        if not sequences:
            return
        if self.random.random() < self.nak:
            self.items.extendleft(reversed(sequences[1:]))
            sequences = sequences[:1]
            self.note("nak", seq=sequences[0])
            self.send({"op": "nak", "seq": sequences[0], "after": NAK_WAIT, "why": "EBUSY"})
        else:
            for sequence in sequences:
                self.note("ack", seq=sequence)
            self.send({"op": "ack", "seqs": sequences})
        end = time.monotonic() + ANSWER_SECONDS
        answer = None
        while answer is None:
            answer = self.receive(end - time.monotonic()) if time.monotonic() < end else self.give_up()
        if answer["t"] == "ok":
            self.settle(sequences if answer["op"] == "ack" else [], ())
        elif answer["code"] == "stale" and ("seq" in answer or "items" in answer):
            # Those live again; the rest is acknowledged.
            self.settle(sequences, {item["seq"] for item in answer.get("items", [answer])})
        else:
            self.note("refused", seq=sequences[0], code=answer["code"], msg=answer["msg"])
            if answer["code"] == "fenced":
                raise Ended

    def settle(self, sequences, stale):
        for sequence in sequences:
            self.note("stale" if sequence in stale else "ok", seq=sequence)
            self.done.add(sequence)

    def give_up(self):
        raise Ended


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("address")
    parser.add_argument("journal")
    parser.add_argument("--nak", type=float, default=0.0)
    parser.add_argument("--leave", type=float, default=0.0)
    given = parser.parse_args()
    Consumer(given.name, given.address, given.journal, given.nak, given.leave).run()


if __name__ == "__main__":
    sys.exit(main())
