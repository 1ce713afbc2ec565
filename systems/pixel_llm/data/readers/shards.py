"""Shards, files that hold many pictures each: which files of a folder, what is in one, and all of them as one reading.

A `Shard` is one of them, read: pictures that are stretches of a file, with their captions. Names inside it are labels,
cleaned by `clean_name`; none of them is ever opened. Files whose names say so (`train-000.tar`, `val-000.tar`, as both
formats go round) are the parts of a split.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from systems.pixel_llm.data.folder import FolderListing, shown
from systems.pixel_llm.data.picture_path import MAX_PACKED_BYTES, PackedPicture
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.data.readers.reader import Reading, told_as
from systems.pixel_llm.data.sample_table import SampleTable
from systems.pixel_llm.errors import DatasetError

__all__ = [
    "EMPTY_CAPTION",
    "NO_CAPTION",
    "NO_FILE",
    "TOO_LARGE",
    "Shard",
    "clean_name",
    "find_shards",
    "reading_of_shards",
]

NO_CAPTION = "no caption in the same file"
EMPTY_CAPTION = "an empty caption in the same file"
NO_FILE = "a link or a device in the place of a file"
TOO_LARGE = f"more than {MAX_PACKED_BYTES >> 20} MiB"
"""Reasons for passing over what lies in a shard."""

MAX_NAME_CHARACTERS = 4096
"""As long as the path of a file may be."""

_PART_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_PART = re.compile(rf"(?<![a-z])({'|'.join(_PART_OF_WORD)})(?![a-z])")


@dataclass(kw_only=True)
class Shard:
    """What is in one file."""

    path: Path
    """The file that a person knows: pictures may lie unpacked elsewhere."""
    pictures: list[PackedPicture] = field(default_factory=list)
    captions: list[tuple[str, ...]] = field(default_factory=list)
    """Of each picture, at least one."""
    passed_over: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Reason -> names inside."""

    def label(self, name: str) -> str:
        """What something inside is called: the path of the file, and its own name."""
        return os.path.join(self.path, name)  # noqa: PTH118  a Path for each is slow


def find_shards(listing: FolderListing, names_in: Callable[[FolderListing], Sequence[str]]) -> list[Path]:
    """The files that `names_in` finds in the folder and in those directly below it, by name.

    Raises:
        DatasetError: one is a symbolic link that leads out of the folder.
    """
    places = PicturePlaces(roots=[listing.folder])
    found = []
    for each in (listing, *listing.children):
        for name in names_in(each):
            if name in each.links:
                places.check_link(str(each.folder / name))
            found.append(each.folder / name)
    return sorted(found)


def clean_name(name: str) -> str | None:
    """A name inside a shard without "." and empty parts; None where it is absolute, leads upwards or can be no name.

    Nothing is opened by it, but it stands in messages and lists beside the names of files, and must not pass for one
    of another place.
    """
    parts = [part for part in name.split("/") if part not in ("", os.curdir)]
    is_bad = name.startswith("/") or os.pardir in parts or "\0" in name or len(name) > MAX_NAME_CHARACTERS
    return None if is_bad or not parts else "/".join(parts)


def reading_of_shards(
    shards: Sequence[Shard],
    *,
    caption_format: str,
    title: str,
    dataset_dir: Path,
    manifest: Path | None,
    expected: str,
    passed_over: dict[str, Sequence[str]] | None = None,
) -> Reading:
    """The samples of all shards, by name. `expected` says what a shard must hold; `passed_over` is what was before.

    Raises:
        DatasetError: none of them has a picture with a caption.
    """
    skipped: dict[str, list[str]] = defaultdict(list)
    for shard in shards:
        for reason, names in shard.passed_over.items():
            skipped[reason] += map(shard.label, names)
    for reason, others in (passed_over or {}).items():
        skipped[reason] += others
    pictures = [picture for shard in shards for picture in shard.pictures]
    if not pictures:
        found = "; ".join(f"{len(names)} with {reason}" for reason, names in skipped.items() if names)
        where = shown(shards[0].path) if len(shards) == 1 else f"the {len(shards)} files of {shown(dataset_dir)}"
        raise DatasetError(f"No captioned pictures in {where}: expected {expected}; found {found or 'nothing'}.")
    captions = [each for shard in shards for each in shard.captions]
    part_of_each = [part for shard in shards for part in [_part_of(shard.path, dataset_dir)] * len(shard.pictures)]
    order = sorted(range(len(pictures)), key=lambda row: pictures[row].path)
    samples = SampleTable.of_columns([pictures[row] for row in order], [captions[row] for row in order])
    split = {} if manifest is not None else _divided(samples, [part_of_each[row] for row in order])
    told = told_as(title, dataset_dir, manifest)
    if manifest is None:
        told += f", {len(shards):,} file{'s' * (len(shards) > 1)}"
    if split:
        told += f", divided by their names: {', '.join(f'{len(part):,} {name}' for name, part in split.items())}"
    return Reading(
        caption_format=caption_format,
        dataset_dir=dataset_dir,
        manifest=manifest,
        samples=samples,
        passed_over={reason: sorted(names) for reason, names in skipped.items()},
        told=told,
        split=split,
    )


def _divided(samples: SampleTable, part_of_each: Sequence[str]) -> dict[str, SampleTable]:
    """The parts of the samples; none where there is nothing to train on, or nothing else."""
    rows = {part: [row for row, of in enumerate(part_of_each) if of == part] for part in ("train", "dev", "test")}
    there = {part: chosen for part, chosen in rows.items() if chosen}
    if "train" not in there or len(there) == 1:
        return {}
    return {part: samples.select(chosen) for part, chosen in there.items()}


def _part_of(shard: Path, dataset_dir: Path) -> str:
    """The part of the split that a file's name tells, else that of its folder, else "train"."""
    for name in (shard.name, *([] if shard.parent == dataset_dir else [shard.parent.name])):
        parts = {_PART_OF_WORD[word] for word in _PART.findall(name.lower())}
        if len(parts) == 1:
            return parts.pop()
    return "train"
