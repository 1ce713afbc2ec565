"""Pictures decoded once: all of a data set at the model's size, uint8, in one block of mapped memory.

The block is anonymous memory, which lasts as long as the process and is shared with its workers, or one file, which
later runs read too. A row is filled when its picture is first decoded. The file is reserved whole when it is made, so
that a full disk is met then and never in the middle of an epoch; which rows are filled is written only after the
pixels themselves, so that no crash can leave a row that is called filled and is not. A fingerprint of the pictures'
names, sizes and times of change stands at its head: a file of other pictures is dropped and begun anew.
"""

import hashlib
import logging
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from systems.pixel_llm.data.cache_folder import cache_folder, room_in
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.picture_path import content_place, content_stamp
from systems.pixel_llm.data.sample_table import SampleTable
from systems.pixel_llm.errors import ConfigError

__all__ = ["MAX_BYTES_IN_MEMORY", "PixelCache"]

logger = logging.getLogger(__name__)

MAX_BYTES_IN_MEMORY = 1 << 30
"""Pictures kept in memory: some 28,000 of 112 x 112 pixels, 7,000 of 224 x 224."""

_FORGOTTEN_SECONDS = 30 * 24 * 3600
"""A file that no run has opened for so long is removed: a folder that grew since has another."""

_MAGIC = b"pixel-llm pixels 1\n"
"""Changes with the form of the file and with the way pictures are scaled."""
_HEAD_BYTES = 4096
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Storage:
    """Rows of pixels and which of them are filled."""

    pixels: NDArray[np.uint8]
    """[capacity, 3, H, W]."""
    is_filled: NDArray[np.uint8]
    """[capacity], 1 for a row that may be read. In memory, shared with worker processes."""
    saved: NDArray[np.uint8] | None = None
    """The same in the file, as of the last flush."""
    file: mmap.mmap | None = None
    path: Path | None = None


