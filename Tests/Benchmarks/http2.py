"""A cheap gRPC client in cleartext: prepared bodies, many calls under way on each connection, answers hardly looked at.

h2load sends one body again and again; what must differ from call to call (a million leases, each with a key of its own)
is sent from here, in batches, so that the server and not this script is the limit."""

import selectors
import socket
import struct
import time
from collections import deque

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
MAX_FRAME = 16_384
LARGEST_WINDOW = (1 << 31) - 1
# Answer bytes after which the server is given its window back.
REFILL_BYTES = 1 << 28


class Refused(Exception):
    pass


def grpc_frame(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


def http2_frame(kind, flags, stream, payload=b""):
    return struct.pack(">IBBI", len(payload) << 8 | kind, flags, 0, 0)[:5] + struct.pack(">I", stream) + payload


def request_headers(method, authority):
    """Without compression: literals that name static entries."""
    def literal(prefix, value):
        return prefix + bytes([len(value)]) + value

    return (b"\x83\x86" + literal(b"\x04", method.encode()) + literal(b"\x01", authority.encode())
            + literal(b"\x0f\x10", b"application/grpc") + literal(literal(b"\x00", b"te"), b"trailers"))


class Call:
    __slots__ = ("tag", "body", "sent", "window", "answer", "began", "stream")

    def __init__(self, tag, body, window, stream):
        self.tag, self.body, self.window, self.stream = tag, body, window, stream
        self.sent = 0
        self.answer = []
        self.began = time.monotonic()


class Connection:
    """`may_refuse`: a refused call ends with an empty answer; otherwise it ends the run."""

    def __init__(self, port, method, may_refuse=False):
        self.method = method
        self.may_refuse = may_refuse
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers = request_headers(method, f"127.0.0.1:{port}")
        self.stream = 1
        self.window = 65_535
        self.stream_window = 65_535
        self.calls = {}
        # Calls whose bodies wait for a window, in order.
        self.sending = deque()
        self.rest = b""
        self.received = 0
        settings = struct.pack(">HIHI", 1, 0, INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
        self.out = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", http2_frame(SETTINGS, 0, 0, settings),
                    http2_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - 65_535))]
        self.flush()

    def start(self, tag, body):
        """`body`: gRPC frames, all messages that the client sends in this call."""
        call = Call(tag, body, self.stream_window, self.stream)
        self.calls[self.stream] = call
        self.out.append(http2_frame(HEADERS, END_HEADERS, self.stream, self.headers))
        self.stream += 2
        self.sending.append(call)
        self.pump()

    def pump(self):
        while self.sending:
            call = self.sending[0]
            while call.sent < len(call.body):
                size = min(MAX_FRAME, len(call.body) - call.sent, self.window, call.window)
                if size <= 0:
                    return
                last = call.sent + size == len(call.body)
                self.out.append(http2_frame(DATA, END_STREAM if last else 0, call.stream,
                                            call.body[call.sent:call.sent + size]))
                call.sent += size
                call.window -= size
                self.window -= size
            self.sending.popleft()

    def flush(self):
        if self.out:
            data = b"".join(self.out)
            self.out.clear()
            self.socket.sendall(data)

    def receive(self):
        """Reads what has come; the calls that have ended, each with its answer's bytes."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise Refused(f"{self.method}: the server closed a connection of the load")
        self.received += len(data)
        if self.rest:
            data = self.rest + data
        ended = []
        position, end = 0, len(data)
        while end - position >= 9:
            length = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            after = position + 9 + length
            if after > end:
                break
            self.take(data[position + 3], data[position + 4],
                      int.from_bytes(data[position + 5:position + 9], "big") & LARGEST_WINDOW,
                      data[position + 9:after], ended)
            position = after
        self.rest = data[position:]
        if self.received >= REFILL_BYTES:
            self.out.append(http2_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.received)))
            self.received = 0
        self.pump()
        self.flush()
        return ended

    def take(self, kind, flags, stream, payload, ended):
        if kind == DATA:
            self.calls[stream].answer.append(payload)
        elif kind == HEADERS and flags & END_STREAM:
            call = self.calls.pop(stream)
            if not call.answer and not self.may_refuse:
                # Most servers spell a short refusal out, or compress it beyond reading.
                raise Refused(f"{self.method} is refused: {payload!r}")
            ended.append(call)
        elif kind == RESET or kind == GOAWAY:
            raise Refused(f"{self.method}: the server gave up a {'call' if kind == RESET else 'connection'}: {payload!r}")
        elif kind == SETTINGS and not flags & ACK:
            for place in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, place)
                if name == INITIAL_WINDOW_SIZE:
                    for call in self.calls.values():
                        call.window += value - self.stream_window
                    self.stream_window = value
            self.out.append(http2_frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.out.append(http2_frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big") & LARGEST_WINDOW
            if stream == 0:
                self.window += increment
            elif stream in self.calls:
                self.calls[stream].window += increment

    def close(self):
        self.socket.close()


class Done:
    """`count`: calls that were answered; `latencies`: of each of them, in seconds."""

    def __init__(self):
        self.count = 0
        self.seconds = 0.0
        self.latencies = []


def drive(port, method, bodies, connections, depth, seconds=None, on_answer=None):
    """Makes one call for each of `bodies` ((tag, bytes) pairs, endless ones with `seconds`), `depth` of them on their
    way on each connection. `on_answer(tag, bytes)` sees each answer's gRPC frames."""
    selector = selectors.DefaultSelector()
    opened = [Connection(port, method) for _ in range(connections)]
    done = Done()
    source = iter(bodies)
    begin = time.monotonic()
    exhausted = False

    def refill(connection):
        nonlocal exhausted
        while not exhausted and len(connection.calls) < depth:
            if seconds is not None and time.monotonic() - begin >= seconds:
                exhausted = True
                return
            try:
                tag, body = next(source)
            except StopIteration:
                exhausted = True
                return
            connection.start(tag, body)
            # At once: the server works while the next body is made.
            connection.flush()

    try:
        for connection in opened:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            refill(connection)
        while any(connection.calls for connection in opened):
            ready = selector.select(timeout=300)
            if not ready:
                raise Refused(f"{method}: no answer for five minutes")
            for key, _ in ready:
                for call in key.data.receive():
                    done.count += 1
                    done.latencies.append(time.monotonic() - call.began)
                    if on_answer:
                        on_answer(call.tag, b"".join(call.answer))
                refill(key.data)
        done.seconds = time.monotonic() - begin
        return done
    finally:
        for connection in opened:
            connection.close()
        selector.close()


def call_once(port, method, body):
    """One call; its answer's first message."""
    answers = []
    drive(port, method, [(0, grpc_frame(body))], 1, 1, on_answer=lambda _, data: answers.append(data))
    return answers[0][5:]
