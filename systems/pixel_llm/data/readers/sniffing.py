"""A glance into a file, to tell whether a format could be its own, without reading it whole."""

import codecs
from pathlib import Path

__all__ = ["file_head", "file_holds"]

HEAD_BYTES = 4096
_CHUNK_BYTES = 1 << 20
_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def file_head(path: Path) -> str:
    """The text of a file's first 4 KiB; empty where it cannot be read: whoever reads it whole says why."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return ""
    is_utf_16 = head.startswith(tuple(_MARKS))
    return head.decode("utf-16" if is_utf_16 else "utf-8-sig", errors="replace")


def file_holds(path: Path, words: list[str]) -> bool:
    """Whether all of these words stand somewhere in a file.

    An annotation file without captions can have hundreds of megabytes: finding no word in it is a tenth of the time
    that parsing takes, and no memory.
    """
    try:
        with path.open("rb") as file:
            chunk = file.read(_CHUNK_BYTES)
            encoding = next((encoding for mark, encoding in _MARKS.items() if chunk.startswith(mark)), "utf-8")
            missing = {word.encode(encoding) for word in words}
            overlap = max(map(len, missing)) - 1
            while chunk and missing:
                missing = {word for word in missing if word not in chunk}
                more = file.read(_CHUNK_BYTES)
                chunk = chunk[-overlap:] + more if more else b""
    except (OSError, ValueError):
        return False
    return not missing
