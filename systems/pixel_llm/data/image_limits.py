"""Which pictures are refused because they ask for too much: pixels, memory while decoding, passes over the pixels.

A few kilobytes can claim gigabytes. What decoding takes is told by kind and form, as measured; the tests measure it
again. Looking is cheap: it reads what the head of the file says, before a pixel is decoded.
"""

import re
from typing import Any, BinaryIO

from PIL import ExifTags, Image, TiffImagePlugin

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.errors import DatasetError

__all__ = ["MAX_DECODING_BYTES", "MAX_PIXELS", "check_before_decoding", "check_decoded", "too_large"]

MAX_PIXELS = 89_478_485
"""Pictures of more pixels are refused before decoding: 341 MiB as RGB, the level at which Pillow warns."""

MAX_DECODING_BYTES = 500 * 2**20
"""Pictures that would take more than this at once are refused too: the form they are stored in may ask for copies."""

_MAX_SCANS = 100
"""Layers of a JPEG file; usual are ten. Each costs a pass over all pixels, and can be as short as twenty bytes."""

_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""One that stands before a segment, or ends the file; not those inside compressed data."""

_CHUNK_BYTES = 1 << 18

_COMPRESSION, _BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL = 259, 258, 277
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323


def check_before_decoding(path: PicturePath, file: BinaryIO, image: Image.Image) -> None:
    """Refuse a picture, opened and not decoded yet, of too many pixels, bytes or scans. `file` is what it reads from.

    Raises:
        DatasetError: it is refused; the message says what to do.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DatasetError(f"{shown(path)} is too large: {too_large(f'{width} x {height} pixels')}")
    if width * height == 0:
        raise DatasetError(f"{shown(path)} has no pixels ({width} x {height}). Take it out of the data.")
    _check_memory(path, image, width * height * _bytes_to_decode(image))
    _check_scans(path, file, image)


def check_decoded(path: PicturePath, image: Image.Image, *, is_turned: bool) -> None:
    """Refuse a decoded picture that would take too much to turn and to convert to RGB.

    Raises:
        DatasetError: it is refused; the message says what to do.
    """
    stored = _bytes_as_stored(image)
    is_rgb = image.mode == "RGB" and not image.has_transparency_data
    copies = (stored if is_turned else 0) + (0 if is_rgb else 4)
    _check_memory(path, image, image.width * image.height * (stored + copies))


def too_large(found: str) -> str:
    """What is said of too many pixels."""
    return f"{found.rstrip('.')}; at most {MAX_PIXELS:,} are decoded. Scale it down, or take it out of the data."


def _check_memory(path: PicturePath, image: Image.Image, needed: float) -> None:
    if needed > MAX_DECODING_BYTES:
        raise DatasetError(
            f"{shown(path)} is too large: {image.width} x {image.height} pixels in this form ({image.format}, "
            f"{image.mode}) take {int(needed) >> 20:,} MiB of memory, and at most {MAX_DECODING_BYTES >> 20} are used. "
            "Scale it down, save it as a plain JPEG, or take it out of the data."
        )


def _bytes_to_decode(image: Image.Image) -> float:
    """Bytes a pixel that are taken while decoding, as measured: the pixels, and beside them what is the decoder's."""
    if image.format == "WEBP":  # it has one canvas for an animation, and one to draw the next picture on
        return 18
    if image.format == "JPEG" and "progressive" in image.info:
        # The coefficients of all channels, two bytes each, are kept until the last scan.
        areas = [across * down for _, across, down, _ in image.layer]  # type: ignore[attr-defined]
        return _bytes_as_stored(image) + 2 * sum(areas) / max(areas)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _bytes_to_decode_tiff(image)
    return _bytes_as_stored(image)


def _bytes_to_decode_tiff(image: TiffImagePlugin.TiffImageFile) -> float:
    """Pillow turns the picture as part of decoding; libtiff unpacks a whole strip, or a tile of any size, at once."""
    stored = _bytes_as_stored(image)
    turned = stored if _tag(image, ExifTags.Base.Orientation, 1) != 1 else 0
    if _tag(image, _COMPRESSION, 1) == 1:
        return stored + turned
    across, down = _tag(image, _TILE_WIDTH, 0), _tag(image, _TILE_LENGTH, 0)
    if not across or not down:
        across, down = image.width, min(_tag(image, _ROWS_PER_STRIP, image.height), image.height)
    bits = max(_tag(image, _BITS_PER_SAMPLE, 1), 8) * _tag(image, _SAMPLES_PER_PIXEL, 1)
    return stored + max(turned, across * down * bits / 8 / (image.width * image.height))


def _tag(image: TiffImagePlugin.TiffImageFile, tag: int, default: int) -> int:
    """The whole number that a tag holds, or the first of several."""
    value: Any = image.tag_v2.get(tag, default)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else default


def _bytes_as_stored(image: Image.Image) -> int:
    return 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;") else 4


def _check_scans(path: PicturePath, file: BinaryIO, image: Image.Image) -> None:
    """Refuse a JPEG file of so many scans that decoding it would take minutes."""
    if image.format != "JPEG" or _has_one_scan(file, image):
        return
    here = file.tell()
    # Most files are done with the quick look, which also counts what lies in notes and what only looks like a scan.
    scans = _count_in_chunks(file, b"\xff\xda")
    if scans > _MAX_SCANS:
        scans = _count_scans(file)
    file.seek(here)
    if scans > _MAX_SCANS:
        raise DatasetError(
            f"{shown(path)} is a JPEG of more than {_MAX_SCANS} scans, which would take minutes to decode. Save it "
            "anew, or take it out of the data."
        )


def _has_one_scan(file: BinaryIO, image: Image.Image) -> bool:
    """Whether the first scan has all channels and all of their bits: the decoder looks at no other then.

    Pillow has read up to the end of that scan's head: its mark, a length, the number of channels, two bytes for each
    of them, and three more.
    """
    if "progressive" in image.info or "progression" in image.info:
        return False
    channels = len(image.getbands())
    length = 6 + 2 * channels
    end = file.tell()
    file.seek(max(0, end - length - 2))
    head = file.read(5)
    file.seek(end)
    return head == b"\xff\xda" + length.to_bytes(2, "big") + bytes([channels])


def _count_in_chunks(file: BinaryIO, mark: bytes) -> int:
    """How often a mark stands in a file, but for those between two chunks."""
    file.seek(0)
    return sum(chunk.count(mark) for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""))


def _count_scans(file: BinaryIO) -> int:
    """Scans of the first picture in a JPEG file, up to one too many."""
    scans, at = 0, 2
    while scans <= _MAX_SCANS:
        file.seek(at)
        chunk = file.read(_CHUNK_BYTES)
        marker = _JPEG_MARKER.search(chunk)
        if marker is None:
            if len(chunk) < _CHUNK_BYTES:
                break
            at += len(chunk) - 1  # a marker may begin with its last byte
            continue
        if marker[0] == b"\xff\xd9":
            break
        scans += marker[0] == b"\xff\xda"
        file.seek(at + marker.end())
        at += marker.end() + int.from_bytes(file.read(2), "big")
    return scans
