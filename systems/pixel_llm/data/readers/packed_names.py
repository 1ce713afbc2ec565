"""Names that lead into a larger file, `train-000.tar/cat.jpg`: what `pixel-llm split` calls pictures inside shards.

The file is looked for like any picture, with the same care for where it lies. Its index then has the picture, or not.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from systems.pixel_llm.data.picture_path import PackedPicture
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.data.readers.parquet_pictures import pictures_in_table
from systems.pixel_llm.data.readers.webdataset import pictures_in_tar
from systems.pixel_llm.errors import DatasetError

__all__ = ["find_packed", "find_packed_by_path"]

_INSIDE = re.compile(r"(.+?(\.tar|\.parquet))/(.+)", re.IGNORECASE | re.DOTALL)
_PICTURES_IN = {".tar": pictures_in_tar, ".parquet": pictures_in_table}


def find_packed(names: Sequence[str], places: PicturePlaces) -> dict[str, PackedPicture]:
    """The pictures, by name, of those names that lead into a shard which has them.

    Raises:
        DatasetError: a shard cannot be read, or lies outside of where pictures may be.
    """
    names_in = _by_shard(names)
    found: dict[str, PackedPicture] = {}
    for shard, path in places.find(list(names_in)).items():
        found |= _pictures(names_in[shard], Path(path))
    return found


def find_packed_by_path(paths: Iterable[str]) -> dict[str, PackedPicture]:
    """The same for full paths, as a run writes them down: whose shard is gone or damaged is not among what is found."""
    found: dict[str, PackedPicture] = {}
    for shard, matches in _by_shard(paths).items():
        with suppress(DatasetError, OSError):
            found |= _pictures(matches, Path(shard))
    return found


def _by_shard(names: Iterable[str]) -> dict[str, list[re.Match[str]]]:
    names_in: dict[str, list[re.Match[str]]] = defaultdict(list)
    for name in names:
        if (match := _INSIDE.fullmatch(name)) is not None:
            names_in[match[1]].append(match)
    return names_in


def _pictures(matches: Sequence[re.Match[str]], shard: Path) -> dict[str, PackedPicture]:
    pictures = _PICTURES_IN[matches[0][2].lower()](shard)
    return {match[0]: pictures[match[3]] for match in matches if match[3] in pictures}
