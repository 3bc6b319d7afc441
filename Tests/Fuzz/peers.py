"""Frames between members: hellos, right and wrong, and what may not come before or after one."""

from mutations import EDGES, mutated, noise

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F6_3B78 if byte & 1 else 0)
    TABLE.append(byte)

TYPES = [1, 2, 3, 4, 5, 6, 16, 17, 18, 19, 32, 33, 34, 35, 36, 37]
URGENT, BULK, SNAPSHOT, DESCRIBE = 1, 2, 3, 4


def checksum(data):
    value = 0xFFFF_FFFF
    for byte in data:
        value = TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return (value ^ 0xFFFF_FFFF).to_bytes(4, "little")


def frame(kind, payload):
    data = len(payload).to_bytes(4, "little") + bytes([kind]) + payload
    return data + checksum(data)


def hello(purpose, cluster, sender, member):
    return bytes([1, 1, purpose]) + b"".join(number.to_bytes(8, "little") for number in (cluster, sender, member)) + b"\0"


def connection(draw, cluster, member):
    """Strangers, most of all; and a sender that knows the cluster, but whose messages are nonsense."""
    greeting = hello(
        draw.choice([URGENT, BULK, SNAPSHOT, DESCRIBE, 0, 255]), draw.choice([cluster, cluster, 0, cluster ^ 1]),
        draw.choice([0, 1, member, (1 << 64) - 1]), draw.choice([member, member, 0]))
    if draw.random() < 0.4:
        greeting = mutated(draw, greeting)
    data = frame(1, greeting)
    for _ in range(draw.randrange(6)):
        payload = noise(draw, draw.choice([9, 100, 2000]))
        data += frame(draw.choice(TYPES) if draw.random() < 0.9 else draw.randrange(256), payload)
    if draw.random() < 0.2:
        data += draw.choice(EDGES)[:4] + bytes([draw.choice(TYPES)]) + noise(draw, 100)
    return mutated(draw, data) if draw.random() < 0.3 else data
