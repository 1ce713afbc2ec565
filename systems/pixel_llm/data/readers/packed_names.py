"""Names that lead into a larger file, `train-000.tar/cat.jpg`: what `pixel-llm split` calls pictures inside shards.

The file is looked for like any picture, with the same care for where it lies. Its index then has the picture, or not.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from systems.pixel_llm.data.picture_path import PackedPicture
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.data.readers.parquet_pictures import pictures_in_table
from systems.pixel_llm.data.readers.webdataset import pictures_in_tar

__all__ = ["find_packed"]

_INSIDE = re.compile(r"(.+?(\.tar|\.parquet))/(.+)", re.IGNORECASE | re.DOTALL)
_PICTURES_IN = {".tar": pictures_in_tar, ".parquet": pictures_in_table}


def find_packed(names: Sequence[str], places: PicturePlaces) -> dict[str, PackedPicture]:
    """The pictures, by name, of those names that lead into a shard which has them.

    Raises:
        DatasetError: a shard cannot be read, or lies outside of where pictures may be.
    """
    matches = [match for name in names if (match := _INSIDE.fullmatch(name)) is not None]
    names_in: dict[str, list[re.Match[str]]] = defaultdict(list)
    for match in matches:
        names_in[match[1]].append(match)
    found: dict[str, PackedPicture] = {}
    for shard, path in places.find(list(names_in)).items():
        pictures = _PICTURES_IN[names_in[shard][0][2].lower()](Path(path))
        found |= {match[0]: pictures[match[3]] for match in names_in[shard] if match[3] in pictures}
    return found
