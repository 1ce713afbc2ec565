"""`flickr8k`: a token file, `cat.jpg#0<TAB>a cat` a line, and beside it the lists that divide the pictures.

The lists have a name a line and are called `*trainImages.txt`, `*devImages.txt` and `*testImages.txt`. They say which
pictures to train on, to choose by and to leave for the end; all of them are read.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from systems.pixel_llm.data.folder import FolderListing, list_folder, shown
from systems.pixel_llm.data.places import PicturePlaces
from systems.pixel_llm.data.readers.captions import MAX_MANIFEST_BYTES, clean_caption, read_text
from systems.pixel_llm.data.readers.named_pictures import read_named_pictures
from systems.pixel_llm.data.readers.reader import Reader, ReaderOptions, Reading, first_names
from systems.pixel_llm.data.readers.sniffing import file_head
from systems.pixel_llm.data.sample_table import SampleTable
from systems.pixel_llm.errors import DatasetError

__all__ = ["READER"]

TITLE = "Flickr8k tokens"

PARTS = ("train", "dev", "test")

_LINE = re.compile(r"([^\t]*[^\t#])#([0-9]+)\t(.*)", re.DOTALL)
_MAX_GLANCES = 100


def find(listing: FolderListing) -> list[Path | None]:
    """Texts in the folder, and in those directly below it, whose first line has the form; lemmas only if alone."""
    found = []
    for each in listing.near:
        names = [name for name in each.lone_texts if name.lower().endswith(".txt")]
        found += [path for name in names[:_MAX_GLANCES] if fits(path := each.folder / name)]
    words = [path for path in found if "lemma" not in path.name.lower()]
    return list(words or found)


def fits(path: Path) -> bool:
    """Whether the first line of a text has the form."""
    lines = _lines(file_head(path).lstrip())
    return path.suffix.lower() == ".txt" and _LINE.fullmatch(lines[0]) is not None


def read(dataset_dir: Path, manifest: Path | None, options: ReaderOptions) -> Reading:
    """Read a token file, and the lists beside it.

    Raises:
        DatasetError: a line has another form, the same caption number comes twice, no picture is there, or a list has
            none of them.
    """
    assert manifest is not None, "a format with a manifest is read with one"
    text = read_text(manifest, max_bytes=MAX_MANIFEST_BYTES, what="token file")
    captions_by_name: dict[str, list[str]] = {}
    line_by_key: dict[tuple[str, str], int] = {}
    for number, line in enumerate(_lines(text), start=1):
        if not line or line.isspace():
            continue
        fields = _LINE.fullmatch(line)
        if fields is None:
            raise DatasetError(
                f"{shown(manifest)}, line {number}, must be a picture's name, #, a number, a tab and a caption, as in "
                f"cat.jpg#0<TAB>a cat; found {line[:80]!r}. Correct it there."
            )
        name, key, caption = fields.groups()
        if (before := line_by_key.setdefault((name, key), number)) != number:
            raise DatasetError(
                f"{shown(manifest)}, line {number}, has {first_names([f'{name}#{key}'])} again, after line {before}. "
                "Number it anew."
            )
        captions = captions_by_name.setdefault(name, [])
        if caption := clean_caption(caption, where=f"in {shown(manifest)}, line {number}"):
            captions.append(caption)
    if not captions_by_name:
        raise DatasetError(f"{shown(manifest)} is empty. It must hold a caption a line, as in cat.jpg#0<TAB>a cat.")
    reading = read_named_pictures(
        captions_by_name, caption_format="flickr8k", title=TITLE, dataset_dir=dataset_dir, manifest=manifest
    )
    return _divided(reading, manifest.parent)


def _divided(reading: Reading, folder: Path) -> Reading:
    """The reading with its parts, if lists lie in the folder."""
    lists = _find_lists(folder)
    if not lists:
        return reading
    names_of = {part: _names_in(path) for part, path in lists.items()}
    found = [os.path.basename(name) for name in reading.samples.names]  # noqa: PTH119  a Path for each is slow

    def those(is_wanted: Callable[[str], bool]) -> SampleTable:
        return reading.samples.select(row for row, name in enumerate(found) if is_wanted(name))

    split = {part: those(names.__contains__) for part, names in names_of.items()}
    for part, samples in split.items():
        if not samples:
            raise DatasetError(
                f"None of the {len(names_of[part])} pictures in {shown(lists[part])} is there with a caption. Correct "
                "the list, or take it away."
            )
    twice = _in_two(names_of)
    if twice:
        names = ", ".join(shown(path) for path in lists.values())
        raise DatasetError(
            f"{len(twice)} pictures are in more than one of the lists {names} ({first_names(twice)}). A score on them "
            "would mean nothing: take them out of one."
        )
    if "train" not in split:
        others = set().union(*names_of.values())
        split["train"] = those(lambda name: name not in others)
    known = set(found)
    absent = sorted(name for names in names_of.values() for name in names - known)
    counts = ", ".join(f"{len(split[part]):,} {part}" for part in PARTS if part in split)
    return replace(
        reading,
        split=split,
        told=f"{reading.told}, divided by the lists beside it: {counts}",
        passed_over={**reading.passed_over, "a place in a list of the split, but no caption": absent},
    )


def _find_lists(folder: Path) -> dict[str, Path]:
    """Part -> its list. Raises DatasetError where a part has two, or one is a link that leads out."""
    found: dict[str, Path] = {}
    places = PicturePlaces(roots=[folder])
    for names in list_folder(folder).texts.values():
        for name in names:
            part = next((part for part in PARTS if name.lower().endswith(f"{part}images.txt")), None)
            if part is None:
                continue
            if part in found:
                raise DatasetError(f"There are two lists, {shown(found[part])} and {shown(name)}. Keep one of them.")
            places.check_link(str(folder / name))
            found[part] = folder / name
    return {part: found[part] for part in PARTS if part in found}


def _names_in(path: Path) -> set[str]:
    lines = _lines(read_text(path, max_bytes=MAX_MANIFEST_BYTES, what="list of pictures"))
    return {name for line in lines if (name := line.strip())}


def _lines(text: str) -> list[str]:
    """By the three ends that systems give a line, and not by the others that Python knows."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _in_two(names_of: dict[str, set[str]]) -> Sequence[str]:
    seen: set[str] = set()
    twice: set[str] = set()
    for names in names_of.values():
        twice |= seen & names
        seen |= names
    return sorted(twice)


READER = Reader(
    name="flickr8k",
    title=TITLE,
    find=find,
    read=read,
    fits=fits,
    looked_for="a Flickr8k token file",
)
