"""What lies in a data folder and was not paired: pictures that no caption belongs to, captions without a picture.

Pictures are looked for in all folders below the data folder, by their names; of captions, and of pictures inside
larger files, the reader has told which it passed over.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from systems.pixel_llm.data.folder import list_folder, walk_folder
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.readers.reader import LONE_CAPTION, NO_SUCH_PICTURE
from systems.pixel_llm.data.readers.shards import EMPTY_CAPTION, NO_CAPTION
from systems.pixel_llm.errors import DatasetError

__all__ = ["UnpairedFiles", "find_unpaired"]

_WITHOUT_PICTURE = (NO_SUCH_PICTURE, LONE_CAPTION)


@dataclass(frozen=True)
class UnpairedFiles:
    """What training passes over."""

    pictures: tuple[Path, ...] = ()
    """Pictures that no caption belongs to, or an empty one."""
    captions: tuple[str, ...] = ()
    """Caption files, or names in a manifest, whose picture is not there."""


def find_unpaired(
    dataset_dir: Path, paired: Collection[PicturePath], *, passed_over: Mapping[str, Sequence[str]]
) -> UnpairedFiles:
    """What was left over in `dataset_dir` by a reader that found the pictures `paired` and passed over these names."""
    used = {os.path.normpath(path) for path in paired}
    try:
        listings = list(walk_folder(list_folder(dataset_dir), at_a_glance=True))
    except DatasetError:  # the reader of the folder has met the same and said so
        listings = []
    paths = (listing.folder / name for listing in listings for name in listing.pictures)
    inside = (Path(name) for reason in (NO_CAPTION, EMPTY_CAPTION) for name in passed_over.get(reason, ()))
    return UnpairedFiles(
        pictures=(*(path for path in paths if os.path.normpath(path) not in used), *inside),
        captions=tuple(name for reason in _WITHOUT_PICTURE for name in passed_over.get(reason, ())),
    )
