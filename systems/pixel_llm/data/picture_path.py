"""Where the bytes of a picture lie: in a file of its own, or in a stretch of a larger file.

Most pictures are files, told by a `Path`. Those of a tar shard or a table are a `PackedPicture`: it is named like a
file in the archive (`shards/000.tar/cat.jpg`), works wherever a path is only shown, and knows which bytes to read.
`open_picture_bytes` opens either, `content_stamp` tells when either has changed.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.errors import DatasetError

__all__ = [
    "MAX_PACKED_BYTES",
    "ContentStamp",
    "PackedPicture",
    "PicturePath",
    "content_place",
    "content_stamp",
    "open_picture_bytes",
]

MAX_PACKED_BYTES = 1 << 28
"""A packed picture above this (256 MiB) is refused: it is read whole, and no picture needs as much."""

_READ_WHOLE_BYTES = 1 << 25


@dataclass(frozen=True, slots=True)
class PackedPicture:
    """A picture inside a larger file."""

    container: str
    """The file on disk that holds it."""
    offset: int
    """Where its bytes begin, counted from the start of that file."""
    size: int
    """How many they are."""
    path: str
    """What it is called: the archive's path, and its own name there. No such file exists."""

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        """The last part of what it is called."""
        return PurePath(self.path).name

    @property
    def stem(self) -> str:
        """The name without its extension."""
        return PurePath(self.path).stem

    @property
    def suffix(self) -> str:
        """The extension of the name, with its dot."""
        return PurePath(self.path).suffix


PicturePath = Path | PackedPicture


class ContentStamp(NamedTuple):
    """What changes when the bytes of a picture do."""

    place: str
    """As `content_place` tells it."""
    size: int
    """In bytes."""
    modified_ns: int
    """Of the file, or of the container."""


def content_place(picture: PicturePath) -> str:
    """Where the bytes lie, whether they are there or not: an absolute path and, if packed, the place in that file."""
    if isinstance(picture, PackedPicture):
        return f"{os.path.abspath(picture.container)}@{picture.offset}+{picture.size}"  # noqa: PTH100
    return os.path.abspath(picture)  # noqa: PTH100  a Path for each is slow, and to follow links more so


def content_stamp(picture: PicturePath) -> ContentStamp:
    """The stamp of a picture. All that is kept about pictures is known again by it.

    Raises:
        OSError: there is no file, or something else in its place.
    """
    container = picture.container if isinstance(picture, PackedPicture) else picture
    status = os.stat(container)  # noqa: PTH116
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file", os.fspath(container))
    size = picture.size if isinstance(picture, PackedPicture) else status.st_size
    return ContentStamp(content_place(picture), size, status.st_mtime_ns)


@contextmanager
def open_picture_bytes(picture: PicturePath) -> Iterator[BinaryIO]:
    """The bytes of a picture as a file that can be read and sought in; in memory where they are not very many.

    Only regular files are opened: a pipe would block, a device would never end.

    Raises:
        DatasetError: there is no such file, it is empty or no regular file, or a packed picture is not inside its
            container.
        OSError: it cannot be opened or read.
    """
    where = picture.container if isinstance(picture, PackedPicture) else picture
    size = _size_of_file(where, shown(picture))
    if not isinstance(picture, PackedPicture):
        with open(where, "rb", buffering=0 if size <= _READ_WHOLE_BYTES else -1) as file:  # noqa: PTH123
            # A decoder reads the head in many small steps: from memory they cost a tenth less of the whole picture.
            yield io.BytesIO(_read(file, size)) if isinstance(file, io.FileIO) else file
        return
    if not 0 < picture.size <= MAX_PACKED_BYTES or not 0 <= picture.offset <= size - picture.size:
        raise DatasetError(
            f"{shown(picture)} should be {picture.size:,} bytes from byte {picture.offset:,} of {shown(where)}, which "
            f"has {size:,}; a picture has 1 to {MAX_PACKED_BYTES:,}. The file has changed or is damaged: replace it."
        )
    with open(where, "rb") as file:  # noqa: PTH123
        file.seek(picture.offset)
        yield io.BytesIO(file.read(picture.size))


def _read(file: io.FileIO, size: int) -> bytes:
    """The whole of a file that had `size` bytes a moment ago, and no more than is read at once if it grows."""
    data = file.read(size + 1)
    while len(data) <= _READ_WHOLE_BYTES and (more := file.read(_READ_WHOLE_BYTES)):
        data += more
    return data


def _size_of_file(path: str | os.PathLike[str], name: str) -> int:
    try:
        status = os.stat(path)  # noqa: PTH116  a Path for each picture is slow
    except FileNotFoundError as error:
        raise DatasetError(f"{name} does not exist. Check the name, or take it out of the data.") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{name} cannot be opened: {error}. Check the name and its permissions.") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise DatasetError(f"{name} is {kind}; expected a picture file.")
    if status.st_size == 0:
        raise DatasetError(f"{name} is empty (0 bytes). Replace it, or take it out of the data.")
    return status.st_size
