"""A range far larger than any buffer: it goes out as it is taken, in bounded memory, and holds nobody else up."""

import os
import re
import socket
import struct
import time
import unittest

from harness import Node, Workspace

KEYS = 400
VALUE_BYTES = 512 * 1024  # 200 MiB in all
READERS = 4
# For the readers together; each answer alone is 200 MiB. What a socket's buffers hold is the kernel's and not counted.
MAX_GROWTH_BYTES = 64 << 20
# A request beside the large answers. Far above what it takes, far below what 200 MiB take.
MAX_REQUEST_SECONDS = 2.0
SOAK = "SOAK" in os.environ

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
ENHANCE_YOUR_CALM = 11
MAX_WINDOW = (1 << 31) - 1
FRAME_BYTES = 16 * 1024


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


class HTTP2:
    """As much of HTTP/2 as it takes to make gRPC calls and to read their answers at one's own pace."""

    def __init__(self, port, window=MAX_WINDOW, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", port))
        self.unread = b""
        self.send_window = 65_535
        self.next_stream = 1
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                            + self.frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))
        if window > 65_535:
            self.socket.sendall(self.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", window - 65_535)))

    def stop(self):
        self.socket.close()

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def request(self, method, message):
        """Sends a unary call and returns its stream."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        path = b"/etcdserverpb.KV/" + method
        fields = (b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x01\x01x" + b"\x0f\x10\x10application/grpc"
                  + b"\x00\x02te\x08trailers")
        body = b"\0" + struct.pack(">I", len(message)) + message
        while self.send_window < len(body):
            self.next_frame()
        self.send_window -= len(body)
        frames = [self.frame(HEADERS, END_HEADERS, stream, fields)]
        for start in range(0, len(body), FRAME_BYTES):
            part = body[start:start + FRAME_BYTES]
            frames.append(self.frame(DATA, END_STREAM if start + FRAME_BYTES >= len(body) else 0, stream, part))
        self.socket.sendall(b"".join(frames))
        return stream

    def read(self, count):
        parts = [self.unread]
        have = len(self.unread)
        while have < count:
            part = self.socket.recv(256 * 1024)
            if not part:
                raise AssertionError("the server has closed the connection")
            parts.append(part)
            have += len(part)
        everything = b"".join(parts)
        self.unread = everything[count:]
        return everything[:count]

    def next_frame(self):
        head = self.read(9)
        kind, flags = head[3], head[4]
        payload = self.read(int.from_bytes(head[:3], "big"))
        if kind == WINDOW_UPDATE and head[5:] == b"\0\0\0\0":
            self.send_window += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            self.socket.sendall(self.frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(self.frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise AssertionError(f"GOAWAY {payload!r}")
        return kind, flags, payload

    def chunks(self):
        """The body of the one answer that is under way."""
        while True:
            kind, flags, payload = self.next_frame()
            if kind == RST_STREAM:
                raise AssertionError(f"the stream was reset: {int.from_bytes(payload, 'big')}")
            if kind == DATA:
                yield payload
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                return

    def call(self, method, message):
        self.request(method, message)
        return b"".join(self.chunks())[5:]


def resident_bytes(node):
    """Without what it maps of its files, which the kernel may take back at any time."""
    with open(f"/proc/{node.process.pid}/status") as status:
        return int(re.search(r"RssAnon:\s+(\d+) kB", status.read())[1]) * 1_024


def key(number):
    return b"large/%06d" % number


def value(number):
    return bytes([number % 251]) * VALUE_BYTES


EVERYTHING = field(1, b"large/") + field(2, b"large0")


class LargeRange(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = Workspace()
        cls.addClassCleanup(cls.space.close)
        cls.node = cls.space.own(Node(cls.space, None, tls=False).start())
        writer = cls.connect()
        for number in range(KEYS):
            writer.call(b"Put", field(1, key(number)) + field(2, value(number)))
        writer.call(b"Put", field(1, b"small") + field(2, b"value"))

    @classmethod
    def connect(cls, **options):
        return cls.space.own(HTTP2(cls.node.port, **options))

    def check(self, chunks):
        """That these bytes are the whole answer, in order. Takes it as it comes: it is not held here either."""
        unread = bytearray()
        length = None
        records = 0
        for chunk in chunks:
            unread += chunk
            if length is None and len(unread) >= 5:
                length = int.from_bytes(unread[1:5], "big")
                del unread[:5]
            while length is not None and len(unread) > VALUE_BYTES + 1_000:
                records += self.take_field(unread, records)
            yield
        while unread[:1] in (b"\x0a", b"\x12"):
            records += self.take_field(unread, records)
        self.assertEqual(records, KEYS)
        self.assertEqual(unread, field(4, KEYS), "the number of keys, and nothing behind it")
        self.assertGreater(length, KEYS * VALUE_BYTES)

    def take_field(self, unread, number):
        """Takes one field off: the header (0), or the record `number` (1)."""
        is_record = unread[0] == 0x12
        length, place, shift = 0, 1, 0
        while True:
            byte = unread[place]
            length |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                break
        if is_record:
            body = unread[place:place + length]
            self.assertTrue(body.startswith(field(1, key(number))))
            self.assertTrue(value(number) in body, f"the value of record {number}")
        del unread[:place + length]
        return int(is_record)

    def test_slow_readers(self):
        """They take a little, then nothing, while others are served; then everything, slowly."""
        other = self.connect()
        other.call(b"Range", field(1, b"small"))
        before = resident_bytes(self.node)
        peak = before
        readers = [self.connect(receive_buffer=64 * 1024) for _ in range(READERS)]
        checks = []
        for reader in readers:
            reader.request(b"Range", EVERYTHING)
            checks.append(self.check(reader.chunks()))
        for check in checks:
            next(check)
        for number in range(200):
            start = time.monotonic()
            other.call(b"Put", field(1, b"small") + field(2, b"%d" % number))
            self.assertIn(b"%d" % number, other.call(b"Range", field(1, b"small")))
            self.assertLess(time.monotonic() - start, MAX_REQUEST_SECONDS)
            peak = max(peak, resident_bytes(self.node))
        turn = 0
        while checks:
            for check in list(checks):
                if next(check, self) is self:
                    checks.remove(check)
            turn += 1
            if turn % 500 == 0:
                peak = max(peak, resident_bytes(self.node))
        self.assertLess(peak - before, MAX_GROWTH_BYTES, f"{peak - before:,} bytes more than before")

    def test_sorted_and_counted(self):
        """What must be looked at as a whole holds nobody up either, nor is it copied."""
        before = resident_bytes(self.node)
        reader = self.connect(receive_buffer=64 * 1024)
        reader.request(b"Range", EVERYTHING + field(5, 2) + field(6, 3))
        chunks = reader.chunks()
        first = next(chunks)
        other = self.connect()
        self.assertEqual(other.call(b"Range", EVERYTHING + field(9, 1))[-3:], field(4, KEYS))
        total = len(first)
        for number, chunk in enumerate(chunks):
            total += len(chunk)
            if number % 500 == 0:
                self.assertLess(resident_bytes(self.node) - before, MAX_GROWTH_BYTES)
        self.assertGreater(total, KEYS * VALUE_BYTES)

    @unittest.skipUnless(SOAK, "takes more than a minute")
    def test_reader_that_stops(self):
        """Sixty seconds after it has taken the last byte the stream is reset, and the connection lives on."""
        reader = self.connect(window=30_000)
        reader.socket.settimeout(90)
        reader.request(b"Range", EVERYTHING)
        taken, last = 0, time.monotonic()
        while True:
            kind, _, payload = reader.next_frame()
            if kind == DATA:
                taken, last = taken + len(payload), time.monotonic()
            if kind == RST_STREAM:
                break
        self.assertEqual(int.from_bytes(payload, "big"), ENHANCE_YOUR_CALM)
        self.assertEqual(taken, 30_000)
        self.assertGreater(time.monotonic() - last, 59)


if __name__ == "__main__":
    unittest.main()
