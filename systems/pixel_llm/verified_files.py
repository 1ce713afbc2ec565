"""Files compared with what a manifest says of them, and read into memory in the same pass.

What is hashed is the memory that is then used: the file is read once, and a change on the disk a moment later changes
nothing. Blocks are read and hashed side by side (`block_digests.py`). The file is not mapped: a disk that fails under a
mapping ends the process, and a failed read is an error to go on from.
Layer 1, no torch.
"""

import hashlib
import mmap
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from systems.pixel_llm.block_digests import BLOCK_BYTES, block_threads, digest_blocks, in_order, read_block
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.plain_files import open_plain, plain_size

__all__ = ["FileEntry", "compare_files", "new_memory", "read_files"]

FileEntry = Mapping[str, Any]
"""What a manifest says of a file: `size` in bytes; `sha256`, a list of one a block or, in version 1, of the whole."""


def compare_files(folder: Path, entries: Mapping[str, FileEntry], *, deep: bool) -> None:
    """Compare files of `folder` with their entries: sizes and, where `deep`, every byte.

    Raises:
        CheckpointError: a file is missing, no plain file, of another size or changed.
    """
    for name, entry in entries.items():
        _check_size(folder / name, entry)
    if deep:
        read_files(folder, entries, keep=lambda name: False)


def read_files(folder: Path, entries: Mapping[str, FileEntry], *, keep: Callable[[str], bool]) -> dict[str, memoryview]:
    """Compare every byte of files of `folder` with their entries, and give the content of those to `keep`.

    Returns:
        File name -> content, in memory that can be written to.

    Raises:
        CheckpointError: a file is missing, no plain file, of another size or changed, or larger than memory.
    """
    for name, entry in entries.items():
        _check_size(folder / name, entry)
    contents: dict[str, memoryview] = {}
    with block_threads() as pool:
        for name, entry in entries.items():
            path, expected = folder / name, entry["sha256"]
            try:
                if keep(name):
                    contents[name] = new_memory(entry["size"])
                    is_same = _reads_as(expected, path, contents[name], pool)
                else:
                    is_same = _is_on_disk(expected, path, pool)
            except (OSError, ValueError, MemoryError) as error:  # a file that changes meanwhile has other blocks
                raise _damaged(path, f"it cannot be read ({error})") from error
            if not is_same:
                raise _damaged(path, "its content is not what was saved (sha256 differs)")
    return contents


def new_memory(size: int) -> memoryview:
    """Memory for `size` bytes, which the system hands out page by page as it is filled, by many threads at once.

    Raises:
        OSError, MemoryError: there is not so much.
    """
    if not size:
        return memoryview(bytearray())
    if not hasattr(mmap, "MAP_PRIVATE"):
        return memoryview(mmap.mmap(-1, size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # then a page is 2 MiB where it can be, and few have to be asked for
        with suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def _check_size(path: Path, entry: FileEntry) -> None:
    try:
        size = plain_size(path)
    except FileNotFoundError as error:
        raise _damaged(path, "it is missing") from error
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    if size != entry["size"]:
        raise _damaged(path, f"it has {size} bytes and its manifest says {entry['size']}")


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{path}: damaged, {problem}. Choose another checkpoint.")


def _reads_as(expected: str | list[str], path: Path, content: memoryview, pool: ThreadPoolExecutor) -> bool:
    """Whether the file, as it is read into `content`, is the one with these digests."""
    if isinstance(expected, str):
        return read_block(path, 0, content) == expected

    def jobs() -> Iterator[Future[str]]:
        for start in range(0, len(content), BLOCK_BYTES):
            yield pool.submit(read_block, path, start, content[start : start + BLOCK_BYTES])

    return all(found == wanted for found, wanted in zip(in_order(jobs()), expected, strict=True))


def _is_on_disk(expected: str | list[str], path: Path, pool: ThreadPoolExecutor) -> bool:
    if isinstance(expected, str):
        with open_plain(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == expected
    return all(found == wanted for found, wanted in zip(digest_blocks(path, pool), expected, strict=True))
