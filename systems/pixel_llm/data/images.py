"""Open one picture safely: any JPEG, PNG, WebP, BMP, GIF or TIFF -> RGB, upright, alpha laid on white; else one error.

The kind is told by the content, never by the name. The file is looked at before it is opened (a pipe would block for
ever) and the size before it is decoded (a few kilobytes can claim gigabytes). Decoding happens once and any failure
ends in a DatasetError: a second attempt at a damaged file can succeed with wrong pixels. The EXIF turn comes after
that, then the conversion to RGB, which this module does itself where Pillow would clip 16-bit gray or drop alpha.

`open_image` is for whoever wants the picture, `open_pixels` for whoever wants its bytes; `examine_image` does the very
same and also tells what the file is.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.image_limits import MAX_PIXELS, check_before_decoding, check_decoded, too_large
from systems.pixel_llm.data.picture_path import PackedPicture, PicturePath, open_picture_bytes
from systems.pixel_llm.data.turbo_jpeg import quick_pixels
from systems.pixel_llm.errors import DatasetError

__all__ = ["MAX_PIXELS", "PICTURE_KINDS", "PictureFacts", "examine_image", "open_image", "open_pixels", "to_rgb"]

PICTURE_KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The kinds of file that are decoded. Others, such as EPS, would start programs or reach little-tested decoders."""

_MANY_PIXELS = 2**22
"""Of a picture larger than this, no copy is made at full size."""

_STRIP_PIXELS = 2**18
"""Pictures are converted in strips of about this size, so that what is needed in between stays small."""

_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_UPRIGHT_BY[orientation] for orientation in (5, 6, 7, 8)}


