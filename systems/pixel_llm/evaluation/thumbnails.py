"""Small pictures inside a page: each a JPEG of a few kilobytes, written out as a data URI."""

import base64
import io
from collections.abc import Sequence
from typing import TypeVar

from PIL import Image

from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.errors import DatasetError

__all__ = ["THUMBNAIL_SIDE", "data_uri", "shrunk", "spaced", "thumbnail"]

THUMBNAIL_SIDE = 168
"""The longer side of a thumbnail, in pixels."""
QUALITY = 72

Value = TypeVar("Value")


def thumbnail(path: PicturePath, *, side: int = THUMBNAIL_SIDE) -> str | None:
    """A small JPEG of the picture as a data URI, its longer side at most `side`; None where it cannot be read."""
    try:
        picture = open_image(path, at_least=(side, side))
    except DatasetError:
        return None
    return data_uri(shrunk(picture, side))


def shrunk(picture: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side at most `side`."""
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def data_uri(picture: Image.Image) -> str:
    """The picture, RGB, as a JPEG in a data URI."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def spaced(values: Sequence[Value], count: int) -> list[Value]:
    """At most `count` of them, spread over their order."""
    if len(values) <= count:
        return list(values)
    return [values[place * len(values) // count] for place in range(count)]
