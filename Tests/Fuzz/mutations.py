"""Damage to bytes, drawn from a seeded generator."""

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x0D, 0x20, 0x22, 0x5C, 0x7B]
# Numbers at the edges of their types, as four and eight bytes of either order, and as varints.
EDGES = (
    [edge.to_bytes(4, order) for edge in (0, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF) for order in ("big", "little")]
    + [edge.to_bytes(8, "big") for edge in (1 << 63, (1 << 64) - 1)]
    + [b"\xff" * 9 + b"\x01", b"\xff" * 11, b"\x80" * 10, b"\x00" * 16])


def noise(draw, most):
    return draw.randbytes(draw.randrange(most))


def mutated(draw, data, pool=()):
    """`data` with up to eight changes; `pool`: others to take pieces from."""
    data = bytearray(data)
    for _ in range(1 << draw.randrange(4)):
        place = draw.randrange(len(data) + 1)
        match draw.randrange(9):
            case 0 if data:
                data[place % len(data)] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[place % len(data)] = draw.choice(INTERESTING)
            case 2:
                del data[place:place + 1 + draw.randrange(16)]
            case 3:
                data[place:place] = noise(draw, 16)
            case 4:
                piece = data[place:place + draw.randrange(64)]
                data[place:place] = piece * draw.choice([1, 2, 50])
            case 5:
                edge = draw.choice(EDGES)
                data[place:place + len(edge)] = edge
            case 6:
                del data[place:]
            case 7 if pool:
                other = draw.choice(pool)
                begin = draw.randrange(len(other) + 1)
                data[place:] = other[begin:]
            case 8:
                data += bytes([draw.choice(INTERESTING)]) * draw.choice([1, 100, 5000])
        if len(data) > 200_000:
            del data[200_000:]
    return bytes(data)