def open_image(path: str | os.PathLike[str], *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """The picture as PIL RGB, fully decoded, turned as its EXIF says; of an animation, the first frame.

    `at_least=(height, width)` tells that the picture will be scaled down to that size: a JPEG that is far larger is
    then decoded at 1/2, 1/4 or 1/8, never to less than that size, which is several times faster; any other picture of
    many pixels is averaged down by a whole number, never to less than twice that size, which spares memory.

    Raises:
        DatasetError: the file is missing, not a picture of these kinds, damaged, or above `MAX_PIXELS`; the message
            names it and says what to do.
    """
    with _opened(_picture(path)) as (_, image):
        _decode(_picture(path), image, _scale(image, at_least))
        return _averaged(to_rgb(_upright(image)), at_least)


def open_pixels(path: str | os.PathLike[str], *, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The same picture as `open_image` gives, as uint8 [3, h, w]: the quicker way where pixels are what is wanted.

    Raises:
        DatasetError: for the same files as `open_image`, in the same words.
    """
    with _opened(_picture(path)) as (file, image):
        pixels = _quick_pixels(file, image, at_least)
        if pixels is None:
            _decode(_picture(path), image, _scale(image, at_least))
            pixels = np.array(_averaged(to_rgb(_upright(image)), at_least))
        return pixels.transpose(2, 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFacts:
    """What a picture file is, beside its pixels."""

    kind: str
    """By its content: "JPEG", "PNG" and so on."""
    mode: str
    """How Pillow calls the form of its pixels as stored: "RGB", "CMYK", "I;16" and so on."""
    width: int
    """In pixels, as it is looked at: turned as its EXIF says."""
    height: int
    is_turned: bool
    """Whether its EXIF turns or mirrors it."""
    is_16_bit: bool
    """Whether its channels have more than 8 bits."""
    is_animated: bool
    """Whether it holds more than one picture."""


def examine_image(
    path: str | os.PathLike[str], *, at_least: tuple[int, int] | None = None
) -> tuple[Image.Image, PictureFacts]:
    """The picture as `open_image` gives it, and what the file is.

    Raises:
        DatasetError: for the same files as `open_image`, in the same words.
    """
    with _opened(_picture(path)) as (file, image):
        mode, (width, height), is_16_bit = image.mode, image.size, _is_16_bit(image)
        pixels = _quick_pixels(file, image, at_least)
        if pixels is not None:
            turn, picture = None, Image.fromarray(pixels)
        else:
            _decode(_picture(path), image, _scale(image, at_least))
            turn, picture = _turn_of(image), _averaged(to_rgb(_upright(image)), at_least)
            if picture is image and image.format == "GIF":
                picture = image.copy()  # looking for a second picture in the file may spoil the pixels of the first
        if turn in _SIDEWAYS:
            width, height = height, width
        return picture, PictureFacts(
            kind=image.format or "",
            mode=mode,
            width=width,
            height=height,
            is_turned=turn is not None,
            is_16_bit=is_16_bit,
            is_animated=_is_animated(image),
        )


def _quick_pixels(file: BinaryIO, image: Image.Image, at_least: tuple[int, int] | None) -> NDArray[np.uint8] | None:
    """uint8 [h, w, 3] of an opened picture that needs no turn, None where it must be decoded by Pillow."""
    scale = _scale(image, at_least)
    is_large = image.width * image.height > _MANY_PIXELS * scale**2  # an array beside Pillow's own pixels is too much
    if image.format != "JPEG" or is_large or _turn_of(image) is not None:
        return None
    return quick_pixels(file, image, scale=scale)


def _averaged(image: Image.Image, at_least: tuple[int, int] | None) -> Image.Image:
    """A large RGB picture made smaller by a whole number, if it may be."""
    if at_least is None or image.width * image.height <= _MANY_PIXELS:
        return image
    height, width = at_least
    factor = min(image.height // (2 * height), image.width // (2 * width))
    return image.reduce(factor) if factor > 1 else image


def _decode(path: PicturePath, image: Image.Image, scale: int) -> None:
    """Decode an opened picture, a JPEG at 1/`scale` of its size."""
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    image.load()
    check_decoded(path, image, is_turned=_turn_of(image) is not None)


@contextmanager
def _opened(path: PicturePath) -> Iterator[tuple[BinaryIO, Image.Image]]:
    """The file of a picture, and the picture, not decoded yet. Whatever fails, inside too, is a DatasetError."""
    try:
        with _quiet_pillow(), open_picture_bytes(path) as file, Image.open(file, formats=PICTURE_KINDS) as image:
            check_before_decoding(path, file, image)
            yield file, image
    except DatasetError:
        raise
    except UnidentifiedImageError as error:
        raise DatasetError(
            f"{shown(path)} is not a picture that can be read: expected the content of a JPEG, PNG, WebP, BMP, GIF or "
            "TIFF file. Convert it to one of these, or take it out of the data."
        ) from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{shown(path)} is too large: {too_large(str(error))}") from error
    # Decoders raise whatever a broken file leads them to: OSError, ValueError, SyntaxError, EOFError, struct.error...
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DatasetError(
            f"{shown(path)} cannot be decoded: {shown(reason)}. The file is damaged or not readable; replace it, or "
            "take it out of the data."
        ) from error


def _scale(image: Image.Image, at_least: tuple[int, int] | None) -> int:
    """1, 2, 4 or 8: the part of its size, one such part, at which a picture, not decoded yet, can be decoded."""
    if at_least is None or image.format != "JPEG":
        return 1
    height, width = at_least
    if _turn_of(image) in _SIDEWAYS:  # the EXIF note of a JPEG stands before its pixels: to read it decodes nothing
        height, width = width, height
    room = min(image.height // height, image.width // width)
    return next(scale for scale in (8, 4, 2, 1) if scale <= max(1, room))


def _picture(path: str | os.PathLike[str]) -> PicturePath:
    return path if isinstance(path, PackedPicture) else Path(path)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL picture as RGB: alpha and transparent colours laid on white, 16-bit and float gray scaled to 8 bits.

    An RGB picture without transparency is returned as it is. Integer gray wider than 8 bits is read as 0..65535; float
    gray as 0..1 where no value is above 1, else as 0..255.
    """
    if image.mode == "F":
        brightest = max(float(np.nan_to_num(np.asarray(strip), nan=0.0).max()) for _, strip in _strips(image))
        top = 1.0 if brightest <= 1.0 else 255.0
        return _converted(image, lambda strip: _wide_gray_to_rgb(strip, top))
    if image.mode.startswith("I"):
        return _converted(image, _wide_gray_to_rgb)
    if image.has_transparency_data:
        return _converted(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _converted(image: Image.Image, to_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The picture converted strip by strip."""
    if image.width * image.height <= _STRIP_PIXELS:
        return to_rgb(image)
    rgb = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        rgb.paste(to_rgb(strip), (0, top))
    return rgb


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Strips of whole rows, each with the number of its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    with_alpha = image.convert("RGBA")
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return on_white


def _wide_gray_to_rgb(image: Image.Image, top: float = 255.0) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0)
        gray = np.rint(values.clip(0.0, top) * (255.0 / top)).astype(np.uint8)
    else:
        gray = ((values.clip(0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        gray[values == transparent] = 255
    return Image.fromarray(gray).convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """The loaded picture turned as its EXIF says."""
    turn = _turn_of(image)
    return image if turn is None else image.transpose(turn)


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # The pixels are whole; a note beside them that cannot be read tells no turn.
        return None
    return _UPRIGHT_BY.get(orientation) if isinstance(orientation, int) else None


def _is_16_bit(image: Image.Image) -> bool:
    """Whether the file, not decoded yet, has 16 bits a channel, also where Pillow will give 8 of them."""
    decoding: Any = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else ""
    raw_mode = decoding[0] if isinstance(decoding, tuple) and decoding else decoding
    # "RGB;16B" is two bytes a channel; "BGR;16", of old BMP files, two bytes a pixel.
    return image.mode.startswith("I") or str(raw_mode).endswith((";16B", ";16L", ";16N"))


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        # The first picture is whole, and nothing after it is ever read.
        return False


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters = ExitStack()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """No warnings inside, neither printed nor, under an "error" filter, raised: a bad EXIF tag is no bad picture.

    Filters belong to the whole process, so of threads that overlap the first sets them and the last puts them back.
    """
    global _quiet_depth
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters.enter_context(warnings.catch_warnings(action="ignore"))
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.close()
