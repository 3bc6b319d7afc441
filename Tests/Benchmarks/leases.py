"""Leases with a key each, by the hundred thousand: granted, renewed and read through either server's best means.

etcd: LeaseGrant and Put, one lease a call, keepalives pipelined on streams. Leasehold: `leaseholdpb.Leases`, a thousand a
call. Lease number n has the ID `FIRST_LEASE + n` and one key, on both."""

import random
import struct

import http2
from generators import field, varint
from http2 import grpc_frame

FIRST_LEASE = 0x0100_0000_0000_0001
KEY_BYTES = 60
VALUE = b"v" * 100
KEY_PREFIX = b"/leasehold/cache/objects/"
# Odd: distinct numbers become distinct keys, in no order.
SCRAMBLE = 0x9E37_79B9_7F4A_7C15
KEY_PADDING = b"-" * (KEY_BYTES - len(KEY_PREFIX) - 16)

BATCH = 1_000
GRANT_AND_PUT = "/leaseholdpb.Leases/GrantAndPut"
RENEW = "/leaseholdpb.Leases/Renew"
TIME_TO_LIVE = "/leaseholdpb.Leases/TimeToLive"


def key(number):
    return b"%s%016x%s" % (KEY_PREFIX, number * SCRAMBLE & 0xFFFF_FFFF_FFFF_FFFF, KEY_PADDING)


def grant_and_put_body(first, count, ttl_ms):
    # An item's bytes, with room for the scrambled number and the lease's ID.
    head = b"\x0a" + varint(KEY_BYTES) + KEY_PREFIX
    tail = KEY_PADDING + field(2, VALUE) + field(3, ttl_ms) + b"\x21"
    head = b"\x0a" + varint(len(head) + 16 + len(tail) + 8) + head
    pack, identifier = struct.Struct("<q").pack, FIRST_LEASE
    return grpc_frame(b"".join([
        b"%s%016x%s%s" % (head, number * SCRAMBLE & 0xFFFF_FFFF_FFFF_FFFF, tail, pack(identifier + number))
        for number in range(first, first + count)]))


def ids_body(numbers):
    """RenewRequest and TimeToLiveRequest alike: the IDs, packed."""
    return grpc_frame(field(1, struct.pack(f"<{len(numbers)}q", *[FIRST_LEASE + number for number in numbers])))


# ---- Filling ---------------------------------------------------------------------------------------------------------

def fill_leasehold(server, count, ttl_ms, first=0, connections=2, depth=4):
    """`ttl_ms`: a number, or a function asked for each batch. Returns the seconds that it took."""
    ttl = ttl_ms if callable(ttl_ms) else lambda: ttl_ms
    bodies = ((number, grant_and_put_body(number, min(BATCH, first + count - number), ttl()))
              for number in range(first, first + count, BATCH))
    return http2.drive(server.port, GRANT_AND_PUT, bodies, connections, depth).seconds


def fill_etcd(server, count, ttl_seconds, first=0):
    numbers = range(first, first + count)
    grants = ((n, grpc_frame(field(1, ttl_seconds) + field(2, FIRST_LEASE + n))) for n in numbers)
    puts = ((n, grpc_frame(field(1, key(n)) + field(2, VALUE) + field(3, FIRST_LEASE + n))) for n in numbers)
    granting = http2.drive(server.port, "/etcdserverpb.Lease/LeaseGrant", grants, 8, 100).seconds
    return granting + http2.drive(server.port, "/etcdserverpb.KV/Put", puts, 8, 100).seconds


def fill(server, count, ttl_seconds, first=0):
    if server.name == "etcd":
        return fill_etcd(server, count, ttl_seconds, first)
    return fill_leasehold(server, count, ttl_seconds * 1_000, first)


# ---- Loads: each returns what `http2.drive` does and how many leases a call carries ----------------------------------

def renew_leasehold(server, count, seconds, batch=BATCH, seed=1):
    """Random leases of the first `count`."""
    random_numbers = random.Random(seed)
    # Prepared: making one costs this script as much as serving it costs the server.
    bodies = [ids_body(random_numbers.choices(range(count), k=batch)) for _ in range(64)]
    done = http2.drive(server.port, RENEW, cycle(bodies), 2, 8, seconds)
    return done, batch


def renew_etcd(server, count, seconds, seed=1):
    """Streams of a thousand keepalives of random leases each, 20 at a time."""
    random_numbers = random.Random(seed)
    bodies = [b"".join(grpc_frame(field(1, FIRST_LEASE + number)) for number in random_numbers.choices(range(count), k=BATCH))
              for _ in range(64)]
    done = http2.drive(server.port, "/etcdserverpb.Lease/LeaseKeepAlive", cycle(bodies), 2, 10, seconds)
    return done, BATCH


def cycle(bodies):
    number = 0
    while True:
        yield number, bodies[number % len(bodies)]
        number += 1


# ---- Reading ---------------------------------------------------------------------------------------------------------

def fields(message):
    """The fields of a protobuf message: (number, integer or bytes)."""
    position = 0

    def integer():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        tag = integer()
        if tag & 7 == 0:
            yield tag >> 3, integer()
        elif tag & 7 == 2:
            size = integer()
            yield tag >> 3, message[position:position + size]
            position += size
        elif tag & 7 == 1:
            yield tag >> 3, message[position:position + 8]
            position += 8
        else:
            raise ValueError(f"wire type {tag & 7}")


def signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def packed(data):
    values, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(signed(value))
            value = shift = 0
    return values


def remaining_ms(server, numbers):
    """What is left of these leases; etcd knows whole seconds. Negative: gone."""
    if server.name == "etcd":
        answers = []
        for number in numbers:
            answer = http2.call_once(
                server.port, "/etcdserverpb.Lease/LeaseTimeToLive", field(1, FIRST_LEASE + number))
            answers.append(1_000 * next((signed(value) for name, value in fields(answer) if name == 3), 0))
        return answers
    answer = http2.call_once(server.port, TIME_TO_LIVE, ids_body(numbers)[5:])
    return next(packed(value) for name, value in fields(answer) if name == 2)


def count_keys(server):
    """Linearizable: the keys of all leases that are alive."""
    answer = http2.call_once(
        server.port, "/etcdserverpb.KV/Range", field(1, KEY_PREFIX) + field(2, KEY_PREFIX[:-1] + b"0") + field(9, 1))
    return next((value for name, value in fields(answer) if name == 4), 0)


def read_one(server, number=0):
    """One linearizable read of a lease's key."""
    answer = http2.call_once(server.port, "/etcdserverpb.KV/Range", field(1, key(number)))
    return any(name == 2 for name, _ in fields(answer))
