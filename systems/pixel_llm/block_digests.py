"""The digest of a file block by block, so that all cores can work on it, while it is written and while it is read.

A file's digest is the list of the sha256 of its blocks of 8 MiB (the last one may be shorter; an empty file has none).
Hashing, reading and writing let other threads run, so a few blocks are under way at once; in each, one piece after the
other is hashed and moved to or from the file while the processor has it at hand.
Layer 1, no torch.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

__all__ = ["BLOCK_BYTES", "block_threads", "digest_blocks", "in_order", "read_block", "write_block"]

BLOCK_BYTES = 8 << 20
_PIECE_BYTES = 1 << 20
_NUM_THREADS = min(4, os.cpu_count() or 1)
_MAX_PENDING = 2 * _NUM_THREADS
"""Blocks whose memory is held at once."""


@contextmanager
def block_threads() -> Iterator[ThreadPoolExecutor]:
    """The threads that work on blocks. All is done or given up when the context ends."""
    pool = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="pixel-llm-block")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def write_block(path: Path, offset: int, pieces: Sequence[memoryview]) -> str:
    """Write the pieces, one after the other, from `offset` on into the file, which exists; give their sha256.

    Raises:
        OSError: the disk is full or failing.
    """
    digest = hashlib.sha256()
    with path.open("r+b", buffering=0) as file:  # each thread has a position of its own in it
        file.seek(offset)
        for piece in pieces:
            for start in range(0, len(piece), _PIECE_BYTES):
                part = piece[start : start + _PIECE_BYTES]
                digest.update(part)
                while len(part):
                    part = part[file.write(part) :]
    return digest.hexdigest()


def read_block(path: Path, offset: int, buffer: memoryview) -> str:
    """Fill `buffer` from the file, from `offset` on, and give the sha256 of what was read: less where the file ends.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while len(buffer) and (num_read := file.readinto(buffer[:_PIECE_BYTES])):
            digest.update(buffer[:num_read])
            buffer = buffer[num_read:]
    return digest.hexdigest()


def digest_blocks(path: Path, pool: ThreadPoolExecutor) -> Iterator[str]:
    """The sha256 of the blocks of the file, in order.

    Raises:
        OSError: it cannot be read.
    """
    return in_order(pool.submit(_digest_at, path, offset) for offset in range(0, path.stat().st_size, BLOCK_BYTES))


def in_order(jobs: Iterable[Future[str]]) -> Iterator[str]:
    """The results of jobs in their order, with a few of them under way. Where one fails, none is running any more.

    Args:
        jobs: each is submitted when it is taken.
    """
    pending: deque[Future[str]] = deque()
    try:
        for job in jobs:
            pending.append(job)
            if len(pending) > _MAX_PENDING:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for job in pending:
            job.cancel()
        wait([job for job in pending if not job.cancelled()])


def _digest_at(path: Path, offset: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        end, piece = offset + BLOCK_BYTES, memoryview(bytearray(_PIECE_BYTES))
        while offset < end and (num_read := file.readinto(piece[: end - offset])):
            digest.update(piece[:num_read])
            offset += num_read
    return digest.hexdigest()