class PixelCache:
    """The pictures of a data set by their number, as far as there is room: those beyond `capacity` are not kept."""

    def __init__(self, storage: _Storage, rows: NDArray[np.int64] | None = None) -> None:
        """`rows` tells of each picture its row in the storage; left out, they are the same."""
        self._storage, self._rows = storage, rows

    @classmethod
    def in_memory(
        cls, num_pictures: int, image_size: tuple[int, int], *, max_bytes: int = MAX_BYTES_IN_MEMORY
    ) -> "PixelCache":
        """An empty cache that lasts as long as the process. Memory is taken as rows are filled."""
        shape = (3, *image_size)
        capacity = min(num_pictures, max_bytes // int(np.prod(shape)))
        # Not bytes of Python's own: workers that are forked later fill the very same memory.
        pixels = np.frombuffer(mmap.mmap(-1, max(1, capacity * int(np.prod(shape)))), np.uint8)
        return cls(_Storage(pixels[: capacity * int(np.prod(shape))].reshape(capacity, *shape), _flags(capacity)))

    @classmethod
    def on_disk(
        cls, samples: SampleTable, image_size: tuple[int, int], *, folder: Path | None = None
    ) -> "PixelCache | None":
        """The cache of these pictures in `folder` (that of `cache_folder` if left out): as it was left, or empty.

        Samples in another order, or divided otherwise, have the same one. None where it cannot be had; the log says
        why.
        """
        rows, order = _rows_by_name(samples)
        names, fingerprint = _digests(samples, order, image_size)
        try:
            path = (cache_folder() if folder is None else folder) / "pixels" / f"{names}.bin"
        except ConfigError as error:
            logger.warning("No cache of decoded pictures: %s", error)
            return None
        try:
            storage = _open_file(path, fingerprint, len(order), image_size)
        except OSError as error:
            logger.warning(
                "No cache of decoded pictures: %s cannot be used (%s). Set PIXEL_LLM_CACHE to a folder that can be "
                "written to.", shown(path), error.strerror or error,
            )  # fmt: skip
            return None
        return None if storage is None else cls(storage, rows)

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        return len(self._storage.pixels)

    @property
    def path(self) -> Path | None:
        """The file; None in memory."""
        return self._storage.path

    @property
    def num_filled(self) -> int:
        """Rows that are filled."""
        return int(np.count_nonzero(self._storage.is_filled))

    def part(self, numbers: Sequence[int] | NDArray[np.int64]) -> "PixelCache":
        """The same cache for a data set of some of these pictures, told by their numbers here."""
        numbers = np.asarray(numbers, np.int64)
        return PixelCache(self._storage, numbers if self._rows is None else self._rows[numbers])

    def get(self, number: int) -> NDArray[np.uint8] | None:
        """The pixels [3, H, W] of a picture, not to be written to; None where they are not there."""
        row = self._row(number)
        return self._storage.pixels[row] if row < self.capacity and self._storage.is_filled[row] else None

    def put(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """Keep the pixels [3, H, W] of a picture, if there is room."""
        row = self._row(number)
        if row < self.capacity:
            self._storage.pixels[row] = pixels
            self._storage.is_filled[row] = 1

    def take(self, numbers: NDArray[np.int64], out: NDArray[np.uint8]) -> bool:
        """Copy the pixels of all these pictures to `out` [count, 3, H, W]; False where one is not there."""
        rows = numbers if self._rows is None else self._rows[numbers]
        if len(rows) and (rows.max() >= self.capacity or not self._storage.is_filled[rows].all()):
            return False
        np.take(self._storage.pixels, rows, axis=0, out=out, mode="clip")
        return True

    def flush(self) -> None:
        """Make what is filled last: pixels first, then which they are. Nothing to do in memory."""
        storage = self._storage
        if storage.file is None or storage.saved is None or not (storage.is_filled > storage.saved).any():
            return
        filled = storage.is_filled.copy()
        storage.file.flush()
        np.maximum(storage.saved, filled, out=storage.saved)
        storage.file.flush(0, _HEAD_BYTES + _padded(self.capacity))

    def __getstate__(self) -> dict[str, Any]:
        """Without the pixels: a copy in another process that was not forked begins with an empty one."""
        shape = self._storage.pixels.shape
        return {"shape": shape, "rows": self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        capacity, _, height, width = state["shape"]
        self._storage = PixelCache.in_memory(capacity, (height, width))._storage
        self._rows = state["rows"]

    def _row(self, number: int) -> int:
        return number if self._rows is None else int(self._rows[number])


def _flags(capacity: int) -> NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(-1, max(1, capacity)), np.uint8)[:capacity]


def _padded(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _rows_by_name(samples: SampleTable) -> tuple[NDArray[np.int64], list[int]]:
    """(of each sample its row, of each row a sample): rows are in the order of absolute names, one a name."""
    names = list(map(os.path.abspath, samples.names))
    order = sorted(range(len(names)), key=names.__getitem__)
    rows = np.empty(len(names), np.int64)
    firsts: list[int] = []
    for sample in order:
        if not firsts or names[sample] != names[firsts[-1]]:
            firsts.append(sample)
        rows[sample] = len(firsts) - 1
    return rows, firsts


def _digests(samples: SampleTable, order: Sequence[int], image_size: tuple[int, int]) -> tuple[str, bytes]:
    """What the pictures are called, for the name of the file, and 32 bytes that change with any of them.

    The names are absolute: two folders that are both called `my_pictures` would else take turns in one file.
    """
    size = repr(image_size).encode()
    names = hashlib.blake2b(size, digest_size=10)
    # Another release may decode or scale to other bytes.
    states = hashlib.blake2b(f"{size!r} {PIL.__version__} {torch.__version__}".encode(), digest_size=32)
    for row in order:
        path = samples.path(row)
        names.update(f"{os.path.abspath(path)}\0".encode(errors="surrogatepass"))  # noqa: PTH100
        states.update(f"{content_place(path)}\0".encode(errors="surrogatepass"))
        try:
            stamp = content_stamp(path)
            states.update(f"{stamp.size}\0{stamp.modified_ns}\0".encode())
        except (OSError, ValueError):  # not there, or a name that can be none
            states.update(b"gone\0")
    return names.hexdigest(), states.digest()


def _open_file(path: Path, fingerprint: bytes, count: int, image_size: tuple[int, int]) -> _Storage | None:
    """The file of these pictures, made anew where it is not there or not theirs. None where there is no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _forget_unused(path)
    storage = _mapped(path, fingerprint, count, image_size)
    row_bytes = 3 * image_size[0] * image_size[1]
    is_cramped = storage is not None and len(storage.pixels) < count <= room_in(path.parent) // row_bytes
    if storage is None or is_cramped:
        if path.exists():
            reason = "it has too little room" if is_cramped else "it is of an earlier state of the pictures"
            logger.info("The cache %s is dropped: %s.", path, reason)
            path.unlink()
        capacity = min(count, max(0, room_in(path.parent)) // row_bytes)
        if capacity == 0:
            logger.warning(
                "No cache of decoded pictures: the disk of %s has too little free space. Make room, or set "
                "PIXEL_LLM_CACHE to a folder on another disk.", shown(path.parent),
            )  # fmt: skip
            return None
        _make_file(path, fingerprint, capacity, row_bytes)
        storage = _mapped(path, fingerprint, count, image_size)
    if storage is None:  # another process has put its own in the place meanwhile
        logger.warning("No cache of decoded pictures: %s is in use for other pictures.", path)
    elif len(storage.pixels) < count:
        logger.warning(
            "The cache %s holds %d of %d pictures: there is no room for more on its disk. PIXEL_LLM_CACHE moves it.",
            path, len(storage.pixels), count,
        )  # fmt: skip
    return storage


def _mapped(path: Path, fingerprint: bytes, count: int, image_size: tuple[int, int]) -> _Storage | None:
    """The file that is there, in memory; None where there is none, or it is not that of these pictures."""
    try:
        with path.open("r+b") as opened:
            size = os.fstat(opened.fileno()).st_size
            file = mmap.mmap(opened.fileno(), size) if size >= _HEAD_BYTES else None
    except FileNotFoundError:
        return None
    if file is None:
        return None
    start = len(_MAGIC)
    capacity = int.from_bytes(file[start + 32 : start + 40], "little")
    is_ours = file[:start] == _MAGIC and file[start : start + 32] == fingerprint
    first = _HEAD_BYTES + _padded(capacity)
    num_bytes = capacity * 3 * image_size[0] * image_size[1]
    if not is_ours or not 0 < capacity <= count or size != first + num_bytes:
        file.close()
        return None
    os.utime(path)  # in use
    block = np.frombuffer(file, np.uint8)
    saved = block[_HEAD_BYTES : _HEAD_BYTES + capacity]
    is_filled = _flags(capacity)
    is_filled[:] = saved == 1
    return _Storage(block[first : first + num_bytes].reshape(capacity, 3, *image_size), is_filled, saved, file, path)


def _forget_unused(path: Path) -> None:
    """Remove the files beside this one that no run has opened for a long time."""
    for other in path.parent.glob("*.bin"):
        try:
            age = time.time() - other.stat().st_mtime
            if other != path and age > _FORGOTTEN_SECONDS:
                logger.info("The cache %s was not used for %d days and is removed.", other, age // 86400)
                other.unlink()
        except OSError as error:  # gone already, or not ours to remove: it costs room, nothing else
            logger.debug("The cache %s stays: %s", other, error)


def _make_file(path: Path, fingerprint: bytes, capacity: int, row_bytes: int) -> None:
    """An empty file with all of its space reserved: writing to mapped memory on a full disk would end the process."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            _reserve(file, _HEAD_BYTES + _padded(capacity) + capacity * row_bytes)
            file.write(_MAGIC + fingerprint + capacity.to_bytes(8, "little"))
        beside.replace(path)
    except BaseException:  # Ctrl-C too: it may be most of the disk
        beside.unlink(missing_ok=True)
        raise


def _reserve(file: BinaryIO, size: int) -> None:
    """Take `size` bytes of the disk, all zero, and stand at the beginning again.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _CHUNK_BYTES):
        file.write(bytes(min(_CHUNK_BYTES, size - start)))
    file.seek(0)
