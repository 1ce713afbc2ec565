"""Pictures that are in the data more than once: copies of one file, and different files that look the same.

Copies have one fingerprint and one size, so only files that are alike in both are read again, by threads, to compare
their content. A group with pictures on both sides of the split into training and validation is a leak: the validation
score then measures memory.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from systems.pixel_llm.data.inspection_pictures import ScannedPicture
from systems.pixel_llm.data.near_duplicates import groups_of_near_duplicates
from systems.pixel_llm.data.picture_path import PicturePath, content_stamp, open_picture_bytes
from systems.pixel_llm.data.threads import default_threads
from systems.pixel_llm.errors import DatasetError

__all__ = ["DIGEST_BYTES", "DuplicateGroup", "file_digest", "find_duplicates"]

DIGEST_BYTES = 16

_FILES_AT_ONCE = 64
"""Handed to a thread together."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Pictures that look the same, at least two."""

    paths: tuple[PicturePath, ...]
    is_exact: bool
    """Whether all of them are copies of one file."""
    num_copies: int
    """Files beyond the first of each content: what could be deleted without losing a byte."""
    copied_paths: tuple[PicturePath, ...] = ()
    """Those that have a copy among the others."""
    validation_paths: tuple[PicturePath, ...]
    """Those that are for validation."""

    @property
    def is_leak(self) -> bool:
        """Whether some are for training and some for validation."""
        return 0 < len(self.validation_paths) < len(self.paths)


def file_digest(path: PicturePath) -> bytes:
    """What pictures of the same content have in common; of `DIGEST_BYTES` for one that can be read."""
    try:
        with open_picture_bytes(path) as file:
            digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
            while part := file.read(_CHUNK_BYTES):
                digest.update(part)
            return digest.digest()
    except (OSError, DatasetError):
        # It was there a moment ago. A file that goes away while it is looked at is a copy of none.
        return b"not readable, a copy of none: " + os.fsencode(path)


def find_duplicates(
    pictures: Sequence[ScannedPicture],
    *,
    validation_paths: Collection[PicturePath] = (),
    digest: Callable[[PicturePath], bytes] = file_digest,
) -> list[DuplicateGroup]:
    """The groups of pictures that look the same, in the order of `pictures`, leaks and all.

    `digest` says of files that look the same whether they are copies.
    """
    for_validation = set(validation_paths)
    groups = [
        tuple(pictures[index].path for index in group)
        for group in groups_of_near_duplicates([picture.fingerprint for picture in pictures])
    ]
    content_of = _contents(groups, digest)
    found = []
    for paths in groups:
        times = Counter(content_of.get(path, path) for path in paths)
        num_contents = len(times)
        found.append(
            DuplicateGroup(
                paths=paths,
                is_exact=num_contents == 1,
                num_copies=len(paths) - num_contents,
                copied_paths=tuple(path for path in paths if times[content_of.get(path, path)] > 1),
                validation_paths=tuple(path for path in paths if path in for_validation),
            )
        )
    return found


def _contents(
    groups: Sequence[Sequence[PicturePath]], digest: Callable[[PicturePath], bytes]
) -> dict[PicturePath, bytes]:
    """The digests of those pictures that have the size of another in their group."""
    doubtful: list[PicturePath] = []
    for paths in groups:
        sizes = [_size(path) for path in paths]
        times = Counter(sizes)
        doubtful += [path for path, size in zip(paths, sizes, strict=True) if size is not None and times[size] > 1]
    parts = [doubtful[start : start + _FILES_AT_ONCE] for start in range(0, len(doubtful), _FILES_AT_ONCE)]
    with ThreadPoolExecutor(default_threads()) as pool:
        digests = chain.from_iterable(pool.map(lambda part: [digest(path) for path in part], parts))
        return dict(zip(doubtful, digests, strict=True))


def _size(path: PicturePath) -> int | None:
    try:
        return content_stamp(path).size
    except OSError:
        return None
