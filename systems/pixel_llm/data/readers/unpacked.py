"""The pictures of a compressed table, unpacked: one after another in one plain file, with an index beside it.

Both lie in a folder of the cache folder that is named after the table's path, and are named after its size, its time of
change and the columns that were read, so a table that has changed is unpacked anew and nobody reads the wrong bytes at
an old place. They are written under other names and renamed when they are whole, the index last: what it tells is
there. What is left of an older table is then removed.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from systems.pixel_llm.data.cache_folder import CACHE_VARIABLE, cache_folder, room_in
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.picture_path import PackedPicture
from systems.pixel_llm.data.readers.shards import Shard
from systems.pixel_llm.errors import DatasetError

__all__ = ["Unpacking", "load_unpacked", "unpacking"]

FORMAT_VERSION = 1

_BYTES_BETWEEN_LOOKS = 256 << 20
_FORGOTTEN_SECONDS = 3600.0
"""A file that is being written is written to more often than that; an older one was left by a process that is gone."""


class Unpacking:
    """What has been unpacked so far; `unpacking` gives one."""

    def __init__(self, file: BinaryIO, source: Path) -> None:
        self._file, self._source = file, source
        self._place_of: dict[bytes, int] = {}
        self._names: list[str] = []
        self._taken: set[str] = set()
        self._sizes: list[int] = []
        self._captions: list[dict[str, None]] = []  # each a set that keeps its order
        self._passed_over: dict[str, list[str]] = {}
        self._unlooked = 0

    def add(self, picture: bytes, captions: Sequence[str], *, names: Sequence[str]) -> None:
        """Take in a picture under the first of `names` that is free, or the captions alone where it came before.

        Raises:
            DatasetError: the disk is full.
        """
        digest = hashlib.blake2b(picture, digest_size=16).digest()
        place = self._place_of.setdefault(digest, len(self._names))
        if place == len(self._names):
            name = next((name for name in names if name not in self._taken), names[-1])
            self._file.write(picture)
            self._names.append(name)
            self._taken.add(name)
            self._sizes.append(len(picture))
            self._captions.append({})
            self._unlooked += len(picture)
            if self._unlooked > _BYTES_BETWEEN_LOOKS:
                self._unlooked = 0
                _check_room(Path(self._file.name).parent, 0, self._source)
        self._captions[place].update(dict.fromkeys(captions))

    def pass_over(self, name: str, reason: str) -> None:
        """Take note of what is not taken in."""
        self._passed_over.setdefault(reason, []).append(name)

    def to_dict(self) -> dict[str, Any]:
        """The index, as plain values for a JSON file."""
        return {
            "names": self._names,
            "sizes": self._sizes,
            "captions": [list(captions) for captions in self._captions],
            "passed_over": self._passed_over,
        }


def load_unpacked(source: Path, *, columns: Sequence[str | None]) -> Shard | None:
    """What was unpacked of a table as it is now, by these columns; None where that has not been done.

    Raises:
        DatasetError: the table cannot be looked at.
    """
    container, index = _places(source, columns)
    try:
        content = json.loads(index.read_bytes())
        names, sizes, captions = content["names"], content["sizes"], content["captions"]
        offsets = list(accumulate(sizes, initial=0))
        if container.stat().st_size != offsets.pop() or min(sizes, default=1) < 1:
            return None
        shard = Shard(path=source)
        for name, size, offset, said in zip(names, sizes, offsets, captions, strict=True):
            shard.pictures.append(PackedPicture(str(container), offset, size, shard.label(name)))
            shard.captions.append(tuple(said))
        shard.passed_over.update(content["passed_over"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Not there, or damaged: it is made again from the table, which is what a cache is for.
        return None
    return shard


@contextmanager
def unpacking(source: Path, *, columns: Sequence[str | None], about_bytes: int) -> Iterator[Unpacking]:
    """Unpack a table of about so many bytes of pictures; what is added inside is kept if all goes well.

    Raises:
        DatasetError: there is no room, the cache folder cannot be written, or the table changed meanwhile.
    """
    container, index = _places(source, columns)
    partial = [path.with_name(f"{path.name}.{os.getpid()}.partial") for path in (container, index)]
    try:
        container.parent.mkdir(parents=True, exist_ok=True)
        _check_room(container.parent, about_bytes, source)
        with partial[0].open("wb") as file:
            found = Unpacking(file, source)
            yield found
            file.flush()
            os.fsync(file.fileno())
        if _places(source, columns) != (container, index):
            raise DatasetError(f"{shown(source)} was changed while it was read. Start again when it is written whole.")
        partial[1].write_text(json.dumps(found.to_dict()), encoding="utf-8")
        partial[0].replace(container)
        partial[1].replace(index)
        _remove_others(container.parent, keep=(container, index))
    except OSError as error:
        raise DatasetError(
            f"The pictures of {shown(source)} cannot be unpacked into {shown(container.parent)}: {error.strerror}. Set "
            f"{CACHE_VARIABLE} to a folder that may be written to and has room."
        ) from error
    finally:
        for path in partial:
            with contextlib.suppress(OSError):  # renamed, or never made
                path.unlink()


def _places(source: Path, columns: Sequence[str | None]) -> tuple[Path, Path]:
    """Where pictures and index of a table as it is now belong."""
    real_path = os.path.realpath(source)
    try:
        status = os.stat(real_path)  # noqa: PTH116
    except OSError as error:
        raise DatasetError(f"{shown(source)} cannot be read: {error.strerror}. Check its permissions.") from error
    state = json.dumps([FORMAT_VERSION, status.st_size, status.st_mtime_ns, *columns])
    folder = cache_folder() / "parquet" / _hash(os.fsencode(real_path))
    key = _hash(state.encode())
    return folder / f"{key}.pictures", folder / f"{key}.json"


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _check_room(folder: Path, num_bytes: int, source: Path) -> None:
    room = room_in(folder)
    if room < num_bytes:
        raise DatasetError(
            f"There is no room to unpack the pictures of {shown(source)}: they take {num_bytes / 1e9:,.1f} GB, and the "
            f"disk of {shown(folder)} has {max(0, room) / 1e9:,.1f} GB to spare. Make room, or set {CACHE_VARIABLE} to "
            "a folder on another disk."
        )


def _remove_others(folder: Path, *, keep: Sequence[Path]) -> None:
    """Remove what an older state of the table has left, but not what another process may be writing right now."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # gone already, or in use: it costs room, nothing else
            is_young = time.time() - path.stat().st_mtime < _FORGOTTEN_SECONDS
            if path not in keep and not (path.suffix == ".partial" and is_young):
                path.unlink()
