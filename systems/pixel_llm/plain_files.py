"""Files of folders that strangers may have made: opened only where they are plain files, and read within a bound.

A link may lead anywhere, a pipe keeps its reader waiting for ever, a device has no end. None of them is opened here.
Layer 1, no torch.
"""

import os
import stat
from io import FileIO
from pathlib import Path

from systems.pixel_llm.errors import CheckpointError

__all__ = ["open_plain", "plain_size", "read_plain"]

# What a system lacks of these it has no need for. Without O_NONBLOCK a pipe would be waited for.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


def plain_size(path: Path) -> int:
    """Bytes of the plain file `path`.

    Raises:
        CheckpointError: it is a link, a folder, a pipe or a device.
        OSError: it is missing, or cannot be looked at.
    """
    return _checked_size(path, path.lstat())


def open_plain(path: Path) -> FileIO:
    """`path`, unbuffered, for reading.

    Raises:
        CheckpointError: it is a link, a folder, a pipe or a device.
        OSError: it is missing or cannot be opened.
    """
    plain_size(path)
    file = FileIO(os.open(path, _FLAGS), "rb")
    try:
        _checked_size(path, os.fstat(file.fileno()))  # it may have been put in place of the other a moment ago
    except BaseException:
        file.close()
        raise
    return file


def read_plain(path: Path, *, max_bytes: int, what: str) -> bytes:
    """All of the plain file `path`.

    Args:
        max_bytes: the most that a sound one has.
        what: what it should be, for the message.

    Raises:
        CheckpointError: it is larger, or no plain file.
        OSError: it is missing or cannot be read.
    """
    with open_plain(path) as file:
        content = bytearray()
        while len(content) <= max_bytes and (piece := file.read(min(max_bytes + 1 - len(content), 1 << 20))):
            content += piece
        if len(content) > max_bytes:
            size = os.fstat(file.fileno()).st_size
            raise CheckpointError(f"{path}: larger than any {what} ({size} bytes).")
    return bytes(content)


def _checked_size(path: Path, status: os.stat_result) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "a folder" if stat.S_ISDIR(status.st_mode) else "no file"
        raise CheckpointError(f"{path}: it is not a plain file but {kind}, and is not read. Put the file itself there.")
    return status.st_size
