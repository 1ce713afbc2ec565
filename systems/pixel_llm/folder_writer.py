"""Files of a folder, each written once from beginning to end, its bytes on the disk and its digest known at its end.

What is hashed is what the program meant to write, not what it reads back: a byte that changes on its way to the disk
is found by the next reader.
Layer 1, no torch.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from systems.pixel_llm.block_digests import BLOCK_BYTES, block_threads, write_block

__all__ = ["FileDigest", "FileSink", "FileWriter", "FolderSink", "FolderWriter", "folder_writer"]

_MAX_PENDING = 4
"""Blocks of one file that are under way at once."""


class FileSink(Protocol):
    """A file that grows at its end."""

    def append(self, content: memoryview) -> None:
        """Append bytes, which must stay as they are until the file is complete."""


class FolderSink(Protocol):
    """Where files go: a `FolderWriter`, or memory (`folder_snapshot.py`)."""

    def file(self, name: str) -> AbstractContextManager[FileSink]:
        """A file, complete when the block ends."""

    def write(self, name: str, content: bytes) -> None:
        """A file with this content."""


@dataclass(frozen=True)
class FileDigest:
    """What a file is, to the byte."""

    size: int
    sha256: tuple[str, ...]
    """Of each block, in hexadecimal (`block_digests.py`)."""


class FolderWriter:
    """Writes files into one folder; made by `folder_writer`.

    Attributes:
        folder: where they go.
        digests: of the files that are complete, by name.
    """

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.folder = folder
        self.digests: dict[str, FileDigest] = {}
        self._pool = pool

    @contextmanager
    def file(self, name: str) -> Iterator["FileWriter"]:
        """A file `name`, made anew, complete and synced to the disk when the block ends.

        Raises:
            OSError: the disk is full or failing.
        """
        path = self.folder / name
        with path.open("wb", buffering=0) as file:
            writer = FileWriter(path, self._pool)
            try:
                yield writer
                digest = writer.finish()
            finally:
                writer.give_up()
            os.fsync(file.fileno())
        self.digests[name] = digest

    def write(self, name: str, content: bytes) -> None:
        """A file made anew with this content, complete and synced.

        Raises:
            OSError: as `file`.
        """
        with self.file(name) as file:
            file.append(memoryview(content))


class FileWriter:
    """A file that grows at its end, in blocks that threads write.

    Args:
        path: of the file, which is empty.
        pool: the threads.
    """

    def __init__(self, path: Path, pool: ThreadPoolExecutor) -> None:
        self._path, self._pool = path, pool
        self._pieces: list[memoryview] = []
        self._num_in_block = self._size = 0
        self._pending: deque[Future[str]] = deque()
        self._digests: list[str] = []

    def append(self, content: memoryview) -> None:
        """Append bytes, which must stay as they are until the file is complete.

        Raises:
            OSError: the disk is full or failing; bytes given before may be the ones that failed.
        """
        content = content.cast("B")
        while len(content):
            piece = content[: BLOCK_BYTES - self._num_in_block]
            self._pieces.append(piece)
            self._num_in_block += len(piece)
            content = content[len(piece) :]
            if self._num_in_block == BLOCK_BYTES:
                self._send_block()

    def finish(self) -> FileDigest:
        """Wait until all of it is written.

        Raises:
            OSError: the disk is full or failing.
        """
        if self._num_in_block:
            self._send_block()
        while self._pending:
            self._digests.append(self._pending.popleft().result())
        return FileDigest(self._size, tuple(self._digests))

    def give_up(self) -> None:
        """Leave what is not yet written, and wait for what is being written."""
        for job in self._pending:
            job.cancel()
        wait([job for job in self._pending if not job.cancelled()])
        self._pending.clear()

    def _send_block(self) -> None:
        self._pending.append(self._pool.submit(write_block, self._path, self._size, self._pieces))
        self._size += self._num_in_block
        self._pieces, self._num_in_block = [], 0
        if len(self._pending) >= _MAX_PENDING:  # else what is given piles up in memory
            self._digests.append(self._pending.popleft().result())


@contextmanager
def folder_writer(folder: Path) -> Iterator[FolderWriter]:
    """A writer into `folder`, which exists."""
    with block_threads() as pool:
        yield FolderWriter(folder, pool)
