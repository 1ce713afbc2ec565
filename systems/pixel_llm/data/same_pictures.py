"""Which pictures belong on one side of a split: those that look the same, and those that one COCO image id names.

An id is in the name, so it costs nothing to look; for the rest every picture has to be opened once. Where they are more
than `MAX_LOOKED_AT`, that would keep a user waiting for minutes, and is left to those who ask for it.
`files_on_both_sides` finds what no split makes, but a user's own two lists may hold.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from systems.pixel_llm.data.inspection_pictures import BadPicture, ScannedPicture
from systems.pixel_llm.data.near_duplicates import groups_of_near_duplicates
from systems.pixel_llm.data.picture_path import PicturePath

__all__ = ["MAX_LOOKED_AT", "files_on_both_sides", "groups_of_coco_ids", "groups_of_like_pictures"]

AnyPath = TypeVar("AnyPath", bound=str | PicturePath)

MAX_LOOKED_AT = 50_000
"""Pictures that are opened without being asked for: half a minute on two cores."""

_ID_DIGITS = 12
_COCO_NAME = re.compile(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{12})", re.ASCII)


def groups_of_coco_ids(paths: Iterable[PicturePath]) -> list[list[PicturePath]]:
    """The pictures that share an id, such as `COCO_val2014_000000391895.jpg` and `000000391895.jpg`, in order."""
    by_id: dict[str, PicturePath | list[PicturePath]] = {}
    for path in paths:
        stem = path.name.rpartition(".")[0]
        # A million names: most of them need no more than this to be told apart.
        if stem[-_ID_DIGITS:].isdigit() and (match := _COCO_NAME.fullmatch(stem)):
            others = by_id.setdefault(match[1], path)
            if isinstance(others, list):
                others.append(path)
            elif others is not path:
                by_id[match[1]] = [others, path]
    return [group for group in by_id.values() if isinstance(group, list)]


def groups_of_like_pictures(scanned: Sequence[ScannedPicture | BadPicture]) -> list[list[PicturePath]]:
    """The pictures that nearly or quite look the same, in order."""
    pictures = [each for each in scanned if isinstance(each, ScannedPicture)]
    groups = groups_of_near_duplicates([each.fingerprint for each in pictures])
    return [[pictures[index].path for index in group] for group in groups]


def files_on_both_sides(train: Sequence[AnyPath], validation: Iterable[AnyPath]) -> list[AnyPath]:
    """The paths of `train` that lead to a file of `validation`, through links too, in order."""
    for_validation = set(_real_names(validation))
    return [path for path, name in zip(train, _real_names(train), strict=True) if name in for_validation]


def _real_names(paths: Iterable[str | PicturePath]) -> Iterator[str]:
    real_folders: dict[str, str] = {}
    for each in paths:
        path = os.fspath(each)
        folder, name = os.path.split(path)
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        is_link = os.path.islink(path)  # noqa: PTH114  a Path for each of a million is slow
        yield os.path.realpath(path) if is_link else f"{real_folders[folder]}{os.sep}{name}"
