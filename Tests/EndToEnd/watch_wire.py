"""Watch streams by hand: HTTP/2 frames on plain sockets, so that a test decides when a byte is read and which window
is granted, and so that a thousand watchers cost the client next to nothing.

Plain text connections only. Messages are built and taken apart field by field; Sources/EtcdAPI/Protos has the numbers.
"""

import resource
import selectors
import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
LARGEST_WINDOW = 0x7FFF_FFFF
# After this much has been read a window is opened again.
REFILL_BYTES = 1 << 28


def raise_file_limit():
    """A connection each for a thousand watchers, at both ends: children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# ---- Protobuf --------------------------------------------------------------------------------------------------------

def varint(value):
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """[(number, value)]: integers unsigned, everything else bytes."""
    found, place, end = [], 0, len(message)

    def number():
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while place < end:
        tag = number()
        if tag & 7 == 0:
            found.append((tag >> 3, number()))
        else:
            size = number()
            found.append((tag >> 3, bytes(message[place:place + size])))
            place += size
    return found


def signed(value):
    return value - (1 << 64) if value >> 63 else value


class Response:
    """A WatchResponse."""

    def __init__(self, message):
        self.watch_id = self.revision = self.compact_revision = 0
        self.created = self.canceled = self.fragment = False
        self.reason = ""
        self.events = []
        for number, value in fields(message):
            if number == 1:
                self.revision = signed(dict(fields(value)).get(3, 0))
            elif number == 2:
                self.watch_id = signed(value)
            elif number == 3:
                self.created = bool(value)
            elif number == 4:
                self.canceled = bool(value)
            elif number == 5:
                self.compact_revision = signed(value)
            elif number == 6:
                self.reason = value.decode()
            elif number == 7:
                self.fragment = bool(value)
            elif number == 11:
                self.events.append(Event(value))

    @property
    def is_progress(self):
        return not (self.events or self.created or self.canceled)

    def __repr__(self):
        return f"Response({vars(self)})"


class Event:
    def __init__(self, message):
        parts = dict(fields(message))
        record = dict(fields(parts[2]))
        self.is_delete = parts.get(1, 0) == 1
        self.key, self.value = record.get(1, b""), record.get(5, b"")
        self.revision = record.get(3, 0)
        self.previous = dict(fields(parts[3])).get(5, b"") if 3 in parts else None
        # Our own: 1 deleted, 2 expired, 3 revoked.
        self.cause = parts.get(1000, 0)

    def __repr__(self):
        return f"{'-' if self.is_delete else ''}{self.key.decode(errors='replace')}@{self.revision}"


def create(key, range_end=b"", watch_id=0, start=0, progress=False, filters=(), prev_kv=False, fragment=False):
    request = field(1, key)
    if range_end:
        request += field(2, range_end)
    for number, value in ((3, start), (4, int(progress)), (6, int(prev_kv)), (7, watch_id), (8, int(fragment))):
        if value:
            request += field(number, value)
    for kind in filters:
        request += field(5, kind)
    return field(1, request)


def cancel(watch_id):
    return field(2, field(1, watch_id) if watch_id else b"")


PROGRESS = field(3, b"")


def put(key, value=b"", lease=0):
    return field(1, key) + field(2, value) + (field(3, lease) if lease else b"")


# ---- HTTP/2 ----------------------------------------------------------------------------------------------------------

def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def request_head(stream, path, metadata):
    block = b"\x83\x86" + literal(b":path", path.encode()) + literal(b":authority", b"leasehold")
    block += literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers")
    for name, value in metadata.items():
        block += literal(name.encode(), value.encode())
    return frame(HEADERS, 0x4, stream, block)


class Stream:
    """One call. `payload` is what has come and nobody has taken."""

    def __init__(self, connection, number):
        self.connection, self.number = connection, number
        self.payload = bytearray()
        self.is_ended = False
        self.received = 0
        self.sent = 0
        self.granted = 0

    def send(self, message, ends=False):
        """In frames of 16 KiB, as the server's windows let through: a large message may have to wait for a read."""
        rest = b"\0" + len(message).to_bytes(4, "big") + message
        connection = self.connection
        while rest:
            room = min(connection.stream_window + self.granted - self.sent,
                       connection.granted - connection.sent, 16_384)
            if room <= 0:
                connection.receive()
                continue
            part, rest = rest[:room], rest[room:]
            connection.write(frame(DATA, int(ends and not rest), self.number, part))
            self.sent += len(part)
            connection.sent += len(part)

    def messages(self):
        """The whole messages that have come; a torn one stays."""
        found, place, payload = [], 0, self.payload
        while len(payload) - place >= 5:
            end = place + 5 + int.from_bytes(payload[place + 1:place + 5], "big")
            if end > len(payload):
                break
            found.append(bytes(payload[place + 5:end]))
            place = end
        del payload[:place]
        return found

    def open_window(self, size):
        self.connection.write(frame(WINDOW_UPDATE, 0, self.number, struct.pack(">I", size)))


