"""`kohya`: text pairs in folders named N_name, as tools that train image generators ask for (`42_Mickey`).

There N says how often a picture is shown for each time that another is. Here all count alike unless N is asked for: it
is told, and goes with the reading.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from systems.pixel_llm.data.folder import FolderListing, list_folder, shown, walk_folder
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading
from systems.pixel_llm.data.readers.text import read_pairs, repeated_folder
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER"]

TITLE = "kohya folders"

_FOLDERS_TOLD = 3


def find(listing: FolderListing) -> list[Path | None]:
    """Folders N_name with pairs in them."""
    return (
        [None]
        if any(below.paired for below, _ in _repeated_folders(walk_folder(listing, at_a_glance=True), listing.folder))
        else []
    )


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read the pairs in all folders N_name, at whatever depth.

    Raises:
        DatasetError: there is none, a picture has two caption files, or one cannot be read or leaves the folder.
    """
    repeated = list(_repeated_folders(walk_folder(list_folder(dataset_dir)), dataset_dir))
    found = read_pairs(dataset_dir, [listing for listing, _ in repeated], options)
    if not found.captions_by_path:
        raise DatasetError(
            f"No captioned pictures in folders of the form N_name in {shown(dataset_dir)}: expected a folder such as "
            "10_cat with cat.jpg and cat.txt in it."
        )
    repeats = {name: int(name.partition("_")[0]) for name in dict.fromkeys(name for _, name in repeated)}
    repeats_of_folder = {str(listing.folder): repeats[name] for listing, name in repeated}
    told = [shown(name) for name in repeats]
    if len(told) > _FOLDERS_TOLD:
        told = [*told[:_FOLDERS_TOLD], f"...: {len(told)} in all, N {min(repeats.values())} to {max(repeats.values())}"]
    samples = found.samples
    return Reading(
        caption_format="kohya",
        dataset_dir=dataset_dir,
        manifest=None,
        samples=samples,
        passed_over=found.passed_over,
        told=f"{TITLE}, {', '.join(told)}; N is {'used' if options.use_repeats else 'not used'} as a weight",
        repeats=np.fromiter((repeats_of_folder[os.path.dirname(name)] for name in samples.names), np.int64),  # noqa: PTH120
    )


def _repeated_folders(listings: Iterable[FolderListing], dataset_dir: Path) -> Iterator[tuple[FolderListing, str]]:
    """Each folder that is, or is inside, one of the form N_name, with the name of that one."""
    for listing in listings:
        if (name := repeated_folder(listing.folder, dataset_dir)) is not None:
            yield listing, name


READER = Reader(
    name="kohya",
    title=TITLE,
    find=find,
    read=read,
    looked_for="the same in folders of the form N_name",
    has_manifest=False,
    options=frozenset({"captions_per_file"}),
)
