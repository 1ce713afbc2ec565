"""Captions out of files: bytes -> text -> one clean line, each step with its limit.

`read_text` and `decode_text` know UTF-8 and UTF-16 by its mark, `clean_caption` is the one place where a caption is
cleaned, and `captions_of` takes what a field of a manifest may hold: a caption or a list of them.
"""

import codecs
import os
import re
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

from systems.pixel_llm.data.folder import quoted, shown
from systems.pixel_llm.errors import DatasetError

__all__ = [
    "MAX_CAPTION_CHARACTERS",
    "MAX_MANIFEST_BYTES",
    "MAX_TEXT_BYTES",
    "captions_of",
    "clean_caption",
    "decode_text",
    "json_kind",
    "keys_told",
    "read_text",
]

MAX_TEXT_BYTES = 1 << 20
"""A caption file above this (1 MiB) is no caption."""

MAX_MANIFEST_BYTES = 1 << 30
"""A manifest above this (1 GiB) would not fit the memory of a small machine once read."""

MAX_CAPTION_CHARACTERS = 100_000
"""A caption above this is a text of another kind, or a quote that was never closed."""

_KEYS_TOLD = 12

_CONTROL_TO_SPACE = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_text(path: Path, *, max_bytes: int, what: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 where it begins with that mark. `what` names it in messages.

    Raises:
        DatasetError: it cannot be read, is too large, or is not text.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Asked for all that is allowed, Python takes that much memory first: a gigabyte for the smallest file.
            data = b"" if size > max_bytes else file.read(size + 1)
            if len(data) > size:  # it grows while it is read
                data += file.read(max_bytes + 1 - len(data))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"The {what} {shown(path)} cannot be read: {reason}. Check its permissions.") from error
    size = max(size, len(data))
    if size > max_bytes:
        raise DatasetError(
            f"The {what} {shown(path)} is too large: {size:,} bytes, at most {max_bytes:,} are read. Is it the right "
            "file?"
        )
    return decode_text(data, name=f"The {what} {shown(path)}")


def decode_text(data: bytes, *, name: str) -> str:
    """Bytes in UTF-8, or in UTF-16 where they begin with that mark, as text. `name` is for messages.

    Raises:
        DatasetError: they are not text.
    """
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{name} is not text in UTF-8: {error.reason} at byte {error.start}. Save it as UTF-8."
        ) from error
    # Wide characters without their mark are valid UTF-8, and would be read as letters with a space after each.
    if text.count("\0") * 3 > len(text) and any(map(str.isalnum, text)):
        raise DatasetError(
            f"{name} is not text in UTF-8: it has a NUL beside every letter, as UTF-16 or UTF-32 without a mark. Save "
            "it as UTF-8."
        )
    return text


def clean_caption(text: str, *, where: str) -> str:
    """One line: control characters and runs of white space become one space. `where` is for messages.

    Raises:
        DatasetError: it is too long, or holds half a character.
    """
    if len(text) > MAX_CAPTION_CHARACTERS:
        raise DatasetError(
            f"The caption {where} is too long: {len(text):,} characters, at most {MAX_CAPTION_CHARACTERS:,} are read. "
            "Shorten it; if it runs over many lines, look for a quote that is not closed."
        )
    if not text.isascii() and _SURROGATE.search(text):
        raise DatasetError(f"Half a character (a lone surrogate) is in the caption {where}. Correct it there.")
    if _CONTROL.search(text):
        text = text.translate(_CONTROL_TO_SPACE)
    return " ".join(text.split())


def captions_of(value: Any, *, where: str) -> list[str]:
    """The cleaned captions of a string or a list of strings; empty ones are left out.

    Raises:
        DatasetError: it is neither.
    """
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            found = f"a list with {json_kind(text)} in it" if isinstance(value, list) else json_kind(value)
            raise DatasetError(f"No caption {where}: expected a string or a list of strings, found {found}.")
    return [caption for text in texts if (caption := clean_caption(text, where=where))]


def json_kind(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def keys_told(keys: Collection[str]) -> str:
    """The keys or columns that a file has, for a message: the first twelve."""
    told = [quoted(key, at_most=60) for key in islice(keys, _KEYS_TOLD)]
    return (", ".join(told) + ", ..." * (len(keys) > _KEYS_TOLD)) or "none"
