"""Whole pictures to start from: each kind in each mode, drawn on the spot, and the corpus beside the repository."""

import io
import random
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

__all__ = ["CORPUS", "picture_seeds"]

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "badimages"

_MAX_SEED_BYTES = 50_000

_TURNED = Image.Exif()
_TURNED[0x0112] = 6

_WAYS: dict[str, tuple[tuple[str, ...], tuple[dict[str, Any], ...]]] = {
    "JPEG": (
        ("L", "RGB", "CMYK"),
        (
            {}, {"progressive": True}, {"exif": _TURNED}, {"restart_marker_blocks": 1}, {"subsampling": 0},
            {"optimize": True, "quality": 30}, {"comment": b"a comment"}, {"icc_profile": bytes(200)},
        ),
    ),
    "PNG": (
        ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        ({}, {"exif": _TURNED}, {"transparency": 3}, {"bits": 2}, {"pnginfo": "text"}, {"animation": True}),
    ),
    "WEBP": (
        ("RGB", "RGBA"),
        ({}, {"lossless": True}, {"exif": _TURNED}, {"animation": True}, {"icc_profile": bytes(200)}),
    ),
    "BMP": (("1", "L", "P", "RGB", "RGBA"), ({},)),
    "GIF": (("1", "L", "P", "RGB"), ({}, {"transparency": 0}, {"animation": True}, {"interlace": False})),
    "TIFF": (
        ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B", "I", "F"),
        (
            {}, {"compression": "tiff_lzw"}, {"compression": "packbits"}, {"compression": "tiff_deflate"},
            {"compression": "jpeg"}, {"compression": "group4"}, {"exif": _TURNED}, {"animation": True},
            {"big_tiff": True}, {"tiffinfo": {278: 2}},
        ),
    ),
}  # fmt: skip

_MODES_OF_COMPRESSION = {"group4": ("1",), "jpeg": ("L", "RGB", "CMYK", "YCbCr")}


@cache
def picture_seeds() -> tuple[bytes, ...]:
    """Every kind, mode and way of writing that Pillow knows; then the small files of the corpus, if it is there."""
    drawn = [
        content
        for kind, (modes, ways) in _WAYS.items()
        for mode in modes
        for way in ways
        if (content := _drawn(kind, mode, way)) is not None
    ]
    paths = sorted(path for path in CORPUS.rglob("*") if path.is_file() and path.suffix not in (".csv", ".md"))
    return (*drawn, *(path.read_bytes() for path in paths if 0 < path.stat().st_size <= _MAX_SEED_BYTES))


def _drawn(kind: str, mode: str, way: dict[str, Any]) -> bytes | None:
    """None where this kind cannot be written in this mode and way."""
    if mode not in _MODES_OF_COMPRESSION.get(way.get("compression"), (mode,)):
        return None  # libtiff would refuse and say so on the screen
    rng = random.Random(f"{kind} {mode}")
    settings = dict(way)
    if settings.get("pnginfo"):
        settings["pnginfo"] = PngImagePlugin.PngInfo()
        settings["pnginfo"].add_text("Title", "words " * 20, zip=True)
        settings["pnginfo"].add_itxt("XML:com.adobe.xmp", "<x/>", zip=True)
    frames = [_picture(mode, rng) for _ in range(2)]
    if settings.pop("animation", False):
        settings |= {"save_all": True, "append_images": frames[1:]}
    content = io.BytesIO()
    try:
        frames[0].save(content, kind, **settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SystemError):
        return None
    return content.getvalue()


def _picture(mode: str, rng: random.Random) -> Image.Image:
    """19 x 13 pixels: neither side fills whole blocks."""
    gray = Image.frombytes("L", (19, 13), rng.randbytes(19 * 13))
    if mode == "I;16B":
        return Image.frombytes("I;16B", (19, 13), rng.randbytes(2 * 19 * 13))
    if mode in ("I;16", "I", "F", "1", "LA"):
        return gray.convert(mode)
    colours = Image.merge("RGB", [gray, gray.transpose(Image.Transpose.ROTATE_180), Image.new("L", gray.size, 90)])
    return colours.convert("RGBA").convert(mode) if mode in ("RGBA",) else _from_rgb(colours, mode)


def _from_rgb(colours: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.frombytes("LAB", colours.size, colours.tobytes())
    return colours.convert(mode)
