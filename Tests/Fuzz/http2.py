"""Frames of HTTP/2 and the gRPC calls in them, right and wrong."""

from mutations import EDGES, mutated, noise

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 1, 4, 8, 32


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    return varint(number << 3 | 2) + varint(len(value)) + value


PUT = field(1, b"key") + field(2, b"value")
COMPARE = field(3, b"key") + field(2, 0) + field(4, 0)
# Method and a message that it takes.
CALLS = [
    ("/etcdserverpb.KV/Range", field(1, b"key") + field(2, b"kez") + field(3, 10)),
    ("/etcdserverpb.KV/Range", field(1, b"\0") + field(2, b"\0") + field(6, 2) + field(5, 1)),
    ("/etcdserverpb.KV/Put", PUT),
    ("/etcdserverpb.KV/DeleteRange", field(1, b"key") + field(3, 1)),
    ("/etcdserverpb.KV/Txn", field(1, COMPARE) + field(2, field(2, PUT)) + field(3, field(1, field(1, b"key")))),
    ("/etcdserverpb.KV/Txn", field(2, field(4, field(2, field(4, field(2, field(2, PUT))))))),
    ("/etcdserverpb.KV/Compact", field(1, 1)),
    ("/etcdserverpb.Watch/Watch", field(1, field(1, b"key") + field(3, 1) + field(7, 5))),
    ("/etcdserverpb.Watch/Watch", field(2, field(1, 5)) + field(3, b"")),
    ("/etcdserverpb.Lease/LeaseGrant", field(1, 5)),
    ("/etcdserverpb.Lease/LeaseKeepAlive", field(1, 7)),
    ("/etcdserverpb.Lease/LeaseTimeToLive", field(1, 7) + field(2, 1)),
    ("/etcdserverpb.Lease/LeaseLeases", b""),
    ("/etcdserverpb.Cluster/MemberList", field(1, 1)),
    ("/etcdserverpb.Maintenance/Status", b""),
    ("/etcdserverpb.Maintenance/HashKV", field(1, 1)),
    ("/etcdserverpb.Maintenance/Snapshot", b""),
    ("/etcdserverpb.Auth/Authenticate", field(1, b"root") + field(2, b"x")),
    ("/etcdserverpb.Auth/UserGet", field(1, b"root")),
    ("/grpc.health.v1.Health/Check", field(1, b"")),
    ("/v3lockpb.Lock/Lock", field(1, b"name")),
    ("/v3electionpb.Election/Leader", field(1, b"name")),
    ("/no.Such/Method", b""),
]
# What these do on purpose could end the node's service, so they only ever get what cannot be read.
DANGEROUS = [
    "/etcdserverpb.Cluster/MemberAdd", "/etcdserverpb.Cluster/MemberRemove", "/etcdserverpb.Cluster/MemberUpdate",
    "/etcdserverpb.Maintenance/Alarm", "/etcdserverpb.Maintenance/Downgrade", "/etcdserverpb.Auth/AuthEnable",
    "/etcdserverpb.Auth/UserAdd"]
UNREADABLE = b"\x0a\xff\xff\xff\xff\x0f"
MESSAGES = [message for _, message in CALLS]


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + (stream & 0xFFFF_FFFF).to_bytes(4, "big") + payload


def literal(name, value):
    """Without indexing and Huffman; lengths of up to 16 KiB."""
    def text(data):
        if len(data) < 127:
            return bytes([len(data)]) + data
        return b"\x7f" + varint(len(data) - 127) + data
    return b"\0" + text(name) + text(value)


def headers(draw, path, extra=()):
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"x"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"), *extra]
    if draw.random() < 0.15:
        fields.insert(draw.randrange(len(fields) + 1), draw.choice([
            (b"content-length", b"5"), (b"content-length", b"x"), (b"grpc-timeout", b"1S"), (b"grpc-timeout", b"9" * 20),
            (b"grpc-encoding", b"gzip"), (b"token", noise(draw, 200)), (b":path", b"/health"), (b"Upper", b"x"),
            (b"connection", b"close"), (b"x", b"y" * 20_000), (b"", b""), (b"hasleader", b"true")]))
    if draw.random() < 0.1:
        draw.shuffle(fields)
    block = b"".join(literal(*pair) for pair in fields)
    return mutated(draw, block) if draw.random() < 0.1 else block


