"""Pictures that are in the data more than once: copies of one file, and different files that look the same.

Copies have one fingerprint, so only files whose fingerprints are alike are read again to compare their content. A group
with pictures on both sides of the split into training and validation is a leak: the validation score then measures
memory.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from systems.pixel_llm.data.inspection_pictures import ScannedPicture
from systems.pixel_llm.data.near_duplicates import groups_of_near_duplicates

__all__ = ["DIGEST_BYTES", "DuplicateGroup", "file_digest", "find_duplicates"]

DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Pictures that look the same, at least two."""

    paths: tuple[Path, ...]
    is_exact: bool
    """Whether all of them are copies of one file."""
    num_copies: int
    """Files beyond the first of each content: what could be deleted without losing a byte."""
    validation_paths: tuple[Path, ...]
    """Those that are for validation."""

    @property
    def is_leak(self) -> bool:
        """Whether some are for training and some for validation."""
        return 0 < len(self.validation_paths) < len(self.paths)


def file_digest(path: Path) -> bytes:
    """What files of the same content have in common; of `DIGEST_BYTES` for one that can be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).digest()
    except OSError:
        # It was there a moment ago. A file that goes away while it is looked at is a copy of none.
        return b"not readable, a copy of none: " + os.fsencode(path)


def find_duplicates(
    pictures: Sequence[ScannedPicture],
    *,
    validation_paths: Collection[Path] = (),
    digest: Callable[[Path], bytes] = file_digest,
) -> list[DuplicateGroup]:
    """The groups of pictures that look the same, in the order of `pictures`, leaks and all.

    `digest` says of files that look the same whether they are copies.
    """
    for_validation = set(validation_paths)
    groups = []
    for indices in groups_of_near_duplicates([picture.fingerprint for picture in pictures]):
        paths = tuple(pictures[index].path for index in indices)
        num_contents = len({digest(path) for path in paths})
        groups.append(
            DuplicateGroup(
                paths=paths,
                is_exact=num_contents == 1,
                num_copies=len(paths) - num_contents,
                validation_paths=tuple(path for path in paths if path in for_validation),
            )
        )
    return groups