class Connection:
    """A socket that is read when `receive` is called, and not before. `window`: what each stream may send at first."""

    def __init__(self, port, window=LARGEST_WINDOW):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.streams = {}
        self.window = window
        self.is_closed = False
        self._next = 1
        self._unread = b""
        self._since_refill = 0
        # What the server takes: each stream at first, and the connection in all.
        self.stream_window = self.granted = 65_535
        self.sent = 0
        self.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
                   + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - 65_535)))

    def write(self, data):
        self.socket.sendall(data)

    def open(self, path="/etcdserverpb.Watch/Watch", **metadata):
        stream = Stream(self, self._next)
        self._next += 2
        self.streams[stream.number] = stream
        self.write(request_head(stream.number, path, {k.replace("_", "-"): v for k, v in metadata.items()}))
        return stream

    def receive(self, on_data=None):
        """One read. `on_data(stream, bytes)` takes the payloads; without it they gather in the streams."""
        data = self.socket.recv(1 << 20)
        if not data:
            self.is_closed = True
            return
        data = self._unread + data
        place, end = 0, len(data)
        while end - place >= 9:
            size = data[place] << 16 | data[place + 1] << 8 | data[place + 2]
            after = place + 9 + size
            if after > end:
                break
            if data[place + 3] == DATA:
                stream = self.streams.get(int.from_bytes(data[place + 5:place + 9], "big"))
                if stream is not None:
                    stream.received += size
                    self._since_refill += size
                    if on_data:
                        on_data(stream, data[place + 9:after])
                    else:
                        stream.payload += data[place + 9:after]
            else:
                self._control(data[place + 3], data[place + 4], data[place + 5:place + 9], data[place + 9:after])
            place = after
        self._unread = data[place:]
        if self._since_refill > REFILL_BYTES:
            self._refill()

    def _control(self, kind, flags, number, payload):
        if kind == SETTINGS and not flags & 1:
            for place in range(0, len(payload), 6):
                setting, value = struct.unpack_from(">HI", payload, place)
                if setting == 4:
                    self.stream_window = value
        if kind == WINDOW_UPDATE:
            stream = int.from_bytes(number, "big")
            target = self.streams.get(stream) if stream else self
            if target is not None:
                target.granted += int.from_bytes(payload, "big")
        elif kind in (SETTINGS, PING) and not flags & 1:
            self.write(frame(kind, 1, 0, payload if kind == PING else b""))
        elif kind == RST_STREAM or (kind == HEADERS and flags & 1):
            stream = self.streams.get(int.from_bytes(number, "big"))
            if stream is not None:
                stream.is_ended = True
        elif kind == GOAWAY:
            self.is_closed = True

    def _refill(self):
        self.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._since_refill)))
        self._since_refill = 0
        for stream in self.streams.values():
            if stream.received:
                stream.open_window(stream.received)
                stream.received = 0

    def close(self):
        self.socket.close()

    stop = close


