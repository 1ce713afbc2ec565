"""`text`: beside each picture a .txt or .caption file of the same name, in the folder and in those below it.

Pairs that lie in folders named N_name and nowhere else are the `kohya` format; asked for, `text` reads them too.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from systems.pixel_llm.data.folder import FolderListing, hint_from, list_folder, shown, stem_of, walk_folder
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.data.readers.captions import MAX_TEXT_BYTES, clean_caption, read_text
from systems.pixel_llm.data.readers.reader import LONE_CAPTION, Reader, ReaderOptions, Reading
from systems.pixel_llm.data.sample_table import SampleTable
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER", "PairedFolders", "read_pairs", "repeated_folder"]

TITLE = "text files beside the pictures"

_REPEATED = re.compile(r"([0-9]{1,9})_.+", re.DOTALL)


@dataclass
class PairedFolders:
    """What was found in folders of pictures with caption files; names are relative to the folder that was given."""

    captions_by_path: dict[str, tuple[str, ...]] = field(default_factory=dict)
    without_file: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    lone_texts: list[str] = field(default_factory=list)
    linked_folders: list[str] = field(default_factory=list)

    @property
    def samples(self) -> SampleTable:
        """Sorted by path."""
        paths = sorted(self.captions_by_path)
        return SampleTable.of_columns(paths, [self.captions_by_path[path] for path in paths])

    @property
    def passed_over(self) -> dict[str, Sequence[str]]:
        """As in `Reading`."""
        return {
            "no .txt or .caption file beside them": self.without_file,
            "an empty caption": self.empty,
            LONE_CAPTION: self.lone_texts,
            "links to folders, which are not followed": self.linked_folders,
        }


def find(listing: FolderListing) -> list[Path | None]:
    """Pictures with caption files of the same name, in the folder or below, and not in folders N_name alone."""
    top = listing.folder
    is_there = any(
        below.paired and repeated_folder(below.folder, top) is None for below in walk_folder(listing, at_a_glance=True)
    )
    return [None] if is_there else []


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read all pairs.

    Raises:
        DatasetError: there is none, a picture has two caption files, or one cannot be read or leaves the folder.
    """
    found = read_pairs(dataset_dir, walk_folder(list_folder(dataset_dir)), options)
    if not found.captions_by_path:
        raise DatasetError(
            f"No captioned pictures in {shown(dataset_dir)}: expected pictures with a .txt file of the same name "
            f"beside them (cat.jpg and cat.txt) that holds the caption. {_hint_without_pairs(dataset_dir, found.empty)}"
        )
    return Reading(
        caption_format="text",
        dataset_dir=dataset_dir,
        manifest=None,
        samples=found.samples,
        passed_over=found.passed_over,
        told=TITLE,
    )


def read_pairs(dataset_dir: Path, listings: Iterable[FolderListing], options: ReaderOptions) -> PairedFolders:
    """The pairs in folders of `dataset_dir`.

    Raises:
        DatasetError: a picture has two caption files, or one cannot be read or leaves the folder.
    """
    found = PairedFolders()
    places = PicturePlaces(roots=[dataset_dir])
    for listing in listings:
        folder = listing.folder
        below = "" if folder == dataset_dir else folder.relative_to(dataset_dir).as_posix() + "/"
        found.lone_texts += [below + name for name in listing.lone_texts]
        found.linked_folders += [below + name for name in listing.subfolders if name in listing.links]
        for name in listing.pictures:
            text_names = listing.texts.get(stem_of(name))
            if text_names is None:
                found.without_file.append(below + name)
                continue
            if len(text_names) > 1:
                raise DatasetError(
                    f"{shown(folder / name)} has more than one caption file: {', '.join(map(shown, text_names))}. "
                    "Keep one of them."
                )
            for file_name in (name, text_names[0]):
                if file_name in listing.links:
                    places.check_link(str(folder / file_name))
            if captions := _captions_in(folder / text_names[0], options):
                found.captions_by_path[os.path.join(folder, name)] = captions  # noqa: PTH118  a Path for each is slow
            else:
                found.empty.append(below + name)
    return found


def repeated_folder(folder: Path, dataset_dir: Path) -> str | None:
    """The name of the form N_name that `folder` has, or the folder around it that is the first to have one."""
    return next((name for name in folder.relative_to(dataset_dir).parts if _REPEATED.fullmatch(name)), None)


def _captions_in(path: Path, options: ReaderOptions) -> tuple[str, ...]:
    text = read_text(path, max_bytes=MAX_TEXT_BYTES, what="caption file")
    parts = text.splitlines() if options.captions_per_file == "lines" else [text]
    where = f"in {shown(path)}"
    return tuple(caption for part in parts if (caption := clean_caption(part, where=where)))


def _hint_without_pairs(dataset_dir: Path, empty: Sequence[str]) -> str:
    if empty:
        return f"All {len(empty)} caption files are empty. Write a caption into them."
    return hint_from(list_folder(dataset_dir))


READER = Reader(
    name="text",
    title=TITLE,
    find=find,
    read=read,
    looked_for="pictures with a .txt or .caption file of the same name beside them (cat.jpg and cat.txt)",
    has_manifest=False,
    options=frozenset({"captions_per_file"}),
)