def framed(draw, message):
    """The message with gRPC's prefix, which sometimes lies."""
    length = len(message) if draw.random() < 0.9 else draw.choice([0, len(message) + 1, 1 << 21, 0xFFFF_FFFF])
    return bytes([0 if draw.random() < 0.95 else draw.randrange(256)]) + length.to_bytes(4, "big") + message


def call(draw, stream):
    path, message = draw.choice(CALLS)
    if draw.random() < 0.6:
        message = mutated(draw, message, MESSAGES)
    if draw.random() < 0.05:
        path, message = draw.choice(DANGEROUS), noise(draw, 50) + UNREADABLE
    body = b"".join(framed(draw, message) for _ in range(draw.choice([1, 1, 1, 2])))
    if path in DANGEROUS:
        body = b"\0" + len(message).to_bytes(4, "big") + message
    frames = frame(HEADERS, END_HEADERS, stream, headers(draw, path))
    step = draw.choice([16_384, 16_384, 7, 1000])
    pieces = [body[place:place + step] for place in range(0, min(len(body), 20 * step), step)] or [b""]
    for number, piece in enumerate(pieces):
        ends = number == len(pieces) - 1 and draw.random() < 0.8
        frames += frame(DATA, END_STREAM if ends else 0, stream, piece)
    return frames


def settings(draw):
    pairs = b"".join(
        draw.randrange(8).to_bytes(2, "big") + draw.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\x40\0", b"\0\0\0\1"])
        for _ in range(draw.randrange(5)))
    return frame(SETTINGS, draw.choice([0, 0, 1]), draw.choice([0, 0, 0, 1]), pairs)


def any_frame(draw, stream):
    match draw.randrange(12):
        case 0: return settings(draw)
        case 1: return frame(PING, draw.choice([0, 1]), 0, noise(draw, 10)) * draw.choice([1, 1, 200])
        case 2: return frame(WINDOW_UPDATE, 0, draw.choice([0, stream]), draw.choice(EDGES)[:4])
        case 3: return frame(RST_STREAM, 0, stream, draw.choice(EDGES)[:4])
        case 4: return frame(PRIORITY, 0, stream, noise(draw, 6))
        case 5: return frame(HEADERS, 0, stream, headers(draw, "/health")) + frame(
            CONTINUATION, 0, stream, noise(draw, 100)) * draw.choice([1, 20])
        case 6: return frame(HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, stream, noise(draw, 300))
        case 7: return frame(DATA, PADDED, stream, noise(draw, 300))
        case 8: return frame(GOAWAY, 0, 0, noise(draw, 30))
        case 9: return frame(draw.randrange(256), draw.randrange(256), draw.choice([0, stream, 1 << 31]), noise(draw, 99))
        case 10:
            # Opened and reset at once, many times.
            return b"".join(
                frame(HEADERS, END_HEADERS, stream + 2 * n, headers(draw, "/etcdserverpb.Watch/Watch"))
                + frame(RST_STREAM, 0, stream + 2 * n, b"\0\0\0\x08") for n in range(draw.choice([1, 30])))
        case _: return frame(HEADERS, END_HEADERS, stream, headers(draw, "/v3/kv/put")[:draw.randrange(400)])


def connection(draw):
    """What one client sends."""
    data = PREFACE + (settings(draw) if draw.random() < 0.3 else frame(SETTINGS, 0, 0))
    stream = 1
    for _ in range(draw.choice([1, 3, 10, 40])):
        data += call(draw, stream) if draw.random() < 0.75 else any_frame(draw, stream)
        stream += draw.choice([2, 2, 2, 0, 1, 62])
    # Damage anywhere could turn one call into another: not where the dangerous ones are.
    if draw.random() < 0.2 and not any(path.encode() in data for path in DANGEROUS):
        data = mutated(draw, data)
    return data