class Reader:
    """Reads many connections as they have something."""

    def __init__(self, connections):
        self._selector = selectors.DefaultSelector()
        for connection in connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def turn(self, seconds, on_data=None):
        """One look at all of them; the number of connections that had something."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            if key.data.is_closed:
                raise AssertionError("the server closed a connection")
            key.data.receive(on_data)
        return len(ready)

    def close(self):
        self._selector.close()


# ---- Whole conversations ---------------------------------------------------------------------------------------------

class Caller:
    """Unary calls on a connection of their own."""

    def __init__(self, port):
        self.connection = Connection(port)

    def call(self, path, message):
        stream = self.connection.open(path)
        stream.send(message, ends=True)
        while True:
            found = stream.messages()
            if found:
                del self.connection.streams[stream.number]
                return found[0]
            if stream.is_ended:
                raise AssertionError(f"{path} was refused")
            self.connection.receive()

    def put(self, key, value=b"", lease=0):
        """The put's revision."""
        return self._revision(self.call("/etcdserverpb.KV/Put", put(key, value, lease)))

    def put_many(self, keys_and_values):
        """As many puts at once; their revisions."""
        streams = []
        for key, value in keys_and_values:
            streams.append(self.connection.open("/etcdserverpb.KV/Put"))
            streams[-1].send(put(key, value), ends=True)
        revisions = []
        for stream in streams:
            while not (found := stream.messages()):
                self.connection.receive()
            revisions.append(self._revision(found[0]))
            del self.connection.streams[stream.number]
        return revisions

    def delete(self, key, range_end=b""):
        request = field(1, key) + (field(2, range_end) if range_end else b"")
        return self._revision(self.call("/etcdserverpb.KV/DeleteRange", request))

    def compact(self, revision):
        self.call("/etcdserverpb.KV/Compact", field(1, revision))

    def grant(self, lease, seconds):
        self.call("/etcdserverpb.Lease/LeaseGrant", field(1, seconds) + field(2, lease))

    def revoke(self, lease):
        self.call("/etcdserverpb.Lease/LeaseRevoke", field(1, lease))

    @staticmethod
    def _revision(answer):
        return signed(dict(fields(dict(fields(answer))[1]))[3])

    def stop(self):
        self.connection.close()


class Watcher:
    """One Watch call on a connection of its own, read when something is expected."""

    def __init__(self, port, window=LARGEST_WINDOW, **metadata):
        self.connection = Connection(port, window)
        self.connection.socket.settimeout(10)
        self.stream = self.connection.open(**metadata)
        self.responses = []

    def ask(self, request):
        self.stream.send(request)

    def receive(self):
        """One read."""
        self.connection.receive()
        self.responses += [Response(message) for message in self.stream.messages()]

    def until(self, condition):
        """Reads until `condition(responses)` holds; takes the responses."""
        while not condition(self.responses):
            try:
                self.receive()
            except TimeoutError:
                raise AssertionError(f"nothing more came after {self.responses[-5:]}") from None
        taken, self.responses = self.responses, []
        return taken

    def next(self):
        self.until_count(1)
        return self.responses.pop(0)

    def until_count(self, count):
        while len(self.responses) < count:
            try:
                self.receive()
            except TimeoutError:
                raise AssertionError(f"{count} responses were expected: {self.responses}") from None

    def create(self, *arguments, **options):
        """The answer to the creation."""
        self.ask(create(*arguments, **options))
        while not any(response.created for response in self.responses):
            self.until_count(len(self.responses) + 1)
        return self.responses.pop(next(n for n, response in enumerate(self.responses) if response.created))

    def is_silent(self, seconds):
        """Whether nothing comes within this time."""
        self.connection.socket.settimeout(seconds)
        try:
            before = len(self.responses)
            self.receive()
            return len(self.responses) == before
        except TimeoutError:
            return True
        finally:
            self.connection.socket.settimeout(10)

    def stop(self):
        self.connection.close()
