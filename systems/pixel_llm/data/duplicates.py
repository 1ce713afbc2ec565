"""Pictures that are in the data more than once: copies of one file, and different files that look the same.

Copies have one fingerprint, so only files whose fingerprints are alike are read again to compare their content. A group
with pictures on both sides of the split into training and validation is a leak: the validation score then measures
memory.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from systems.pixel_llm.data.inspection_pictures import ScannedPicture
from systems.pixel_llm.data.near_duplicates import groups_of_near_duplicates
from systems.pixel_llm.data.picture_path import PicturePath, open_picture_bytes
from systems.pixel_llm.errors import DatasetError

__all__ = ["DuplicateGroup", "find_duplicates"]

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Pictures that look the same, at least two."""

    paths: tuple[PicturePath, ...]
    is_exact: bool
    """Whether all of them are copies of one file."""
    num_copies: int
    """Files beyond the first of each content: what could be deleted without losing a byte."""
    validation_paths: tuple[PicturePath, ...]
    """Those that are for validation."""

    @property
    def is_leak(self) -> bool:
        """Whether some are for training and some for validation."""
        return 0 < len(self.validation_paths) < len(self.paths)


def find_duplicates(
    pictures: Sequence[ScannedPicture], *, validation_paths: Collection[PicturePath] = ()
) -> list[DuplicateGroup]:
    """The groups of pictures that look the same, in the order of `pictures`, leaks and all."""
    for_validation = set(validation_paths)
    groups = []
    for indices in groups_of_near_duplicates([picture.fingerprint for picture in pictures]):
        paths = tuple(pictures[index].path for index in indices)
        num_contents = len({_digest(path) for path in paths})
        groups.append(
            DuplicateGroup(
                paths=paths,
                is_exact=num_contents == 1,
                num_copies=len(paths) - num_contents,
                validation_paths=tuple(path for path in paths if path in for_validation),
            )
        )
    return groups


def _digest(path: PicturePath) -> bytes:
    try:
        with open_picture_bytes(path) as file:
            digest = hashlib.blake2b(digest_size=16)
            while part := file.read(_CHUNK_BYTES):
                digest.update(part)
            return digest.digest()
    except (OSError, DatasetError):
        # It was there a moment ago. A file that goes away while it is looked at is a copy of none.
        return str(path).encode(errors="surrogateescape")
