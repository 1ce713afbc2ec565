"""Damage to bytes of any kind, and the small numbers and tokens that make decoders stumble."""

import random
import struct
from collections.abc import Sequence

__all__ = ["INTERESTING", "mutate_bytes", "odd_number"]

INTERESTING = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    257,
    4095,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)

MAX_BYTES = 1 << 20


def odd_number(rng: random.Random, *, below: int = 2**32) -> int:
    """A number that sits at an edge, or any."""
    number = rng.choice(INTERESTING) if rng.random() < 0.8 else rng.getrandbits(32)
    return number % below


def mutate_bytes(data: bytes, rng: random.Random, *, tokens: Sequence[bytes] = (), other: bytes = b"") -> bytes:
    """One to six changes. `tokens` are words of the format, `other` is a second file to splice with."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        _change_once(changed, rng, tokens, other)
    return bytes(changed[:MAX_BYTES])


def _change_once(data: bytearray, rng: random.Random, tokens: Sequence[bytes], other: bytes) -> None:
    size = len(data)
    at = rng.randrange(size + 1)
    if rng.random() < 0.3:  # heads hold most of what a reader decides by
        at = min(at, rng.randrange(64))
    length = min(rng.choice((1, 1, 2, 4, 16, 64, 1024)), size - at)
    kind = rng.randrange(10)
    if kind == 0 and at < size:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + length] = rng.randbytes(length)
    elif kind == 2:
        data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16, 100)))
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        del data[at:]
    elif kind == 5:
        data[at:at] = bytes(data[at : at + length]) * rng.choice((1, 1, 2, 50))
    elif kind == 6 and tokens:
        token = rng.choice(tokens)
        data[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
    elif kind == 7 and other:
        start = rng.randrange(len(other))
        data[at:] = other[start:]
    elif kind == 8:
        width, code = rng.choice(((1, "B"), (2, "H"), (4, "I")))
        data[at : at + width] = struct.pack(rng.choice("<>") + code, odd_number(rng, below=256**width))
    else:
        data[at : at + length] = bytes([rng.choice((0, 255, 32, 10))]) * length
