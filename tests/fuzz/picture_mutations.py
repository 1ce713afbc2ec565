"""Damage to pictures that knows their structure: chunks, segments, tags and headers, with sums put right again."""

import random
import re
import struct
import zlib
from collections.abc import Callable

from tests.fuzz.byte_mutations import mutate_bytes, odd_number

__all__ = ["PICTURE_TOKENS", "mutate_picture"]

PICTURE_TOKENS = (
    *(b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xdb", b"\xff\xdd"),
    *(b"\xff\xd0", b"\xff\xe1", b"\xff\xee", b"\xff\xfe", b"Exif\0\0MM\0*", b"Exif\0\0II*\0", b"Adobe\0d", b"JFIF\0"),
    *(b"ICC_PROFILE\0", b"MPF\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0", b"8BIM"),
    *(b"\x89PNG\r\n\x1a\n", b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL"),
    *(b"fcTL", b"fdAT", b"gAMA", b"cHRM", b"sRGB", b"pHYs"),
    *(b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"XMP "),
    *(b"GIF87a", b"GIF89a", b"\x21\xf9\x04", b"\x21\xff\x0bNETSCAPE2.0", b"\x21\xfe", b"\x2c", b"\x3b"),
    *(b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"%!PS-Adobe-3.0 EPSF", b"P6\n1 1\n255\n", b"SIMPLE  ="),
    *(b"\0\0\1\0",),
    *(b"\x1b[31m\x07", b"\0" * 16, b"\xff" * 16),
)  # fmt: skip


def mutate_picture(data: bytes, rng: random.Random, *, other: bytes) -> bytes:
    """A picture changed once or a few times, in most cases by what it is made of."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        change = _by_structure(data)
        if change is not None and rng.random() < 0.65:
            data = change(data, rng)
        else:
            data = mutate_bytes(data, rng, tokens=PICTURE_TOKENS, other=other)
    return data


def _by_structure(data: bytes) -> Callable[[bytes, random.Random], bytes] | None:
    for mark, change in (
        (b"\x89PNG", _change_png),
        (b"\xff\xd8", _change_jpeg),
        (b"RIFF", _change_webp),
        (b"GIF8", _change_gif),
        (b"BM", _change_bmp),
        (b"II", _change_tiff),
        (b"MM", _change_tiff),
    ):
        if data.startswith(mark):
            return change
    return None


def _put(data: bytes, at: int, form: str, number: int) -> bytes:
    """The bytes with a number written over them, if they are that long."""
    width = struct.calcsize(form)
    if at < 0 or at + width > len(data):
        return data
    return data[:at] + struct.pack(form, number % 256**width) + data[at + width :]


def _swapped_or_repeated(parts: list[bytes], rng: random.Random) -> None:
    """Parts left out, doubled or out of order."""
    if not parts:
        return
    at, to = rng.randrange(len(parts)), rng.randrange(len(parts))
    kind = rng.randrange(4)
    if kind == 0:
        del parts[at]
    elif kind == 1:
        parts.insert(to, parts[at])
    elif kind == 2:
        parts[at], parts[to] = parts[to], parts[at]
    else:
        parts[at:at] = [parts[at]] * rng.choice((2, 30))


# --- PNG --------------------------------------------------------------------------------------------------------------


def _change_png(data: bytes, rng: random.Random) -> bytes:
    chunks, at = [], 8
    while at + 12 <= len(data) and len(chunks) < 200:
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    what = rng.randrange(8)
    if what == 0 and len(chunks[0][1]) == 13:
        head = chunks[0][1]
        at, form = rng.choice(((0, ">I"), (4, ">I"), (8, ">B"), (9, ">B"), (12, ">B")))
        value = rng.choice((0, 1, 2, 3, 4, 6, 8, 16)) if at >= 8 else odd_number(rng)
        chunks[0] = (b"IHDR", _put(head, at, form, value))
    elif what == 1:
        chunks[number] = (kind, mutate_bytes(content, rng, tokens=PICTURE_TOKENS))
    elif what == 2:
        chunks[number] = (rng.choice((b"IDAT", b"PLTE", b"tRNS", b"IEND", b"eXIf", b"acTL", rng.randbytes(4))), content)
    elif what == 3:
        packed = [index for index, chunk in enumerate(chunks) if chunk[0] == b"IDAT"]
        chunks = [chunk for index, chunk in enumerate(chunks) if index not in packed[1:]]
        if packed:
            chunks[packed[0]] = (
                b"IDAT",
                _repacked(b"".join(content for name, content in chunks if name == b"IDAT"), rng),
            )
    elif what == 4:
        name = rng.choice((b"zTXt", b"iCCP", b"iTXt"))
        bomb = zlib.compress(bytes(rng.choice((10, 1000, 2_000_000))))
        chunks.insert(1, (name, {b"iTXt": b"k\0\1\0\0\0"}.get(name, b"k\0\0") + bomb))
    elif what == 5:
        kind = rng.choice((b"tRNS", b"gAMA", b"cHRM", b"pHYs", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"sRGB", b"iTXt"))
        chunks.insert(1, (kind, rng.randbytes(rng.choice((0, 1, 2, 4, 6, 8, 26, 32)))))
    whole = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    ]
    if what == 6:
        _swapped_or_repeated(whole, rng)
    elif what == 7:
        whole[number] = _put(whole[number], 0, ">I", odd_number(rng))
    return data[:8] + b"".join(whole)


def _repacked(content: bytes, rng: random.Random) -> bytes:
    try:
        rows = zlib.decompressobj().decompress(content, 1 << 16)
    except zlib.error:
        return content
    return zlib.compress(mutate_bytes(rows, rng))


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _change_jpeg(data: bytes, rng: random.Random) -> bytes:
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and len(segments) < 200:
        length = struct.unpack_from(">H", data, at + 2)[0]
        segments.append(data[at : at + 2 + length])
        at += 2 + length
        if segments[-1][1] == 0xDA:
            break
    rest = data[at:]
    if not segments:
        return data
    number = rng.randrange(len(segments))
    frames = [index for index, segment in enumerate(segments) if segment[1:2] in (b"\xc0", b"\xc1", b"\xc2")]
    what = rng.randrange(9)
    if what == 0 and frames:
        at, form = rng.choice(((4, ">B"), (5, ">H"), (7, ">H"), (9, ">B"), (11, ">B"), (12, ">B"), (14, ">B")))
        segments[frames[0]] = _put(segments[frames[0]], at, form, odd_number(rng, below=65536))
    elif what == 1:
        segment = segments[number]
        segments[number] = segment[:4] + mutate_bytes(segment[4:], rng, tokens=PICTURE_TOKENS)
    elif what == 2:
        body = mutate_bytes(segments[number][4:], rng, tokens=PICTURE_TOKENS)[:65000]
        segments[number] = segments[number][:2] + struct.pack(">H", len(body) + 2) + body
    elif what == 3:
        _swapped_or_repeated(segments, rng)
    elif what == 4:
        segments[number] = (
            b"\xff"
            + bytes([rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xDC, 0xDD, 0xE1, 0xE2, 0xEE))])
            + segments[number][2:]
        )
    elif what == 5:
        segments.insert(0, _exif_segment(rng))
    elif what == 6:
        segments[number] = _put(segments[number], 2, ">H", odd_number(rng, below=65536))
    elif what == 7:
        scan = segments[-1] + rest.removesuffix(b"\xff\xd9")[:100_000]
        rest = rest.removesuffix(b"\xff\xd9") + scan * rng.choice((1, 5, 100)) + b"\xff\xd9"
    else:
        rest = mutate_bytes(rest, rng, tokens=PICTURE_TOKENS)
    return data[:2] + b"".join(segments) + rest


def _exif_segment(rng: random.Random) -> bytes:
    order = rng.choice("<>")
    body = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
    body += struct.pack(
        order + "HHI", rng.choice((0x0112, 0x8769, 0x8825, 0x0201, 0x927C)), rng.randrange(14), odd_number(rng)
    )
    body = b"Exif\0\0" + mutate_bytes(body + struct.pack(order + "II", odd_number(rng), 8), rng)
    body = body[:60_000]
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


# --- the others -------------------------------------------------------------------------------------------------------


def _change_webp(data: bytes, rng: random.Random) -> bytes:
    chunks, at = [], 12
    while at + 8 <= len(data) and len(chunks) < 200:
        length = struct.unpack_from("<I", data, at + 4)[0]
        chunks.append(data[at : at + 8 + length + length % 2])
        at += 8 + length + length % 2
    if not chunks:
        return data
    number = rng.randrange(len(chunks))
    what = rng.randrange(6)
    if what == 0:
        chunks[number] = _put(chunks[number], 4, "<I", odd_number(rng))
    elif what == 1:
        chunks[number] = chunks[number][:8] + mutate_bytes(chunks[number][8:], rng, tokens=PICTURE_TOKENS)
    elif what == 2:
        _swapped_or_repeated(chunks, rng)
    elif what == 3:  # the sizes in VP8X, VP8 and VP8L
        at, form = rng.choice(((8, "<B"), (12, "<H"), (15, "<H"), (14, "<H"), (16, "<H"), (9, "<I")))
        chunks[0] = _put(chunks[0], at, form, odd_number(rng))
    elif what == 4:
        chunks[number] = rng.choice((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANMF", b"EXIF")) + chunks[number][4:]
    body = b"WEBP" + b"".join(chunks)
    size = odd_number(rng) if what == 5 else len(body)
    return b"RIFF" + struct.pack("<I", size) + body


def _change_gif(data: bytes, rng: random.Random) -> bytes:
    what = rng.randrange(5)
    if what == 0:
        return _put(data, rng.choice((6, 8)), "<H", odd_number(rng, below=65536))
    if what == 1:
        return _put(data, 10, "<B", odd_number(rng, below=256))
    frames = [match.start() for match in re.finditer(b"\x2c\0\0\0\0", data)]
    if not frames:
        return mutate_bytes(data, rng, tokens=PICTURE_TOKENS)
    at = rng.choice(frames)
    if what == 2:
        return _put(data, at + rng.choice((1, 3, 5, 7)), "<H", odd_number(rng, below=65536))
    if what == 3:
        return _put(data, at + rng.choice((9, 10, 11)), "<B", odd_number(rng, below=256))
    return data[:at] + data[at:] * rng.choice((2, 40))


def _change_bmp(data: bytes, rng: random.Random) -> bytes:
    at, form = rng.choice(
        (
            (2, "<I"),
            (10, "<I"),
            (14, "<I"),
            (18, "<I"),
            (22, "<I"),
            (26, "<H"),
            (28, "<H"),
            (30, "<I"),
            (34, "<I"),
            (46, "<I"),
        )
    )
    value = rng.choice((0, 1, 2, 3, 4, 8, 12, 16, 24, 32, 40, 64, 108, 124)) if rng.random() < 0.6 else odd_number(rng)
    return _put(data, at, form, value)


def _change_tiff(data: bytes, rng: random.Random) -> bytes:
    order = "<" if data.startswith(b"II") else ">"
    if len(data) < 16:
        return data
    offset = struct.unpack_from(order + "I", data, 4)[0]
    if offset + 2 > len(data):
        return _put(data, 4, order + "I", 8)
    count = min(struct.unpack_from(order + "H", data, offset)[0], 100)
    if not count:
        return data
    entry = offset + 2 + 12 * rng.randrange(count)
    what = rng.randrange(7)
    if what == 0:
        tag = rng.choice(
            (
                254,
                256,
                257,
                258,
                259,
                262,
                273,
                274,
                277,
                278,
                279,
                284,
                317,
                320,
                322,
                323,
                324,
                330,
                338,
                339,
                347,
                530,
                700,
                34665,
            )
        )
        return _put(data, entry, order + "H", tag)
    if what == 1:
        return _put(data, entry + 2, order + "H", rng.randrange(20))
    if what == 2:
        return _put(data, entry + 4, order + "I", odd_number(rng))
    if what == 3:
        return _put(data, entry + 8, order + "I", odd_number(rng))
    if what == 4:
        return _put(
            data, entry + 8, order + "H", rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 32773, 32946, 34712, 50001))
        )
    if what == 5:  # the next directory is this one
        return _put(data, offset + 2 + 12 * count, order + "I", rng.choice((offset, 8, odd_number(rng))))
    return _put(data, offset, order + "H", odd_number(rng, below=65536))
