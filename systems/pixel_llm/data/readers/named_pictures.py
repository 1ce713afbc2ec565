"""Names of pictures with their captions -> samples: what all formats share that name pictures in a file.

Names are looked for where `PicturePlaces` says, and in the shards that they lead into. Two names of one picture bring
their captions together; names without a picture and pictures without a caption are passed over and counted; if nothing
is left, the error says what was looked for and where.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.picture_path import PackedPicture
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.data.readers.packed_names import find_packed
from systems.pixel_llm.data.readers.reader import NO_SUCH_PICTURE, Reading, first_names, told_as
from systems.pixel_llm.data.readers.rows import Rows
from systems.pixel_llm.data.sample_table import SampleTable
from systems.pixel_llm.errors import DatasetError

__all__ = ["read_named_pictures", "reading_of_rows"]


def read_named_pictures(
    captions_by_name: Mapping[str, Sequence[str]],
    *,
    caption_format: str,
    title: str,
    dataset_dir: Path,
    manifest: Path,
    passed_over: Mapping[str, Sequence[str]] | None = None,
) -> Reading:
    """The samples of the pictures that are there. `passed_over` is what was skipped before.

    Raises:
        DatasetError: a name leaves the folder or cannot be one, or nothing is left.
    """
    places = PicturePlaces(roots=[manifest.parent, dataset_dir], named_in=manifest)
    found: dict[str, str | PackedPicture] = dict(places.find(list(captions_by_name)))
    found |= find_packed([name for name in captions_by_name if name not in found], places)
    captions_by_path: dict[str | PackedPicture, tuple[str, ...]] = {}
    missing, empty = [], []
    for name in sorted(captions_by_name):
        path, captions = found.get(name), captions_by_name[name]
        if path is None:
            missing.append(name)
        elif captions:
            captions_by_path[path] = (*captions_by_path.get(path, ()), *captions)
        else:
            empty.append(name)
    if not captions_by_path:
        what = "has a caption" if empty and not missing else "is there"
        raise DatasetError(
            f"None of the {len(captions_by_name)} pictures that {shown(manifest)} names {what} "
            f"({first_names(missing or empty)}). Names are looked for beside the manifest, then in "
            f"{shown(dataset_dir)} and in the one folder below it that holds them. Correct the names, or give the "
            "folder that holds the pictures."
        )
    return Reading(
        caption_format=caption_format,
        dataset_dir=dataset_dir,
        manifest=manifest,
        samples=SampleTable.of_columns(list(captions_by_path), list(captions_by_path.values())),
        passed_over={NO_SUCH_PICTURE: missing, "an empty caption": empty, **(passed_over or {})},
        told=told_as(title, dataset_dir, manifest),
    )


def reading_of_rows(rows: Rows, *, caption_format: str, title: str, dataset_dir: Path) -> Reading:
    """The samples of the rows.

    Raises:
        DatasetError: there is no row, a name leaves the folder, or none of the pictures is there.
    """
    if not rows.captions_by_name:
        raise DatasetError(f"{shown(rows.path)} has no rows. It must name pictures and their captions.")
    return read_named_pictures(
        rows.captions_by_name,
        caption_format=caption_format,
        title=title,
        dataset_dir=dataset_dir,
        manifest=rows.path,
        passed_over={"a row given twice, which counts once": rows.repeated},
    )
