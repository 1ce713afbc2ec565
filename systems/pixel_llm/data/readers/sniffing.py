"""A glance into a file, to tell whether a format could be its own, without reading it whole."""

import codecs
from pathlib import Path

__all__ = ["file_head", "file_holds"]

HEAD_BYTES = 4096
_CHUNK_BYTES = 1 << 20


def file_head(path: Path) -> str:
    """The text of a file's first 4 KiB; empty where it cannot be read: whoever reads it whole says why."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return ""
    is_utf_16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return head.decode("utf-16" if is_utf_16 else "utf-8-sig", errors="replace")


def file_holds(path: Path, words: list[str]) -> bool:
    """Whether all of these ASCII words stand somewhere in a file in UTF-8; True of UTF-16, which is left to a reader.

    An annotation file without captions can have hundreds of megabytes: finding no word in it is a tenth of the time
    that parsing takes, and no memory.
    """
    missing = {word.encode() for word in words}
    overlap = max(map(len, missing)) - 1
    try:
        with path.open("rb") as file:
            before = b""
            while missing and (chunk := file.read(_CHUNK_BYTES)):
                if not before and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    return True
                seen = before + chunk
                missing = {word for word in missing if word not in seen}
                before = seen[-overlap:]
    except (OSError, ValueError):
        return False
    return not missing
