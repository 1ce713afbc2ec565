"""What files of a folder will hold, copied into memory, to be written later while the original goes on changing.

A `FolderSnapshot` takes files as a `FolderWriter` does. Its memory is kept from one snapshot to the next: to fill pages
that are there already takes a fraction of the time of asking for new ones.
Layer 1, no torch.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from systems.pixel_llm.block_digests import BLOCK_BYTES, block_threads
from systems.pixel_llm.folder_writer import FolderWriter

__all__ = ["FolderSnapshot"]


class FolderSnapshot:
    """Files in memory, by name. Take them inside `taking`, once; `write_to` writes them, as often as needed."""

    def __init__(self) -> None:
        self._buffers: dict[str, bytearray] = {}
        self._sizes: dict[str, int] = {}
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def taking(self) -> Iterator["FolderSnapshot"]:
        """Forget the files of before, and take those of now."""
        self._sizes = {}
        with block_threads() as pool:
            self._pool = pool
            try:
                yield self
            finally:
                self._pool = None

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(self._sizes.values())

    @contextmanager
    def file(self, name: str) -> Iterator["SnapshotFile"]:
        """A file, complete when the block ends."""
        assert self._pool is not None, "outside of `taking`"
        file = SnapshotFile(self._buffers.setdefault(name, bytearray()), self._pool)
        try:
            yield file
        finally:
            file.finish()
        self._sizes[name] = file.size

    def write(self, name: str, content: bytes) -> None:
        """A file with this content."""
        with self.file(name) as file:
            file.append(memoryview(content))

    def write_to(self, writer: FolderWriter) -> None:
        """Write all files.

        Raises:
            OSError: the disk is full or failing.
        """
        for name, size in self._sizes.items():
            with writer.file(name) as file:
                file.append(memoryview(self._buffers[name])[:size])


class SnapshotFile:
    """A file in memory that grows at its end, copied by all cores."""

    def __init__(self, buffer: bytearray, pool: ThreadPoolExecutor) -> None:
        self._buffer, self._pool = buffer, pool
        self._jobs: list[Future[None]] = []
        self.size = 0

    def expect(self, num_bytes: int) -> None:
        """So many bytes will be appended: memory for them is made at once."""
        self._make_room(self.size + num_bytes)

    def append(self, content: memoryview) -> None:
        """Append bytes, which must stay as they are until the file is complete."""
        content = content.cast("B")
        end = self.size + len(content)
        self._make_room(end)
        for start in range(0, len(content), BLOCK_BYTES):
            piece = content[start : start + BLOCK_BYTES]
            self._jobs.append(self._pool.submit(_copy, piece, self._buffer, self.size + start))
        self.size = end

    def finish(self) -> None:
        """Wait until all is copied."""
        for job in self._jobs:
            job.result()
        self._jobs = []

    def _make_room(self, num_bytes: int) -> None:
        if num_bytes > len(self._buffer):
            self.finish()  # memory cannot move while it is written
            self._buffer.extend(bytes(num_bytes - len(self._buffer)))


def _copy(content: memoryview, buffer: bytearray, start: int) -> None:
    # numpy lets other threads run while it copies.
    np.copyto(np.frombuffer(buffer, np.uint8, len(content), start), np.frombuffer(content, np.uint8))
