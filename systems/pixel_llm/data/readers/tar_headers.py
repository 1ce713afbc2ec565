"""The members of a tar file by its headers alone: what each is called, where its bytes begin, and how many they are.

`tarfile` takes an archive that is damaged in the middle for one that ends there, and takes as much memory as a header
asks for. So its `TarInfo.frombuf` reads each header here, checksum and all, and the way from header to header is gone
in this module: long names come from GNU and PAX headers, of bounded size; every member must end inside the file; and
after the last of them come zeros to the end of the file. Whatever is different is an error that names the byte.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.errors import DatasetError

__all__ = ["TarMember", "read_members"]

MAX_MEMBERS = 4_000_000
"""Of one file. Their names take memory; a shard is usually of thousands."""

MAX_EXTRA_BYTES = 1 << 20
"""A header that carries a long name or attributes is read whole."""

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)
_CHUNK_BYTES = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_GNU_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class TarMember(NamedTuple):
    """A file, link, folder or device in the archive."""

    name: str
    """As written there."""
    offset: int
    """Of its first byte, from the start of the file."""
    size: int
    """In bytes."""
    is_file: bool
    """Whether it is a plain file, the only kind with bytes of its own."""


def read_members(file: BinaryIO, path: Path) -> Iterator[TarMember]:
    """The members of the archive in `file`, which is that at `path`, in their order.

    Raises:
        DatasetError: it is no tar file, is compressed, damaged or cut off, or holds a sparse file.
    """
    end_of_file = os.fstat(file.fileno()).st_size
    own: dict[str, str] = {}
    common: dict[str, str] = {}
    offset = count = 0
    while True:
        file.seek(offset)
        block = file.read(_BLOCK)
        if block == _ZEROS:
            return _check_end(file, path, offset)
        info = _header(block, path, offset)
        begin = offset + _BLOCK
        is_extra = info.type in _PAX_TYPES or info.type in _GNU_TYPES
        attributes = common | own
        size = info.size if is_extra else _size(info, attributes, path, offset)
        # What is neither a file nor known has bytes all the same, links and folders have none whatever they say.
        has_bytes = is_extra or info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
        end = begin + (size if has_bytes else 0)
        if size < 0 or end > end_of_file:
            _damaged(path, offset, f"the member {info.name[:200]!r} should have {size:,} bytes, and the file ends "
                     f"at byte {end_of_file:,}")  # fmt: skip
        count += 1
        if count > MAX_MEMBERS:
            raise DatasetError(f"{shown(path)} has more than {MAX_MEMBERS:,} members. Divide it into several shards.")
        if is_extra:
            found = _extra(file, info, path, offset)
            (common if info.type == tarfile.XGLTYPE else own).update(found)
        else:
            if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in attributes):
                raise DatasetError(
                    f"{shown(path)} holds a sparse file at byte {offset:,}, {info.name[:200]!r}: its bytes do not lie "
                    "there as they are. Make the archive anew, without --sparse."
                )
            yield TarMember(attributes.get("path", info.name), begin, size, info.isreg())
            own = {}
        offset = begin + -(-(end - begin) // _BLOCK) * _BLOCK


def _header(block: bytes, path: Path, offset: int) -> tarfile.TarInfo:
    if offset == 0:
        for mark, name in _COMPRESSED.items():
            if block.startswith(mark):
                raise DatasetError(
                    f"{shown(path)} is compressed ({name}): pictures are read from the middle of a shard, which "
                    "compression does not allow. Decompress it to a .tar; the pictures in it are compressed already."
                )
    if len(block) < _BLOCK:
        what = "it is empty" if offset == 0 == len(block) else "it ends there, without the zeros that end a tar file"
        _damaged(path, offset, what)
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        if offset == 0:
            raise DatasetError(
                f"{shown(path)} is not a tar file: {error} at byte 0. Replace it, or take it out of the data."
            ) from error
        _damaged(path, offset, f"expected the header of a member or the end, found neither ({error})")


def _size(info: tarfile.TarInfo, attributes: dict[str, str], path: Path, offset: int) -> int:
    """What the header says or, where it has no room for it, the attributes before it."""
    try:
        return int(attributes.get("size", info.size))
    except ValueError:
        _damaged(path, offset, f"the size of the member {info.name[:200]!r} is no number")


def _extra(file: BinaryIO, info: tarfile.TarInfo, path: Path, offset: int) -> dict[str, str]:
    """What a header says of the member after it: "path", "size" and others."""
    if info.size > MAX_EXTRA_BYTES:
        _damaged(path, offset, f"a header of {info.size:,} bytes, at most {MAX_EXTRA_BYTES:,} are read")
    data = file.read(info.size)
    if info.type in _GNU_TYPES:
        name = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return {"path": name} if info.type == tarfile.GNUTYPE_LONGNAME else {}
    found: dict[str, str] = {}
    while data.strip(b"\0"):
        # Each is "30 path=some/where/cat.jpg\n", the number counting all of it.
        length, space, _ = data[:20].partition(b" ")
        end = int(length) if space and length.isdigit() else 0
        key, equals, value = data[len(length) + 1 : max(end - 1, 0)].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n":
            _damaged(path, offset, "a header whose attributes cannot be read")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        data = data[end:]
    return found


def _check_end(file: BinaryIO, path: Path, offset: int) -> None:
    """Behind the zeros that end an archive nothing may follow: it would be left out in silence."""
    place = offset + _BLOCK
    while chunk := file.read(_CHUNK_BYTES):
        if rest := chunk.lstrip(b"\0"):
            place += len(chunk) - len(rest)
            _damaged(path, place, f"more follows after the zeros at byte {offset:,} that end a tar file")
        place += len(chunk)


def _damaged(path: Path, offset: int, found: str) -> NoReturn:
    raise DatasetError(
        f"{shown(path)} is damaged or cut off at byte {offset:,}: {found}. Copy or download it again, or take it out "
        "of the data: a part of it would pass for all."
    )
